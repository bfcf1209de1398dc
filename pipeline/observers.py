"""Who watches a run: a terminal, Prefect, a test."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from ahi_catalog.pipeline.run_report import RunReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        datastore_id: The data store that it reads.
        phase: What it does now, in a word or two.
        seconds_done, seconds_total: Of the time ranges to read.
        rows: Image sets read so far.
        requests: Made so far.
    """

    datastore_id: str
    phase: str
    seconds_done: int
    seconds_total: int
    rows: int
    requests: int


class Observer(Protocol):
    """Watches a run; called from the thread that runs it."""

    def progressed(self, progress: Progress) -> None:
        """The run begins to read, or something it waited for is done: a scan, an object, a write of the checkpoint."""
        ...

    def finished(self, report: RunReport) -> None:
        """The run has ended, whatever way."""
        ...


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def progressed(self, progress: Progress) -> None:
        for observer in self._observers:
            observer.progressed(progress)

    def finished(self, report: RunReport) -> None:
        for observer in self._observers:
            observer.finished(report)


class LastReport:
    """Keeps what a run came to.

    Attributes:
        report: Of the run that ended last; None: none has.
    """

    def __init__(self) -> None:
        self.report: RunReport | None = None

    def progressed(self, progress: Progress) -> None:
        pass

    def finished(self, report: RunReport) -> None:
        self.report = report


_WATCHING: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@contextmanager
def watched_by(*observers: Observer) -> Iterator[None]:
    """Runs started inside are watched by these too; so a flow needs no parameter for its observers."""
    token = _WATCHING.set((*_WATCHING.get(), *observers))
    try:
        yield
    finally:
        _WATCHING.reset(token)


def current_observers() -> tuple[Observer, ...]:
    """The observers of the runs started here."""
    return _WATCHING.get()
