"""Where scans run: on threads of this process, on the workers of a Dask cluster, or as Prefect's tasks."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.scan import Scan
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import Window
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.schemas import PhiPolicy


@dataclass(frozen=True, slots=True)
class ScanWindow:
    """Scans a window of one data store by a time.

    Attributes:
        settings: Of the run: all that another process needs to make its own.
        phi: The catalog's policy, which the rows of a scan are under.
        scan: Scans in this process; holds whatever it needs for that.
        load_key: Loads the key of pseudonyms in another process.
    """

    settings: Settings
    phi: PhiPolicy
    scan: Callable[[Field, Window], Scan]
    load_key: LoadKey = load_phi_key

    def __call__(self, by: Field, window: Window) -> Scan:
        return self.scan(by, window)


class Pending(Protocol):
    """The result of a scan to come: a future of concurrent.futures, or one of Prefect's."""

    def result(self) -> Any: ...
    def add_done_callback(self, fn: Callable[[Any], Any]) -> None: ...


class Runner(Protocol):
    """Runs scans side by side."""

    @property
    def is_full(self) -> bool:
        """Whether scans that were submitted have not begun yet."""
        ...

    def submit(self, scan_window: ScanWindow, by: Field, window: Window) -> Pending:
        """Start a scan; called from several threads where several data stores are read.

        Where it runs in this process, it runs once: meanwhile a part of its window may have been given to another scan.
        """
        ...


class ThreadRunner:
    """A plain pool of threads; a context manager.

    Args:
        workers: Scans side by side.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
        self._lock = threading.Lock()
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        with self._lock:
            return self._waiting > 0

    def submit(self, scan_window: ScanWindow, by: Field, window: Window) -> Future[Scan]:
        def scan() -> Scan:
            with self._lock:
                self._waiting -= 1
            return scan_window(by, window)

        with self._lock:
            self._waiting += 1
        return self._pool.submit(scan)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


@contextmanager
def open_runner(settings: Settings, stop: threading.Event) -> Iterator[Runner]:
    """Where the settings have scans run.

    Args:
        settings: Its `dask`, and how many scans run side by side.
        stop: Set when the run is asked to stop; the workers of a cluster are told.

    Raises:
        UsageError: Dask is not installed, or no cluster is there.
    """
    if settings.dask is None:
        with ThreadRunner(settings.workers) as threads:
            yield threads
        return
    try:
        # An extra, and half a second.
        from ahi_catalog.pipeline.cluster import open_cluster  # noqa: PLC0415
    except ImportError:
        raise UsageError("Dask comes with an extra: pip install 'ahi-catalog[dask]'") from None
    with open_cluster(settings, stop) as cluster:
        yield cluster
