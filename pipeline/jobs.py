"""What a sync and a backfill do, from settings to report, without Prefect."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import pyarrow as pa

from ahi_catalog.connectors.catalog import (
    Catalog,
    Checkpoint,
    Store,
    Unit,
    layout,
    open_catalog,
    open_or_create,
    open_store,
)
from ahi_catalog.connectors.catalog.description import refuse_other
from ahi_catalog.connectors.errors import AhiCatalogError, InvalidRequestError, StoppedError
from ahi_catalog.connectors.healthimaging.changes import walk_changes
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.scan import Scan, Scanner
from ahi_catalog.connectors.healthimaging.source import Connection, Source, Tally, open_source
from ahi_catalog.connectors.redaction import sealed
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import Coverage, Window, floor_second
from ahi_catalog.pipeline import engine
from ahi_catalog.pipeline.handing_back import HandingBack
from ahi_catalog.pipeline.observers import Observers, current_observers
from ahi_catalog.pipeline.planning import check_start, plan_backfill, plan_sync, upper_bound
from ahi_catalog.pipeline.privacy import asked_policy, key_of, protection_of
from ahi_catalog.pipeline.run import Run
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.pipeline.runners import Runner, ScanWindow
from ahi_catalog.pipeline.sink import Publisher
from ahi_catalog.schemas import Protect, unparsable

_log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def now() -> datetime:
    """The local clock."""
    return datetime.now(UTC)


@sealed
def sync(
    settings: Settings,
    runner: Runner,
    stop: threading.Event,
    *,
    clock: Clock = now,
    connection: Connection | None = None,
) -> RunReport:
    """Read what is new since the last sync, then follow changes.

    Args:
        settings: What to read and where to write.
        runner: Where scans run.
        stop: Set it to end the run early, with what is proven published.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.

    Raises:
        AhiCatalogError: The run failed; what was proven by then is published and covered.
    """
    check_start(settings.start, clock())
    ends = open_ends(settings, runner, stop, clock, connection)
    ask = cache(lambda: bounds(settings, ends.source, ends.tally, clock()))
    catalog, protect = ends.open_catalog(is_creating=True, before_creating=ask)
    known = catalog.checkpoint(settings.datastore_id)
    start = settings.start or (known and known.datastore_created_at)
    if known and start:
        # Nothing need be asked first: each scan brings the service's clock, and nothing younger is covered.
        start, upper = floor_second(start), floor_second(clock() - settings.settle)
    else:
        start, upper = ask()
    with ends.running("sync", catalog, protect) as run:
        checkpoint = _open_checkpoint(run, upper, created_at=None if settings.start else start)
        windows = plan_sync(checkpoint.coverage, start, upper, settings.look_back)
        engine.read(run, Field.CREATED_AT, windows, Publisher(run))
        if not stop.is_set():
            _follow_changes(run, settings, checkpoint.followed_to, upper)
    return run.report


@sealed
def backfill(
    settings: Settings,
    start: datetime,
    end: datetime,
    runner: Runner,
    stop: threading.Event,
    *,
    clock: Clock = now,
    connection: Connection | None = None,
) -> RunReport:
    """Read a range of createdAt again, or for the first time, whatever the coverage.

    Args:
        settings: What to read and where to write.
        start: Aware; the range's start.
        end: Aware; the range's end, not included.
        runner: Where scans run.
        stop: Set it to end the run early, with what is proven published.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.

    Raises:
        AhiCatalogError: The run failed; what was proven by then is published and covered.
    """
    ends = open_ends(settings, runner, stop, clock, connection)
    upper = upper_bound(clock(), ends.source.clock(ends.tally), settings.settle)
    windows = plan_backfill(start, end, upper)
    with ends.running("backfill", *ends.open_catalog(is_creating=True)) as run:
        _open_checkpoint(run, upper)
        engine.read(run, Field.CREATED_AT, windows, Publisher(run))
    return run.report


def _open_checkpoint(run: Run, upper: datetime, *, created_at: datetime | None = None) -> Checkpoint:
    """The checkpoint, made by the first run; with the data store's creation, if that is known.

    Its followed_to is this run's upper bound: every row is read after that moment, so it shows all changes
    before it, and a run that resumes days later follows those since.
    """
    fresh = Checkpoint(datastore_id=run.datastore_id, coverage=Coverage(), followed_to=upper)
    checkpoint = run.catalog.update_checkpoint(run.datastore_id, lambda found: (found or fresh).created(created_at))
    run.report.watermark_before = run.report.watermark_after = checkpoint.coverage.watermark
    run.report.followed_to = checkpoint.followed_to
    return checkpoint


def _follow_changes(run: Run, settings: Settings, followed_to: datetime, upper: datetime) -> None:
    """Merge image sets changed since the last run into the partitions of their createdAt."""
    if followed_to >= upper:
        return
    since = floor_second(followed_to - settings.look_back)
    known = run.catalog.checkpoint(run.datastore_id)
    covered = known.coverage if known else Coverage()
    publisher = Publisher(run)
    try:
        published = engine.read(run, Field.UPDATED_AT, Coverage([Window(since, upper)]), publisher, keep=covered)
    except InvalidRequestError:
        # The older API reference has no updatedAt filter.
        _log.info("the service refuses an updatedAt filter; following changes newest first")
        run.served_at.append(run.source.clock(run.report.tally))
        changes = walk_changes(run.source.page, since, run.report.tally)
        engine.take_rows(run, _protected(run, changes), publisher, covered)
        run.follow(upper, publisher.populated)
    else:
        # A run that was asked to stop has followed the first contiguous stretch.
        if published.watermark and published.windows[0].start == since:
            run.follow(published.watermark, publisher.populated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Both ends of a run, open, and where its scans run; made by `open_ends`.

    Attributes:
        settings: Of the run.
        store: Where the catalog lies, or will.
        source: What to read from.
        tally: Of the run's requests, those before it has a report too.
        runner: Where scans run.
        stop: Set when the run is asked to stop.
        clock: The local clock, aware.
    """

    settings: Settings
    store: Store
    source: Source
    tally: Tally
    runner: Runner
    stop: threading.Event
    clock: Clock

    def open_catalog(
        self, *, is_creating: bool, before_creating: Callable[[], object] = lambda: None
    ) -> tuple[Catalog, Protect]:
        """The catalog, and what its PHI policy makes of rows.

        Args:
            is_creating: Whether to make it if there is none.
            before_creating: Called before it is made: the service has to answer, so that a wrong data store id
                leaves nothing behind.

        Raises:
            UsageError: There is none, or it was made in another way than the settings ask for.
        """
        settings = self.settings
        load_key = key_of(settings)
        asked = asked_policy(settings, load_key)
        if is_creating:
            unit = None if settings.partition is None else Unit(settings.partition)
            catalog = open_or_create(self.store, unit, asked, before_creating=before_creating)
        else:
            catalog = open_catalog(self.store)
            if asked is not None:
                refuse_other(asked, catalog.description.phi, self.store.url)
        return catalog, protection_of(catalog, load_key)

    @contextmanager
    def running(self, flow: str, catalog: Catalog, protect: Protect) -> Iterator[Run]:
        """Everything that a run needs; at its end, whatever way, the report is complete and kept."""
        settings = self.settings
        report = RunReport(
            flow=flow,
            run_id=uuid.uuid4().hex[:8],
            datastore_id=settings.datastore_id,
            started_at=self.clock(),
            tally=self.tally,
        )
        handing_back = HandingBack()
        scans = scanner(self.source, settings, self.stop, handing_back.take)
        run = Run(
            catalog=catalog,
            datastore_id=settings.datastore_id,
            source=self.source,
            runner=self.runner,
            scan_window=ScanWindow(settings, catalog.description.phi, protected(scans, protect)),
            protect=protect,
            report=report,
            observer=Observers(current_observers()),
            is_stopping=self.stop.is_set,
            workers=settings.workers,
            buffer_rows=settings.buffer_rows,
            room=self._room,
            scans=None if settings.dask else scans,
            handing_back=handing_back,
            settle=settings.settle,
        )
        with _reporting(run):
            yield run

    def _room(self) -> int:
        if self.settings.dask:
            # The workers of a cluster hold the quota among them.
            return self.settings.workers
        # Data stores share their threads; where scans wait for one, more of them would only cost requests.
        return 0 if self.runner.is_full else self.source.room


def bounds(settings: Settings, source: Source, tally: Tally, now: datetime) -> tuple[datetime, datetime]:
    """Where coverage begins, and where a run ends that begins now."""
    if settings.start is not None:
        return floor_second(settings.start), upper_bound(now, source.clock(tally), settings.settle)
    start, service_clock = source.created_at(tally)
    return start, upper_bound(now, service_clock, settings.settle)


def open_ends(
    settings: Settings, runner: Runner, stop: threading.Event, clock: Clock, connection: Connection | None
) -> Ends:
    """Open both ends of a run; nothing is asked of either yet.

    Raises:
        AhiCatalogError: One cannot be opened.
    """
    return Ends(
        settings=settings,
        store=open_store(settings.catalog, settings.s3),
        source=open_source(settings, stop, connection),
        tally=Tally(),
        runner=runner,
        stop=stop,
        clock=clock,
    )


@contextmanager
def _reporting(run: Run) -> Iterator[None]:
    """How the block ended, in the run report; a stop is no error."""
    report = run.report
    began = time.monotonic()
    try:
        yield
        report.outcome = Outcome.STOPPED if run.is_stopping() else Outcome.DONE
    except StoppedError:
        report.outcome = Outcome.STOPPED
    except Exception:
        report.outcome = Outcome.FAILED
        raise
    finally:
        report.seconds = time.monotonic() - began
        for confirmation in run.confirmations:
            report.tally.add(confirmation)
        _keep_report(run.catalog, report)
        run.observer.finished(report)


def scanner(
    source: Source, settings: Settings, stop: threading.Event, is_wanted: Callable[[], bool] = lambda: False
) -> Scanner:
    """What scans the windows of a run, in whatever process that is.

    Args:
        source: What to read from.
        settings: Of the run.
        stop: Set when the run is asked to stop.
        is_wanted: Whether the scan that looks shall hand back its window; it counts as told.
    """
    return Scanner(
        source.page,
        settle=settings.settle,
        budget=settings.page_budget,
        # More scans side by side make a run faster only while the quota has room for them.
        is_wanted=lambda: source.room > 0 and is_wanted(),
        is_stopping=stop.is_set,
    )


def protected(scans: Scanner, protect: Protect) -> Callable[[Field, Window], Scan]:
    """A run's scan of a window: its rows are under the catalog's PHI policy, and nothing behind it sees others.

    Args:
        scans: Scans windows.
        protect: Puts rows under the policy.
    """

    @sealed
    def scan_window(by: Field, window: Window) -> Scan:
        found = scans.scan(by, window)
        return replace(found, rows=protect(found.rows))

    return scan_window


def _protected(run: Run, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Rows that came past the scanner, counted, and then under the catalog's PHI policy too."""
    for table in tables:
        run.report.count_rows(len(table), unparsable(table))
        yield run.protect(table)


def _keep_report(catalog: Catalog, report: RunReport) -> None:
    key = layout.run_key(report.datastore_id, report.started_at, report.run_id)
    try:
        catalog.write_run(key, report.document())
    except AhiCatalogError as error:
        # The run's own outcome matters more than its report.
        _log.warning("the run report could not be kept: %s", error)
