"""A sync: what is new since the last one, then the changes."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache

import pyarrow as pa

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.errors import InvalidRequestError
from ahi_catalog.connectors.healthimaging.changes import read_changes
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import SECOND, Coverage, Window, floor_second
from ahi_catalog.pipeline import engine
from ahi_catalog.pipeline.deletions import is_young, remove_deleted
from ahi_catalog.pipeline.inbox import Inbox
from ahi_catalog.pipeline.notifying import notified
from ahi_catalog.pipeline.planning import check_start, plan_sync
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.pipeline.run import Clock, Run, RunSetup, now, open_run
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor
from ahi_catalog.pipeline.sink import Following, Publisher
from ahi_catalog.schemas import Protect, unknown_fields, unparsable

_log = logging.getLogger(__name__)

AskBounds = Callable[[], tuple[datetime, datetime]]
"""Asks the service where coverage begins and ends."""


@notified("sync")
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
    catalog, protect, ask_bounds = open_to_follow(setup)
    inbox = inbox or Inbox(settings.queue, {settings.datastore_id})
    mailbox = inbox.mailbox(settings.datastore_id)
    inbox.drain(stop)
    with setup.running("sync", catalog, protect) as run:
        told, publisher = mailbox.deleted(), Publisher(run)
        run.awaited.update(mailbox.awaited())
        until = floor_second(clock()) + SECOND
        bring_up_to_date(run, settings.look_back, until, publisher, ask_bounds)
        _, there = remove_deleted(run, {*told, *run.awaited}, publisher)
        if not stop.is_set():
            waiting = [name for name, found in there.items() if name in told or is_young(run, found)]
            mailbox.published(waiting, run.report)
    return run.report


def open_to_follow(setup: RunSetup) -> tuple[Catalog, Protect, AskBounds]:
    """The catalog, made if there is none, its protection, and what asks the service for bounds, once.

    A data store that the catalog does not know is asked for first, so that a wrong id leaves nothing behind; and a
    `start` that is not the one that its first sync fixed is refused before there is a run.
    """
    ask_bounds, asked = cache(setup.bounds), setup.settings.start
    catalog, protect = setup.open_or_create_catalog(before_creating=ask_bounds)
    known = catalog.checkpoint(setup.settings.datastore_id)
    if known is None:
        ask_bounds()
    else:
        known.beginning(asked and floor_second(asked))
    return catalog, protect, ask_bounds


def bring_up_to_date(
    run: Run,
    look_back: timedelta,
    until: datetime,
    sink: Following,
    ask_bounds: AskBounds,
) -> Coverage:
    """Read what is not covered yet, and the look-back behind it, up to now; then follow changes.

    What is younger than the settle time is published and not covered, so that it is read again.

    Args:
        run: The run.
        look_back: Read again behind the coverage, and behind the changes that are followed.
        until: Where reading ends, about now; aware UTC. What is covered ends before, by the earlier of two clocks.
        sink: What becomes of the rows.
        ask_bounds: Asks the service where coverage begins and ends, where the checkpoint does not tell.

    Returns:
        The ranges of createdAt whose changes may be published: what is covered, and what this has read.
    """
    known = run.catalog.checkpoint(run.datastore_id)
    asked = run.settings.start and floor_second(run.settings.start)
    start = asked or (known and known.begins_at)
    if known and start:
        # Nothing need be asked first: each scan brings the service's clock, and nothing younger is covered.
        upper = floor_second(run.clock() - run.settings.settle)
    else:
        start, upper = ask_bounds()
    created = None if asked or (known and known.start) else start
    checkpoint = run.checkpointer.open(upper, start=asked, datastore_created_at=created)
    sink.measure(since=checkpoint.followed_to - (look_back if checkpoint.coverage else timedelta()))
    windows = plan_sync(checkpoint.coverage, start, until, look_back)
    present, windows = run.find_partitions(checkpoint, windows)
    reading = engine.read(run, Field.CREATED_AT, windows, sink, present=present)
    known = run.catalog.checkpoint(run.datastore_id)
    kept = reading.proven.union(known.coverage if known else ())
    # A first sync has read every row after the moment from which changes are to be followed.
    has_changes = bool(checkpoint.coverage) or checkpoint.followed_to < upper or not reading.is_sorted
    if has_changes and not run.stop.is_set():
        since = floor_second(checkpoint.followed_to - look_back)
        follow_changes(run, Window(since, until), sink, kept, is_sorted=reading.is_sorted)
    return kept


def follow_changes(run: Run, window: Window, sink: Following, kept: Coverage, *, is_sorted: bool) -> None:
    """Merge image sets changed in a window of updatedAt into the partitions of their createdAt.

    Args:
        run: The run.
        window: Of updatedAt, up to now.
        sink: What becomes of the rows.
        kept: Ranges of createdAt whose rows are published: what is covered, and what this run has read.
        is_sorted: Whether the service answers oldest first.
    """
    # An object that is lost must not come to be again with its changed rows alone.
    keep = kept.minus(run.report.lost)
    if is_sorted:
        try:
            reading = engine.read(run, Field.UPDATED_AT, Coverage([window]), sink, keep=keep)
        except InvalidRequestError:
            # The older API reference has no updatedAt filter.
            _log.info("the service refuses an updatedAt filter; following changes newest first")
        else:
            # A run that was asked to stop has followed the first contiguous stretch.
            done = reading.proven
            if reading.is_sorted and done.watermark and done.windows[0].start == window.start:
                sink.follow(done.watermark, kept)
            if reading.is_sorted or run.stop.is_set():
                return
    # What is not sorted moves to the front when it is updated, and was passed over where that happened meanwhile.
    run.checkpointer.note_clock(run.source.clock(run.report.counts))
    changes = read_changes(run.source.page, window.start, run.report.counts)
    engine.write_rows(run, _protected(run, changes), sink, keep)
    sink.follow(window.end, kept)


def _protected(run: Run, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Rows that come past the scans, counted, and then under the catalog's PHI policy too."""
    for table in tables:
        unknown = unknown_fields(table)
        run.report.count_rows(len(table), unparsable(table), unknown)
        run.refuse_unknown_fields(unknown)
        yield run.protect(table)
