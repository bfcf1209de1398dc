"""A watch: a data store asked again and again for what is new and what has changed, until it is stopped.

Its passes are syncs of three lengths:

- once an hour, and at first, a sync with the whole look-back;
- every five minutes a sync with a look-back of two minutes: what has settled by then is covered, changes are followed;
- in between the last two minutes alone, by createdAt and by updatedAt. What these find is published and proves nothing:
  the syncs read it again. They touch neither checkpoint nor listing, and the store only where a row is new or differs
  from what the pass before has seen.

A failure that the next pass may mend is logged, counted, and followed by a longer wait; any other ends the watch.

In the background, where that is asked for, metadata of what passes published is read, and the catalog is mirrored.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import pyarrow as pa

from ahi_catalog.connectors.catalog import Batch, Catalog, Partition, Published
from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.connectors.catalog.heartbeat import BEAT_SECONDS, Heartbeat
from ahi_catalog.connectors.catalog.merge import merge, newest, without
from ahi_catalog.connectors.errors import AhiCatalogError, RefusedError, StoreError, TransientError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import Connection, ImageSet, connect
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import describe, redact_errors
from ahi_catalog.connectors.retrying import full_jitter
from ahi_catalog.connectors.rows import unlisted
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import NOWHERE, SECOND, Coverage, Window, floor_second
from ahi_catalog.pipeline import engine
from ahi_catalog.pipeline.background import BackgroundJob, MirrorJob
from ahi_catalog.pipeline.deletions import is_young, remove_deleted
from ahi_catalog.pipeline.inbox import Inbox
from ahi_catalog.pipeline.metadata import extend_catalog
from ahi_catalog.pipeline.metadata_job import MetadataJob
from ahi_catalog.pipeline.notifying import Teller, notified, tell_ended
from ahi_catalog.pipeline.observers import Progress, watched_by
from ahi_catalog.pipeline.planning import check_start
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.pipeline.run import Clock, Run, RunSetup, bounds, now, open_run
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor
from ahi_catalog.pipeline.sink import Publisher
from ahi_catalog.pipeline.sync import bring_up_to_date, follow_changes, open_to_follow

_log = logging.getLogger(__name__)

_RECENT: Final = timedelta(minutes=2)
"""What each pass reads again: image sets that became searchable late."""
_SETTLING: Final = timedelta(minutes=5)
"""How often what has settled is covered."""
_HOUR: Final = timedelta(hours=1)
"""How often the whole look-back is read, and a run report is kept."""
_TOLD_AFTER: Final = 3
"""Passes that fail in a row before a receiver of notices is told."""
_LONGEST_WAIT: Final = 300.0
"""Seconds between two passes that fail."""
_MAY_PASS: Final = (TransientError, StoreError)


class Wake(Protocol):
    """What a watch waits for between two passes, and what it is told of deletions."""

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or earlier where there may be something to read or the watch is stopped."""
        ...

    def deleted(self) -> Collection[str]:
        """Ids of the image sets that were told to be deleted, since `published` was called."""
        ...

    def awaited(self) -> Collection[str]:
        """Ids of the other image sets that were told of until then."""
        ...

    def published(self, waiting: Collection[str], report: RunReport) -> None:
        """Take note that all that was told before the last call of `deleted` is in the catalog.

        Args:
            waiting: Image sets told to be deleted that the service still has, and others that the search has not
                listed yet.
            report: Of the run.
        """
        ...


class Timer:
    """Wakes a watch when the time has passed, and tells it nothing.

    Args:
        stop: Ends a wait.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def wait(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def deleted(self) -> Collection[str]:
        return ()

    def awaited(self) -> Collection[str]:
        return ()

    def published(self, waiting: Collection[str], report: RunReport) -> None:
        pass


@notified("watch")
@redact_errors
def watch(
    settings: Settings,
    executor: ScanExecutor,
    stop: threading.Event,
    *,
    with_metadata: bool = False,
    mirror: MirrorJob | None = None,
    wake: Wake | None = None,
    inbox: Inbox | None = None,
    clock: Clock = now,
    connection: Connection | None = None,
    load_key: LoadKey = load_phi_key,
) -> RunReport:
    """Keep a catalog current until the watch is stopped; a run report is kept every hour.

    Args:
        settings: What to read and where to write, and how often.
        executor: Where scans run.
        stop: Set it to end the watch, with what is proven published.
        with_metadata: Whether to read the metadata of what it publishes, in the background.
        mirror: Shared with watches of other data stores; None: one of its own, where the settings have Iceberg tables.
        wake: Ends the wait for the next pass early, and tells of deletions; None: the inbox, or the settings' queue.
        inbox: Events, shared with watches of other data stores.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.
        load_key: Loads the key of pseudonyms.

    Returns:
        The last hour's report.

    Raises:
        AhiCatalogError: What no later pass could mend; what was proven by then is published.
    """
    check_start(settings.start, clock())
    connection = connection or connect(settings)
    setup = open_run(settings, executor, stop, clock=clock, connection=connection, load_key=load_key)
    catalog, protect, _ = open_to_follow(setup)
    own = ExitStack()
    mirror = mirror or own.enter_context(MirrorJob.of(settings, clock=clock))
    jobs: list[BackgroundJob] = [mirror] if mirror else []
    if with_metadata:
        extend_catalog(catalog, settings.metadata)
        then = mirror.request if mirror else None
        job = MetadataJob(settings, clock=clock, connection=connection, load_key=load_key, then=then)
        own.callback(job.end)
        jobs.append(job)
    inbox = inbox or Inbox(settings.queue, {settings.datastore_id})
    own.callback(inbox.close, settings.datastore_id)
    wake = wake or _listen(inbox, settings, stop)
    watching = _Watch(setup, catalog, wake, jobs)
    failure: str | None = None
    try:
        while True:
            hour = replace(setup, counts=RequestCounts())
            with watched_by(watching), hour.running("watch", catalog, protect, has_heartbeat=False) as run:
                watching.go_on(run, until=clock() + _HOUR)
            if stop.is_set():
                return run.report
    except Exception as error:
        failure = str(error) if isinstance(error, AhiCatalogError) else f"unexpected {describe(error)}"
        raise
    finally:
        own.close()
        watching.end(failure)


def _listen(inbox: Inbox, settings: Settings, stop: threading.Event) -> Wake:
    if settings.queue is None:
        return Timer(stop)
    mailbox = inbox.mailbox(settings.datastore_id)
    inbox.listen(stop)
    return mailbox


class _Watch:
    """A watch under way; an observer of its own runs, so that its heart beats during long passes too."""

    def __init__(self, setup: RunSetup, catalog: Catalog, wake: Wake, jobs: Collection[BackgroundJob]) -> None:
        self._wake = wake
        self._jobs = jobs
        self._changed: set[Partition] = set()
        """What the pass under way has published."""
        self._clock = setup.clock
        self._every = setup.settings.every
        self._run: Run | None = None
        self._whole_at: datetime | None = None
        self._settled_at: datetime | None = None
        self._read_to: datetime | None = None
        self._skew = timedelta()
        """How far the local clock is before the service's."""
        self._kept = NOWHERE
        self._seen: dict[Partition, pa.Table] = {}
        self._gone: dict[str, datetime] = {}
        self._failed_in_a_row = 0
        self._teller = Teller(setup.settings, "watch")
        seconds = self._every.total_seconds()
        self._backoff = full_jitter(first=seconds, longest=max(_LONGEST_WAIT, seconds))
        self._heart = _Heart(setup, catalog)

    def go_on(self, run: Run, *, until: datetime) -> None:
        """Make passes until a moment, or until the watch is stopped."""
        self._run = run
        for job in self._jobs:
            job.begin_hour()
        while not run.stop.is_set() and self._clock() < until:
            began = self._clock()
            pause = self._every
            run.report.passes += 1
            try:
                self._pass(run, began)
            except _MAY_PASS as error:
                if isinstance(error, RefusedError):
                    raise
                run.report.failed_passes += 1
                self._failed_in_a_row += 1
                pause = max(pause, timedelta(seconds=self._backoff(self._failed_in_a_row)))
                _log.warning("%s; the next pass follows in %d s", error.while_retrying, pause.total_seconds())
                self._heart.failure = error.while_retrying
                if self._failed_in_a_row >= _TOLD_AFTER:
                    self._teller.tell(Outcome.FAILED, run.report)
            else:
                if self._failed_in_a_row:
                    self._teller.tell(Outcome.DONE, run.report)
                    _log.warning("passes succeed again, after %d failed ones", self._failed_in_a_row)
                self._failed_in_a_row, self._heart.failure = 0, None
            self._heart.beat(run.report)
            if run.stop.is_set():
                return
            for job in self._jobs:
                job.follow(self._changed)
            self._changed.clear()
            self._wait(began, pause)

    def progressed(self, progress: Progress) -> None:
        """Beat where it is time to."""
        del progress
        if self._run is not None:
            self._heart.beat(self._run.report)

    def finished(self, report: RunReport) -> None:
        """Count an hour's passes."""
        self._heart.add(report)
        if self._run is not None and report.outcome is Outcome.DONE and not self._failed_in_a_row:
            tell_ended(self._run.settings, "watch", report)
        self._run = None

    def end(self, failure: str | None) -> None:
        """Say that the watch has ended, and why."""
        self._heart.end(failure)

    def _wait(self, began: datetime, pause: timedelta) -> None:
        """Until so long after the pass began, or until the watch is woken."""
        left = (began + pause - self._clock()).total_seconds()
        if left > 0:
            # A clock that was set back must not hold a watch up.
            self._wake.wait(min(left, pause.total_seconds()))

    def _pass(self, run: Run, began: datetime) -> None:
        told = self._wake.deleted()
        run.awaited.clear()
        run.awaited.update(self._wake.awaited())
        # The search may list an image set for a while after it is deleted.
        self._gone = {name: at for name, at in self._gone.items() if began - at < _HOUR}
        is_whole = self._is_due(self._whole_at, began, _HOUR)
        is_sync = is_whole or self._is_due(self._settled_at, began, _SETTLING) or not self._kept
        sink = _PassPublisher(run, self._gone, self._changed, seen=None if is_sync else self._seen)
        run_on = self._sync if is_sync else self._read_recent
        try:
            waiting = self._remove_deleted(run, told, began, sink)
            run_on(run, began, sink, run.settings.look_back if is_whole else _RECENT)
            young = self._remove_deleted(run, run.awaited, began, sink)
        except Exception:
            # What was proven by then is published and covered; changes are not followed by half.
            with suppress(AhiCatalogError):
                sink.finish(is_following=False)
            raise
        sink.finish()
        if run.stop.is_set():
            return
        if sink.has_lost:
            self._settled_at = None  # The next pass lists objects, and says what is lost.
        self._read_to = began - self._skew
        if is_sync:
            self._settled_at = began
            self._whole_at = began if is_whole else self._whole_at
        else:
            self._seen = sink.seen
        waiting |= {name: found for name, found in young.items() if is_young(run, found)}
        self._wake.published(waiting, run.report)

    def _is_due(self, last: datetime | None, at: datetime, interval: timedelta) -> bool:
        return last is None or not timedelta() <= at - last < interval

    def _sync(self, run: Run, began: datetime, sink: "_PassPublisher", look_back: timedelta) -> None:
        run.catalog.refuse_replaced()
        ask_bounds = partial(bounds, run.settings, run.source, run.report.counts, began)
        self._kept = bring_up_to_date(run, look_back, self._until(began), sink, ask_bounds)
        self._skew = began - (run.checkpointer.served_at or began)

    def _read_recent(self, run: Run, began: datetime, sink: "_PassPublisher", look_back: timedelta) -> None:
        served_at, until = began - self._skew, self._until(began)
        since = floor_second(min(self._read_to or served_at, served_at) - look_back)
        window = Window(min(max(since, self._kept.windows[0].start), until - SECOND), until)
        sink.measure(since=window.start)
        reading = engine.read(run, Field.CREATED_AT, Coverage([window]), sink, present=())
        if not run.stop.is_set():
            self._kept = self._kept.union(reading.proven)
            follow_changes(run, window, sink, self._kept, is_sorted=reading.is_sorted)

    def _until(self, began: datetime) -> datetime:
        """Where reading ends: now by the later of the two clocks, for what is young is not covered."""
        return floor_second(max(began, began - self._skew)) + SECOND

    def _remove_deleted(
        self, run: Run, image_set_ids: Collection[str], began: datetime, sink: "_PassPublisher"
    ) -> dict[str, ImageSet]:
        """Have rows of image sets that are confirmed deleted removed, whatever their age; those that are there."""
        gone, there = remove_deleted(run, image_set_ids, sink) if image_set_ids else (set(), {})
        self._gone |= dict.fromkeys(gone, began)
        return there


class _PassPublisher:
    """Holds what a pass finds, and publishes each partition once at its end, or earlier where much is held.

    Args:
        run: The run.
        gone: Image sets that are confirmed deleted; rows of theirs are left out.
        changed: Partitions that it has written; added to.
        seen: What the pass before has published, for a pass that proves nothing; None: the pass is a sync.
    """

    def __init__(
        self,
        run: Run,
        gone: Collection[str],
        changed: set[Partition],
        *,
        seen: dict[Partition, pa.Table] | None = None,
    ) -> None:
        self.seen: dict[Partition, pa.Table] = {}
        """What this pass has published, or found published."""
        self.has_lost = False
        """Whether an object was not there that should be."""
        self._run = run
        self._gone = gone
        self._changed = changed
        self._seen_before = seen
        self._publisher = Publisher(run)
        self._held: defaultdict[Partition, list[Batch]] = defaultdict(list)
        self._bytes = 0
        self._windows: list[Window] = []
        self._followed: tuple[datetime, Coverage] | None = None
        self._publishing = threading.Lock()

    @property
    def _is_sync(self) -> bool:
        return self._seen_before is None

    def phase(self, by: Field) -> str:
        return self._publisher.phase(by)

    def measure(self, *, since: datetime) -> None:
        self._publisher.measure(since=since)

    def write(self, batch: Batch) -> list[Published]:
        """Hold a batch; what publishing came to, where it was time for it."""
        with self._publishing:
            self._held[batch.partition].append(replace(batch, rows=without(batch.rows, self._gone)))
            self._bytes += batch.bytes
            return self._publish() if self._bytes > self._run.settings.buffer_bytes // 4 else []

    def count(self, written: Collection[Published]) -> None:
        for published in written:
            self._publisher.count(published)

    def commit(self, windows: Collection[Window]) -> None:
        """Hold windows; they are covered once all that is held is published."""
        with self._publishing:
            self._windows += windows

    def follow(self, to: datetime, kept: Coverage) -> None:
        self._followed = to, kept

    def finish(self, *, is_following: bool = True) -> None:
        """Publish what is held, and write down what it proves."""
        with self._publishing:
            self.count(self._publish())
        if self._is_sync and self._followed is not None and is_following:
            self._publisher.follow(*self._followed)

    def _publish(self) -> list[Published]:
        """Whatever is held; nothing is added meanwhile, so that the windows held are proven by it."""
        joined = [_join(batches) for batches in self._held.values()]
        batches = joined if self._is_sync else [batch for batch in joined if not self._is_published(batch)]
        if batches and not self._is_sync:
            self._run.catalog.refuse_replaced()
            batches = self._without_lost(batches)
        with ThreadPoolExecutor(self._run.catalog.store.writers, thread_name_prefix="publish") as publishers:
            published = list(publishers.map(self._write, batches))
        self._held.clear()
        self._bytes = 0
        windows, self._windows = self._windows, []
        if windows and self._is_sync:
            self._publisher.commit(windows)
        if not self._is_sync:
            for batch in joined:
                before = self.seen.get(batch.partition)
                self.seen[batch.partition] = merge(batch.table, before, batch.rows).rows if before else batch.rows
        return published

    def _write(self, batch: Batch) -> Published:
        published = self._publisher.write(batch)
        if published.bytes_written:
            self._changed.add(batch.partition)
        return published

    def _without_lost(self, batches: list[Batch]) -> list[Batch]:
        """Those whose object is not lost: one made anew of a few rows would hide that the rest is missing."""
        catalog = self._run.catalog
        known = catalog.checkpoint(self._run.datastore_id)
        populated = known.populated if known else NOWHERE
        lost = {
            batch.partition
            for batch in batches
            if not Coverage([batch.partition.window]).minus(populated) and catalog.store.get(batch.key) is None
        }
        self.has_lost |= bool(lost)
        return [batch for batch in batches if batch.partition not in lost]

    def _is_published(self, batch: Batch) -> bool:
        """Whether the pass before has seen every row of a batch just so, and none that the batch should have too."""
        before = (self._seen_before or {}).get(batch.partition)
        if before is None or batch.deleted:
            return False
        listed = batch.rows["image_set_id"]
        return not merge(batch.table, before, batch.rows).is_change and not unlisted(
            batch.table, before, listed, batch.scanned
        )


def _join(batches: list[Batch]) -> Batch:
    """What several scans found out about a partition, as one batch."""
    first = batches[0]
    return Batch(
        table=first.table,
        partition=first.partition,
        rows=newest(first.table, pa.concat_tables([batch.rows for batch in batches])),
        scanned=Coverage(window for batch in batches for window in batch.scanned),
        deleted=[each for batch in batches for each in batch.deleted],
    )


class _Heart:
    """Writes the heartbeat, once a minute at most; one that cannot be written costs the watch nothing.

    Args:
        setup: Of the watch.
        catalog: Where it is kept.
    """

    def __init__(self, setup: RunSetup, catalog: Catalog) -> None:
        self.failure: str | None = None
        """What the last pass failed with."""
        self._setup = setup
        self._catalog = catalog
        self._started_at = setup.clock()
        self._beat_at: datetime | None = None
        self._passes = self._failed_passes = 0

    def beat(self, report: RunReport) -> None:
        """Write down how the watch is, where it is time to."""
        at = self._setup.clock()
        if self._beat_at is None or not timedelta() <= at - self._beat_at < timedelta(seconds=BEAT_SECONDS):
            self._write(at, report)

    def add(self, report: RunReport) -> None:
        """Count the passes of an hour that has ended."""
        self._passes += report.passes
        self._failed_passes += report.failed_passes

    def end(self, failure: str | None) -> None:
        """Say that the watch has ended, and what it failed with."""
        if self._beat_at is not None:
            self.failure = failure
            self._write(self._setup.clock(), None, is_ended=True)

    def _write(self, at: datetime, report: RunReport | None, *, is_ended: bool = False) -> None:
        self._beat_at = at
        heartbeat = Heartbeat(
            started_at=self._started_at,
            beat_at=at,
            ended_at=at if is_ended else None,
            every_seconds=self._setup.settings.every.total_seconds(),
            passes=self._passes + (report.passes if report else 0),
            failed_passes=self._failed_passes + (report.failed_passes if report else 0),
            failure=self.failure,
            freshness=report.freshness if report else Freshness(),
        )
        try:
            self._catalog.keep_heartbeat(self._setup.settings.datastore_id, heartbeat)
        except AhiCatalogError as error:
            _log.warning("the heartbeat could not be kept: %s", error)
