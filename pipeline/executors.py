"""Where scans run: on threads of this process, or on the workers of a Dask cluster."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.scan import ScanRequest, ScanResult, scan
from ahi_catalog.connectors.healthimaging.source import Source
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.schemas import PhiKey, PhiPolicy, Protect


@dataclass(frozen=True, slots=True)
class ScanTask:
    """Scans windows of one data store.

    Attributes:
        settings: Of the run: all that another process needs to make a source of its own.
        phi: The catalog's policy, which the rows of a scan are under.
        load_key: Loads the key of pseudonyms by where it is kept; a function of a module, which can be pickled.
        run: Scans in this process.
    """

    settings: Settings
    phi: PhiPolicy
    load_key: Callable[[str], PhiKey]
    run: Callable[[ScanRequest], ScanResult]


def make_scan(
    source: Source, settings: Settings, protect: Protect, stop: threading.Event
) -> Callable[[ScanRequest], ScanResult]:
    """The scan of a run, in whatever process that is.

    Args:
        source: What to read from.
        settings: Of the run.
        protect: Puts rows under the catalog's PHI policy.
        stop: Set when the run is asked to stop.
    """

    @redact_errors
    def run_scan(request: ScanRequest) -> ScanResult:
        return scan(source.page, request, page_budget=settings.page_budget, protect=protect, is_stopping=stop.is_set)

    return run_scan


class Pending(Protocol):
    """The result of a scan to come: a future of concurrent.futures, or one of Prefect's."""

    def result(self) -> Any: ...
    def add_done_callback(self, fn: Callable[[Any], Any]) -> None: ...


class ScanExecutor(Protocol):
    """Runs scans side by side."""

    def submit(self, task: ScanTask, request: ScanRequest) -> Pending:
        """Start a scan; called from several threads where several data stores are read."""
        ...


class ThreadScanExecutor:
    """Runs scans on a pool of threads.

    Args:
        pool: The threads.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def submit(self, task: ScanTask, request: ScanRequest) -> Future[ScanResult]:
        return self._pool.submit(task.run, request)


@contextmanager
def open_threads(workers: int) -> Iterator[ThreadScanExecutor]:
    """Threads for so many scans side by side."""
    with ThreadPoolExecutor(workers, thread_name_prefix="scan") as pool:
        yield ThreadScanExecutor(pool)


@contextmanager
def open_executor(settings: Settings, stop: threading.Event) -> Iterator[ScanExecutor]:
    """Where the settings have scans run.

    Args:
        settings: Its `dask`, and how many scans run side by side.
        stop: Set when the run is asked to stop; the workers of a cluster are told.

    Raises:
        UsageError: Dask is not installed, or no cluster is there.
    """
    if settings.dask is None:
        with open_threads(settings.workers) as threads:
            yield threads
        return
    try:
        # An extra, and half a second.
        from ahi_catalog.pipeline.cluster import open_cluster  # noqa: PLC0415
    except ImportError:
        raise UsageError("Dask comes with an extra: pip install 'ahi-catalog[dask]'") from None
    with open_cluster(settings, stop) as cluster:
        yield cluster
