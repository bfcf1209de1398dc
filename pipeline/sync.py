"""A sync: what is new since the last one, then the changes."""

import logging
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache

import pyarrow as pa

from ahi_catalog.connectors.errors import InvalidRequestError
from ahi_catalog.connectors.healthimaging.changes import read_changes
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import Coverage, Window, floor_second
from ahi_catalog.pipeline import engine
from ahi_catalog.pipeline.inbox import Inbox
from ahi_catalog.pipeline.planning import check_start, plan_sync
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.pipeline.run import Clock, Run, now, open_run
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor
from ahi_catalog.pipeline.sink import Publisher
from ahi_catalog.schemas import unparsable

_log = logging.getLogger(__name__)


@redact_errors
def sync(
    settings: Settings,
    executor: ScanExecutor,
    stop: threading.Event,
    *,
    clock: Clock = now,
    connection: Connection | None = None,
    load_key: LoadKey = load_phi_key,
    inbox: Inbox | None = None,
) -> RunReport:
    """Read what is new since the last sync, then follow changes, then remove what events tell is deleted.

    Args:
        settings: What to read and where to write.
        executor: Where scans run.
        stop: Set it to end the run early, with what is proven published.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.
        load_key: Loads the key of pseudonyms.
        inbox: Events, shared with runs on other data stores; None: those of the settings' queue, if there is one.

    Raises:
        AhiCatalogError: The run failed; what was proven by then is published and covered.
    """
    check_start(settings.start, clock())
    setup = open_run(settings, executor, stop, clock=clock, connection=connection, load_key=load_key)
    ask_bounds = cache(setup.bounds)
    catalog, protect = setup.open_or_create_catalog(before_creating=ask_bounds)
    known = catalog.checkpoint(settings.datastore_id)
    start = settings.start or (known and known.datastore_created_at)
    if known and start:
        # Nothing need be asked first: each scan brings the service's clock, and nothing younger is covered.
        start, upper = floor_second(start), floor_second(clock() - settings.settle)
    else:
        start, upper = ask_bounds()
    inbox = inbox or Inbox(settings.queue)
    inbox.drain(stop)
    with setup.running("sync", catalog, protect) as run:
        inbox.expect(run)
        checkpoint = run.checkpointer.open(upper, datastore_created_at=None if settings.start else start)
        windows = plan_sync(checkpoint.coverage, start, upper, settings.look_back)
        reading = engine.read(run, Field.CREATED_AT, windows, Publisher(run))
        if not stop.is_set():
            _follow_changes(run, checkpoint.followed_to, upper, is_sorted=reading.is_sorted)
            inbox.act(run)
    return run.report


def _follow_changes(run: Run, followed_to: datetime, upper: datetime, *, is_sorted: bool) -> None:
    """Merge image sets changed since the last run into the partitions of their createdAt."""
    since = floor_second(followed_to - run.settings.look_back)
    known = run.catalog.checkpoint(run.datastore_id)
    covered = known.coverage if known else Coverage()
    publisher = Publisher(run)
    if is_sorted:
        if followed_to >= upper:
            return
        try:
            reading = engine.read(run, Field.UPDATED_AT, Coverage([Window(since, upper)]), publisher, keep=covered)
        except InvalidRequestError:
            # The older API reference has no updatedAt filter.
            _log.info("the service refuses an updatedAt filter; following changes newest first")
        else:
            # A run that was asked to stop has followed the first contiguous stretch.
            done = reading.proven
            if reading.is_sorted and done.watermark and done.windows[0].start == since:
                run.checkpointer.follow(done.watermark, publisher.populated, covered)
            if reading.is_sorted or run.stop.is_set():
                return
    # What is not sorted moves to the front when it is updated, and was passed over where that happened meanwhile.
    run.checkpointer.note_clock(run.source.clock(run.report.counts))
    changes = read_changes(run.source.page, since, run.report.counts)
    engine.write_rows(run, _protected(run, changes), publisher, covered)
    run.checkpointer.follow(upper, publisher.populated, covered)


def _protected(run: Run, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Rows that come past the scans, counted, and then under the catalog's PHI policy too."""
    for table in tables:
        run.report.count_rows(len(table), unparsable(table))
        yield run.protect(table)
