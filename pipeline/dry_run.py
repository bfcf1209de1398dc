"""What a run would read, from the catalog as it lies and the service's clock. Writes nothing."""

from dataclasses import replace
from datetime import datetime

from ahi_catalog.connectors.catalog import Checkpoint, layout, open_catalog, open_store
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import Source
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import SECOND, Coverage, Window, floor_second
from ahi_catalog.pipeline.planning import check_start, plan_backfill, plan_sync, upper_bound
from ahi_catalog.pipeline.run import bounds

Planned = list[tuple[Field, Window]]
"""Windows, and the time that bounds each."""


def plan_run(
    settings: Settings,
    source: Source,
    now: datetime,
    span: tuple[datetime, datetime] | None,
    counts: RequestCounts,
) -> Planned:
    """The windows of a sync, or of a backfill.

    Args:
        settings: As the run would have them.
        source: The data store; asked for its clock, and for its start where none is given.
        now: The local clock, aware.
        span: Start and end of a backfill; None: a sync.
        counts: Counts the requests, one or two.

    Raises:
        UsageError: The backfill's range is empty or too young, or coverage was to begin in the future or elsewhere.
    """
    check_start(settings.start, now)
    if span is not None:
        upper = upper_bound(now, source.clock(counts), settings.settle)
        return [(Field.CREATED_AT, window) for window in plan_backfill(*span, upper)]
    known = _checkpoint(settings)
    if known:
        known = known.beginning(settings.start and floor_second(settings.start))
        settings = replace(settings, start=known.start)
    start, upper = bounds(settings, source, counts, now)
    until = floor_second(now) + SECOND
    coverage = known.coverage if known else Coverage()
    planned = [(Field.CREATED_AT, window) for window in plan_sync(coverage, start, until, settings.look_back)]
    if known and (known.coverage or known.followed_to < upper):
        planned.append((Field.UPDATED_AT, Window(floor_second(known.followed_to - settings.look_back), until)))
    return planned


def _checkpoint(settings: Settings) -> Checkpoint | None:
    store = open_store(settings.catalog, settings.s3)
    if store.get(layout.DESCRIPTION_KEY) is None:
        return None
    return open_catalog(store).checkpoint(settings.datastore_id)
