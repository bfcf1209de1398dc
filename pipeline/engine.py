"""The engine: scans windows side by side, hands on partitions as they fill, and commits ranges once they are written.

Invariants: a range is committed only after every row that its scan found is written by the sink (published, for a
sync); a run that is stopped or fails hands on and commits what is proven, and then ends. Nothing here knows Prefect.
"""

import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa

from ahi_catalog.connectors.catalog import Batch, Partition
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.scan import ScanRequest
from ahi_catalog.connectors.rows import lies_in, pick
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.buffer import Buffer
from ahi_catalog.pipeline.results import Results
from ahi_catalog.pipeline.run import Run
from ahi_catalog.pipeline.scan_scheduler import ScanScheduler
from ahi_catalog.pipeline.sink import Sink
from ahi_catalog.schemas import IMAGE_SETS

_COMMIT_SECONDS: Final = 1.0
"""Seconds at least between two writings of the checkpoint, while there is other work. The first time after them that
the engine goes on brings the next one; a run that dies before reads again what it had published since."""
LOOK_SECONDS: Final = 0.05
"""How often the quota is looked at for requests to spare while workers have nothing to do."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reading has come to.

    Attributes:
        proven: The part of the windows whose rows are written: all of it, unless the run was asked to stop.
        is_sorted: Whether the service answered oldest first, each time.
    """

    proven: Coverage
    is_sorted: bool


def read(
    run: Run,
    by: Field,
    windows: Coverage,
    sink: Sink,
    *,
    keep: Coverage | None = None,
    present: Collection[Partition] | None = None,
) -> Reading:
    """Scan windows and hand on what they hold; scans by createdAt prove ranges of it complete.

    Args:
        run: The run.
        by: The time that the windows bound.
        windows: What to scan.
        sink: What becomes of the rows.
        keep: Ranges of createdAt whose rows are handed on; None: all.
        present: Partitions that are handed on where windows by createdAt find nothing in them, since rows may be gone;
            None: all that have an object.

    Raises:
        Exception: The first failure; what was proven by then is written and committed.
    """
    # The checkpoint has a thread of its own: behind all that waits to be published it would come too late.
    with (
        ThreadPoolExecutor(run.catalog.store.writers, thread_name_prefix="publish") as publishers,
        ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as committer,
    ):
        engine = _Engine(run, by, windows, sink, keep=keep, present=present, publishers=publishers, committer=committer)
        return engine.run_to_end()


def write_rows(run: Run, tables: Iterable[pa.Table], sink: Sink, keep: Coverage) -> None:
    """Hand on rows that prove no range complete, partition by partition, holding few in memory.

    Args:
        run: The run.
        tables: Rows of image sets, as they arrive; under the catalog's PHI policy.
        sink: What becomes of the rows.
        keep: Ranges of createdAt whose rows are handed on.
    """
    buffer = Buffer(IMAGE_SETS, run.datastore_id, run.catalog.description.unit, ())

    def write(batches: Iterable[Batch]) -> None:
        for batch in batches:
            sink.count(sink.write(batch))

    for table in tables:
        rows = pick(table, lies_in(table["created_at"], keep))
        run.note_read(rows)
        buffer.add(rows, None)
        write(buffer.pop_largest(run.settings.buffer_bytes))
    write(buffer.pop_all())


class _Engine:
    """One `read` under way. Its state is changed by one thread; workers hand their results in by a queue."""

    def __init__(
        self,
        run: Run,
        by: Field,
        windows: Coverage,
        sink: Sink,
        *,
        keep: Coverage | None,
        present: Collection[Partition] | None,
        publishers: ThreadPoolExecutor,
        committer: ThreadPoolExecutor,
    ) -> None:
        self._run = run
        self._by = by
        self._sink = sink
        self._keep = keep
        self._publishers = publishers
        self._committer = committer
        self._scheduler = ScanScheduler(by, windows, run.settings.workers)
        if present is None:
            present = run.catalog.partitions(run.datastore_id) if by is Field.CREATED_AT else ()
        self._buffer = Buffer(IMAGE_SETS, run.datastore_id, run.catalog.description.unit, present)
        self._seconds = sum(window.seconds for window in windows)
        self._began = time.monotonic()
        self._is_sorted = True
        self._proven: list[Window] = []
        self._seconds_proven = 0
        self._committable: list[Window] = []
        self._results = Results()
        self._publishing_bytes = 0
        self._is_committing = False
        self._committed_at = float("-inf")
        self._is_store_broken = False

    def run_to_end(self) -> Reading:
        """What is proven, all of it written; or the first failure, with what was proven by then written."""
        self._drain(self._go_on)
        if not self._is_store_broken:
            self._publish(self._buffer.pop_all())
        self._drain(self._commit)
        if self._results.failure is not None:
            raise self._results.failure
        return Reading(Coverage(self._proven), self._is_sorted)

    def _drain(self, go_on: Callable[[], None]) -> None:
        """Take results in until nothing is under way, going on after each."""
        self._tell_progress()
        go_on()
        while self._results.under_way:
            is_worth_a_look = self._may_read() and self._scheduler.has_idle_workers
            if self._results.take(LOOK_SECONDS if is_worth_a_look else None):
                self._tell_progress()
            go_on()

    def _tell_progress(self) -> None:
        self._run.tell_progress(self._sink.phase(self._by), self._seconds_proven, self._seconds, since=self._began)

    def _go_on(self) -> None:
        """Start whatever may start now."""
        if self._may_read():
            # Those started take a request each, though not at once.
            spare = self._run.spare_requests()
            while (request := self._scheduler.next(spare)) is not None:
                spare = max(spare - 1, 0)
                scanning = self._run.executor.submit(self._run.scan_task, request)
                self._results.expect(scanning, partial(self._add_scan, request))
        self._commit()

    def _may_read(self) -> bool:
        """Whether more scans may start: where publishing has fallen far behind, reading must wait."""
        holds_too_much = self._buffer.bytes + self._publishing_bytes > 2 * self._run.settings.buffer_bytes
        return not (self._results.failure or self._run.stop.is_set() or holds_too_much)

    def _add_scan(self, request: ScanRequest, result: Callable[[], Any]) -> None:
        try:
            scan = result()
        except Exception:
            self._scheduler.abandon(request)
            raise
        self._scheduler.finish(request, scan)
        self._run.report.count_scan(scan)
        self._run.refuse_unknown_fields(scan.unknown_fields)
        self._run.checkpointer.note_clock(scan.served_at)
        self._is_sorted &= scan.is_sorted
        if scan.proven is None:
            return
        self._proven.append(scan.proven)
        self._seconds_proven += scan.proven.seconds
        rows = scan.rows if self._keep is None else pick(scan.rows, lies_in(scan.rows["created_at"], self._keep))
        self._run.note_read(rows)
        if self._by is Field.CREATED_AT:
            self._committable += self._buffer.add(rows, scan.proven)
            self._publish(self._buffer.pop_complete(scan.proven, self._scheduler.outstanding))
        else:
            self._buffer.add(rows, None)
        self._publish(self._buffer.pop_largest(self._run.settings.buffer_bytes))

    def _publish(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            publishing = self._publishers.submit(copy_context().run, self._sink.write, batch)
            self._publishing_bytes += batch.bytes
            self._results.expect(publishing, partial(self._add_published, batch))

    def _add_published(self, batch: Batch, result: Callable[[], Any]) -> None:
        self._publishing_bytes -= batch.bytes
        try:
            self._sink.count(result())
        except Exception:
            self._is_store_broken = True
            raise
        self._committable += batch.scanned

    def _commit(self) -> None:
        """Write down what is published, now and then; what is published meanwhile goes into the next write."""
        if self._is_committing or not self._committable:
            return
        now = time.monotonic()
        if self._results.under_way and now - self._committed_at < _COMMIT_SECONDS:
            return
        self._committed_at = now
        windows, self._committable = self._committable, []
        self._is_committing = True
        self._results.expect(
            self._committer.submit(copy_context().run, self._sink.commit, windows), self._add_committed
        )

    def _add_committed(self, result: Callable[[], Any]) -> None:
        self._is_committing = False
        result()
