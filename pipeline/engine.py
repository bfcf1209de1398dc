"""The engine: scans windows side by side, hands partitions on as they fill, and ranges when all of them is taken.

Invariants: a range counts as covered only after every row that its scan found is taken by the sink (published, for
a sync); a run that is stopped or fails hands on and covers what is proven, and then ends. Nothing here knows Prefect.
"""

import queue
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import pyarrow as pa

from ahi_catalog.connectors.catalog import Batch
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.rows import lies_in, pick
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.buffer import Buffer
from ahi_catalog.pipeline.run import Run
from ahi_catalog.pipeline.runners import Pending
from ahi_catalog.pipeline.scan_scheduler import Schedule
from ahi_catalog.pipeline.sink import Sink
from ahi_catalog.schemas import IMAGE_SETS

_COVER_AFTER: Final = 1.0
"""Seconds at least between two writings of the checkpoint, while there is other work. The first time after them that
the engine goes on brings the next one; a run that dies before reads again what it had published since."""
LOOK_SECONDS: Final = 0.05
"""How often scans under way are looked at while workers have nothing to do."""


def read(run: Run, by: Field, windows: Coverage, sink: Sink, *, keep: Coverage | None = None) -> Coverage:
    """Scan windows and hand on what they hold; scans by createdAt prove ranges of it complete.

    Args:
        run: The run.
        by: The time that the windows bound.
        windows: What to scan.
        sink: What becomes of the rows.
        keep: Ranges of createdAt whose rows are handed on; None: all.

    Returns:
        The part of the windows whose rows are taken: all of it, unless the run was asked to stop.

    Raises:
        Exception: The first failure; what was proven by then is taken and covered.
    """
    # Covering has a thread of its own: in the others' queue it would come after all that waits to be published.
    with (
        ThreadPoolExecutor(run.catalog.store.writers, thread_name_prefix="publish") as publishers,
        ThreadPoolExecutor(1, thread_name_prefix="cover") as coverer,
    ):
        return _Reading(run, by, windows, sink, keep=keep, publishers=publishers, coverer=coverer).run_to_end()


def take_rows(run: Run, tables: Iterable[pa.Table], sink: Sink, keep: Coverage) -> None:
    """Hand on rows that prove no range complete, partition by partition, holding few in memory.

    Args:
        run: The run.
        tables: Rows of image sets, as they arrive; under the catalog's PHI policy.
        sink: What becomes of the rows.
        keep: Ranges of createdAt whose rows are handed on.
    """
    buffer = Buffer(IMAGE_SETS, run.datastore_id, run.catalog.description.unit, ())

    def take_batches(batches: Iterable[Batch]) -> None:
        for batch in batches:
            sink.count(sink.take(batch))

    for table in tables:
        buffer.add(pick(table, lies_in(table["created_at"], keep)), None)
        take_batches(buffer.pop_largest(run.buffer_bytes))
    take_batches(buffer.pop_all())


class _Reading:
    """One `read` under way. Its state is changed by one thread; workers hand their results in by a queue."""

    def __init__(
        self,
        run: Run,
        by: Field,
        windows: Coverage,
        sink: Sink,
        *,
        keep: Coverage | None,
        publishers: ThreadPoolExecutor,
        coverer: ThreadPoolExecutor,
    ) -> None:
        self._run = run
        self._sink = sink
        self._publishers = publishers
        self._coverer = coverer
        self._by = by
        self._keep = keep
        self._schedule = Schedule(windows, run.workers, run.scans)
        present = run.catalog.partitions(run.datastore_id) if by is Field.CREATED_AT else ()
        self._buffer = Buffer(IMAGE_SETS, run.datastore_id, run.catalog.description.unit, present)
        self._seconds = sum(window.seconds for window in windows)
        self._proven: list[Window] = []
        self._seconds_proven = 0
        self._coverable: list[Window] = []
        self._results: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._under_way = 0
        self._publishing_bytes = 0
        self._is_covering = False
        self._covered_at = float("-inf")
        self._is_store_broken = False
        self._failure: Exception | None = None

    def run_to_end(self) -> Coverage:
        """What is proven, all of it published; or the first failure, with what was proven by then published."""
        self._drain(self._go_on)
        if not self._is_store_broken:
            self._publish(self._buffer.pop_all())
        self._drain(self._cover)
        if self._failure is not None:
            raise self._failure
        return Coverage(self._proven)

    def _drain(self, go_on: Callable[[], None]) -> None:
        """Take results in until nothing is under way, going on after each."""
        self._tell()
        go_on()
        while self._under_way:
            # Where workers have nothing to do, what is under way is looked at again: it may be worth cutting by then.
            is_worth_a_look = self._may_read() and self._schedule.is_short
            try:
                take_in = self._results.get(timeout=LOOK_SECONDS if is_worth_a_look else None)
            except queue.Empty:
                pass
            else:
                take_in()
                self._tell()
            go_on()

    def _tell(self) -> None:
        self._run.progressed(self._sink.phase(self._by), self._seconds_proven, self._seconds)

    def _go_on(self) -> None:
        """Start whatever may start now."""
        if self._may_read():
            for window in self._schedule.take_all(self._run.room()):
                scanning = self._run.runner.submit(self._run.scan_window, self._by, window)
                self._expect(scanning, partial(self._take_scan, window))
        self._cover()
        self._run.handing_back.ask(self._schedule.idle)

    def _may_read(self) -> bool:
        """Whether more scans may start: where publishing has fallen far behind, reading must wait."""
        holds_too_much = self._buffer.bytes + self._publishing_bytes > 2 * self._run.buffer_bytes
        return not (self._failure or self._run.is_stopping() or holds_too_much)

    def _expect(self, pending: Pending, take: Callable[[Callable[[], Any]], None]) -> None:
        """Have a result taken in by this thread when it is there."""
        self._under_way += 1
        pending.add_done_callback(lambda done: self._results.put(partial(self._take, take, done.result)))

    def _take(self, take: Callable[[Callable[[], Any]], None], result: Callable[[], Any]) -> None:
        self._under_way -= 1
        try:
            take(result)
        except Exception as error:  # noqa: BLE001  # raised by run_to_end, after what is proven is published
            self._failure = self._failure or error

    def _take_scan(self, window: Window, result: Callable[[], Any]) -> None:
        try:
            scan = result()
        except Exception:
            self._schedule.abandon(window)
            raise
        self._schedule.finish(window, scan.remainder, scan.pace)
        self._run.report.count_scan(scan)
        if scan.served_at is not None:
            self._run.served_at.append(scan.served_at)
        if scan.proven is None:
            return
        self._proven.append(scan.proven)
        self._seconds_proven += scan.proven.seconds
        rows = scan.rows if self._keep is None else pick(scan.rows, lies_in(scan.rows["created_at"], self._keep))
        if self._by is Field.CREATED_AT:
            self._coverable += self._buffer.add(rows, scan.proven)
            self._publish(self._buffer.pop_complete(scan.proven, self._schedule.outstanding))
        else:
            self._buffer.add(rows, None)
        self._publish(self._buffer.pop_largest(self._run.buffer_bytes))

    def _publish(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            publishing = self._publishers.submit(self._sink.take, batch)
            self._publishing_bytes += batch.bytes
            self._expect(publishing, partial(self._take_published, batch))

    def _take_published(self, batch: Batch, result: Callable[[], Any]) -> None:
        self._publishing_bytes -= batch.bytes
        try:
            self._sink.count(result())
        except Exception:
            self._is_store_broken = True
            raise
        self._coverable += batch.scanned

    def _cover(self) -> None:
        """Write down what is published, now and then; what is published meanwhile goes into the next write."""
        if self._is_covering or not self._coverable:
            return
        now = time.monotonic()
        if self._under_way and now - self._covered_at < _COVER_AFTER:
            return
        self._covered_at = now
        windows, self._coverable = self._coverable, []
        self._is_covering = True
        self._expect(self._coverer.submit(self._sink.cover, windows), self._take_covered)

    def _take_covered(self, result: Callable[[], Any]) -> None:
        self._is_covering = False
        result()
