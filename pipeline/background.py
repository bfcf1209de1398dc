"""Jobs in the background of a watch: what has to follow its passes, and what no pass waits for or fails with."""

import contextvars
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, Self

from ahi_catalog.connectors.catalog import Partition
from ahi_catalog.connectors.errors import AhiCatalogError, StoppedError
from ahi_catalog.connectors.redaction import describe
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline.iceberg import Request, mirror_tables
from ahi_catalog.pipeline.observers import watched_by_nobody
from ahi_catalog.pipeline.run import Clock, now
from ahi_catalog.pipeline.run_report import Outcome

_log = logging.getLogger(__name__)

_LEFT: Final = timedelta(minutes=1)
"""After which what a run has left is tried again."""
_FAILED: Final = timedelta(minutes=5)
"""After which a run that failed is tried again."""
_MIRRORING: Final = timedelta(minutes=5)
"""Between the begins of two mirrors: each is a commit and a snapshot."""
_LAST_SECONDS: Final = 10.0
"""How long the end of watches waits for a mirror, which may be killed at any point."""


class BackgroundJob(ABC):
    """Work that follows what passes publish: a thread at a time, begun after a pass, where there is something to do.

    A failure is told once, until it goes well again, and what was to be done is tried again.

    Args:
        failure: What is the case when it fails, for the log.
        clock: The local clock, aware.
        pause: Between the begins of two runs, at least.
    """

    def __init__(self, failure: str, clock: Clock, *, pause: timedelta = timedelta()) -> None:
        self._failure = failure
        self._clock = clock
        self._pause = pause
        self._is_due = True  # What was published before the watch, nobody here knows.
        self._is_failing = False
        self._rest: tuple[datetime, timedelta] | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    @abstractmethod
    def work(self) -> bool:
        """Do what there is to do; whether some of it has to wait for another time.

        Raises:
            AhiCatalogError: It is all to be done again.
        """

    def tell(self, outcome: Outcome) -> None:  # noqa: B027  # a mirror is of no one data store
        """Have a receiver of notices told how it goes."""

    def begin_hour(self) -> None:  # noqa: B027  # only some have to know
        """A watch begins, or goes on for another hour."""

    def follow(self, changed: Collection[Partition]) -> None:
        """A pass has ended: have what it published followed, unless it is too early for that."""
        if changed:
            self.request()
        self.start()

    def request(self) -> None:
        """There is something to do, for when it is begun the next time."""
        self._is_due = True

    def start(self) -> None:
        """Begin a run, where there is something to do, none is under way, and the last one is long enough ago."""
        with self._starting:
            is_running = self._thread is not None and self._thread.is_alive()
            if is_running or not self._is_due or self._is_resting:
                return
            self._is_due = False
            # The session and the page that logs belong on are those of the watch; its observers watch one run.
            context = contextvars.copy_context()
            context.run(watched_by_nobody)
            self._thread = threading.Thread(target=context.run, args=(self._run,), name="background", daemon=True)
            self._thread.start()

    def _join(self, seconds: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    @property
    def _is_resting(self) -> bool:
        if self._rest is None:
            return False
        since, pause = self._rest
        return timedelta() <= self._clock() - since < pause

    def _run(self) -> None:
        began = self._clock()
        try:
            is_left = self.work()
        except StoppedError:
            return
        except Exception as error:  # noqa: BLE001  # told; the passes go on without
            if not self._is_failing:
                told = str(error) if isinstance(error, AhiCatalogError) else f"unexpected {describe(error)}"
                _log.warning("%s: %s; it is tried again", self._failure, told)
            else:
                self.tell(Outcome.FAILED)  # One may pass.
            self._is_due = self._is_failing = True
            self._rest = self._clock(), max(self._pause, _FAILED)
            return
        if self._is_failing:
            self._is_failing = False
            _log.warning("no longer: %s", self._failure)
        self.tell(Outcome.DONE)
        if is_left:
            self.request()
        self._rest = (self._clock(), max(self._pause, _LEFT)) if is_left else (began, self._pause)


class MirrorJob(BackgroundJob):
    """Makes Iceberg tables equal to the catalog: of all the watches of a process, since it mirrors all data stores.

    Args:
        settings: Of a watch; its `iceberg` is given.
        clock: The local clock, aware.
    """

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        super().__init__(
            f"the Iceberg tables in {settings.iceberg} are not up to date, the catalog is", clock, pause=_MIRRORING
        )
        self._settings = settings
        self._stop = threading.Event()

    @classmethod
    @contextmanager
    def of(cls, settings: Settings, *, clock: Clock = now) -> Iterator[Self | None]:
        """The job of watches whose settings name Iceberg tables, ended after them; None where they name none."""
        job = cls(settings, clock=clock) if settings.iceberg else None
        try:
            yield job
        finally:
            if job is not None:
                job.end()

    def work(self) -> bool:
        """Mirror."""
        to = self._settings.iceberg
        assert to is not None  # noqa: S101  # given
        mirror_tables(self._settings.catalog, self._settings.s3, Request(to=to), clock=self._clock, stop=self._stop)
        return False

    def end(self) -> None:
        """Wait some seconds for what is under way, then have it copy nothing more, or the process would not end."""
        self._join(_LAST_SECONDS)
        self._stop.set()
