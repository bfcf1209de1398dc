"""Where scans run: on threads of this process, or as Prefect's tasks."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self

from connectors.healthimaging.pages import Field
from connectors.healthimaging.scan import Scan
from connectors.windows import Window

ScanWindow = Callable[[Field, Window], Scan]
"""Scans a window by a time; holds whatever it needs for that."""


class Pending(Protocol):
    """The result of a scan to come: a future of concurrent.futures, or one of Prefect's."""

    def result(self) -> Any: ...
    def add_done_callback(self, fn: Callable[[Any], Any]) -> None: ...


class Runner(Protocol):
    """Runs scans side by side."""

    def submit(self, scan_window: ScanWindow, by: Field, window: Window) -> Pending:
        """Start a scan."""
        ...


class ThreadRunner:
    """A plain pool of threads; a context manager.

    Args:
        workers: Scans side by side.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")

    def submit(self, scan_window: ScanWindow, by: Field, window: Window) -> Future[Scan]:
        return self._pool.submit(scan_window, by, window)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
