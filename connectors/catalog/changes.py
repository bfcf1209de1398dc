"""What changed in a catalog since a time, so that a copy elsewhere can follow it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.errors import Remedy, UsageError

# What was created since is new, whatever was done to it after that.
_SQL: Final = """SELECT change, changed_at, image_set_id, datastore_id, version, created_at
FROM changes
WHERE changed_at >= $since AND NOT (change = 'updated' AND created_at >= $since)
ORDER BY changed_at, image_set_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The changes since a time.

    Attributes:
        rows: One an image set, in order of time: change, changed_at, image_set_id, datastore_id, version, created_at.
        complete_to: No change before it is missing, aware UTC; what comes to be known later is of later times. Image
            sets that become searchable later than the settle time are the exception, and a backfill of what lies
            before all that was covered.
    """

    rows: pa.Table = field(repr=False)
    complete_to: datetime


def changes_since(catalog: Catalog, since: datetime) -> Changes:
    """What is new, updated or removed since a time, and how far that is complete.

    Args:
        catalog: The catalog.
        since: Aware.

    Raises:
        UsageError: Nothing is covered yet.
        StateError: A checkpoint is damaged.
        StoreError: The store refuses, or cannot be reached.
    """
    # Asked for first: what a run publishes meanwhile is told now and again.
    checkpoints = [found for each in catalog.datastore_ids() if (found := catalog.checkpoint(each))]
    # Behind the watermark a range may be covered later, with all that was created in it.
    ends = [end for each in checkpoints for end in (each.followed_to, each.watermark) if end is not None]
    if not ends or any(each.watermark is None for each in checkpoints):
        raise UsageError(f"nothing is covered yet in the catalog at {catalog.store.url}", remedy=Remedy.SYNC)
    return Changes(rows=run_query(catalog, _SQL, {"since": since}), complete_to=min(ends))
