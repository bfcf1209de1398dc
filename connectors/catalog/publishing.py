"""Publishing: rows merged into one partition by one conditional put.

On a conflict the object is read and merged again, so any number of runs may publish the same partition; what
the merge does not change is not written. A row that a scan no longer finds is removed only when the service
confirms that the image set is gone.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import tenacity

from connectors.catalog import parquet
from connectors.catalog.conflicts import until_it_wins
from connectors.catalog.layout import Partition
from connectors.catalog.merge import merge
from connectors.catalog.store import Store
from connectors.errors import StateError
from connectors.rows import lies_in
from connectors.windows import Coverage
from schemas import SCHEMA

ConfirmGone = Callable[[Collection[str]], Collection[str]]
"""Of image set ids, those that the service confirms deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a run has found out about one partition.

    Attributes:
        rows: Image sets to merge, all created in the partition; in the columns of SCHEMA.
        scanned: Ranges of createdAt in the partition whose every image set is among the rows.
    """

    partition: Partition
    rows: pa.Table = field(repr=False)
    scanned: Coverage


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing a batch came to; counts only."""

    new: int
    updated: int
    unchanged: int
    removed: int
    bytes_written: int


def publish(
    store: Store,
    batch: Batch,
    confirm_gone: ConfirmGone,
    *,
    backoff: Callable[[tenacity.RetryCallState], float] | None = None,
) -> Published:
    """Merge a batch into its partition; when this returns, readers see the result.

    Args:
        store: Where the catalog lies.
        batch: The rows and what they prove.
        confirm_gone: Asks the service about image sets that the scan should have found.
        backoff: Seconds to wait after so many conflicts; a test hands in none.

    Raises:
        StateError: The partition's object is damaged; it is left as it was.
        StoreError: It cannot be read or written, or other runs win all the time.
    """
    return until_it_wins(_publish_once, store, batch, confirm_gone, backoff=backoff)


def _publish_once(store: Store, batch: Batch, confirm_gone: ConfirmGone) -> Published:
    key = batch.partition.key
    stored = store.get(key)
    existing = _read(key, stored.body) if stored else SCHEMA.empty_table()
    missing = _missing(existing, batch)
    merged = merge(existing, batch.rows, confirm_gone(missing) if missing else ())
    written = 0
    if merged.is_change:
        body = parquet.encode(merged.rows)
        store.put(key, body, expected=stored.etag if stored else None)
        written = len(body)
    return Published(
        new=merged.new,
        updated=merged.updated,
        unchanged=merged.unchanged,
        removed=merged.removed,
        bytes_written=written,
    )


def _read(key: str, body: bytes) -> pa.Table:
    try:
        return parquet.decode(body)
    except StateError as error:
        raise StateError(f"{key}: {error}; delete that object and backfill its range") from None


def _missing(existing: pa.Table, batch: Batch) -> list[str]:
    """Ids of rows that lie where the scan looked, and that it did not find."""
    if not batch.scanned or len(existing) == 0:
        return []
    looked = lies_in(existing["created_at"], batch.scanned)
    found = pc.is_in(existing["image_set_id"], batch.rows["image_set_id"])
    missing: list[str] = existing.filter(pc.and_(looked, pc.invert(found)))["image_set_id"].to_pylist()
    return missing
