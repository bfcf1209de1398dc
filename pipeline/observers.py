"""Who watches a run: a terminal, Prefect, a test. What only watches never harms: an observer that fails is dropped."""

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from ahi_catalog.connectors.redaction import describe
from ahi_catalog.pipeline.run_report import RunReport

_log = logging.getLogger(__name__)

_LAST_WORD_SECONDS: Final = 10.0
"""How long the end of a run waits for an observer in the background to pass the report on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        datastore_id: The data store that it reads.
        phase: What it does now, in a word or two.
        seconds_done, seconds_total: Of the time ranges to read; of no length where what there is to read is not known.
        seconds: How long it has been doing that.
        rows: Image sets read so far.
        requests: Made so far.
    """

    datastore_id: str
    phase: str
    seconds_done: int
    seconds_total: int
    seconds: float
    rows: int
    requests: int

    @property
    def share(self) -> float | None:
        """Of the time ranges, read so far; from 0 to 1. None: that cannot be told."""
        return self.seconds_done / self.seconds_total if self.seconds_total else None

    @property
    def seconds_left(self) -> int | None:
        """How long it takes yet, if image sets are spread evenly over the ranges; None: that cannot be told yet."""
        return round(self.seconds * (1 - self.share) / self.share) if self.share else None


class Observer(Protocol):
    """Watches a run; called from the thread that runs it, so it answers at once (or is `InBackground`)."""

    def progressed(self, progress: Progress) -> None:
        """The run begins to read, or something it waited for is done: a scan, an object, a write of the checkpoint."""
        ...

    def finished(self, report: RunReport) -> None:
        """The run has ended, whatever way."""
        ...


class Observers:
    """Several observers as one that never fails: each is called until it raises, which is logged once.

    Args:
        observers: In the order in which they are called.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = list(observers)

    def progressed(self, progress: Progress) -> None:
        """Tell each how far the run is."""
        self._tell(lambda observer: observer.progressed(progress))

    def finished(self, report: RunReport) -> None:
        """Tell each that the run has ended."""
        self._tell(lambda observer: observer.finished(report))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                what(observer)
            except Exception as error:  # noqa: BLE001  # whatever it is, the run does without that observer
                self._observers.remove(observer)
                _log.warning("an observer of the run failed and is left out: %s", describe(error))


class InBackground:
    """An observer that may take its time, as one that does not: its calls are made on a thread of its own.

    Progress that is out of date by the time that the thread is free is left out. It watches one run at a time.

    Args:
        observer: Called from one thread, in the context that this was made in.
    """

    def __init__(self, observer: Observer) -> None:
        self._calls: queue.Queue[Progress | RunReport] = queue.Queue(1)
        self._observer = Observers(observer)
        self._context = contextvars.copy_context()
        self._thread: threading.Thread | None = None

    def progressed(self, progress: Progress) -> None:
        """Pass progress on, unless the thread is busy with what came before."""
        self._start()
        with suppress(queue.Full):
            self._calls.put_nowait(progress)

    def finished(self, report: RunReport) -> None:
        """Pass the report on, and wait for that some seconds at most."""
        thread = self._start()
        try:
            until = time.monotonic() + _LAST_WORD_SECONDS
            self._calls.put(report, timeout=_LAST_WORD_SECONDS)
        except queue.Full:
            _log.warning("an observer of the run does not answer and is left out")
            return
        thread.join(max(0.0, until - time.monotonic()))

    def _start(self) -> threading.Thread:
        """The thread, begun by the first call: a run that fails before it has begun calls nobody."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._context.run, args=(self._run,), name="observer", daemon=True)
            self._thread.start()
        return self._thread

    def _run(self) -> None:
        while isinstance(call := self._calls.get(), Progress):
            self._observer.progressed(call)
        self._observer.finished(call)


_WATCHING: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@contextmanager
def watched_by(*observers: Observer) -> Iterator[None]:
    """Runs started inside are watched by these too; so a flow needs no parameter for its observers."""
    token = _WATCHING.set((*_WATCHING.get(), *observers))
    try:
        yield
    finally:
        _WATCHING.reset(token)


@contextmanager
def collecting_reports() -> Iterator[list[RunReport]]:
    """The reports of the runs started inside, failed ones too, in a list that fills as they end."""
    reports: list[RunReport] = []
    with watched_by(_Collector(reports)):
        yield reports


class _Collector:
    def __init__(self, reports: list[RunReport]) -> None:
        self._reports = reports

    def progressed(self, progress: Progress) -> None:
        pass

    def finished(self, report: RunReport) -> None:
        self._reports.append(report)


def watched_by_nobody() -> None:
    """From here on in this context, runs are watched by nobody, and their reports are collected by nobody."""
    _WATCHING.set(())


def current_observers(*own: Observer) -> Observers:
    """The observers of a run started here, with its own first."""
    return Observers(*own, *_WATCHING.get())
