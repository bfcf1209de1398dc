"""Where scans run: on threads of this process, or on the workers of a Dask cluster."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from ahi_catalog.connectors.errors import missing_extra
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline.scan_task import ScanExecutor, ScanTask, WorkRequest


class ThreadScanExecutor:
    """Runs scans on a pool of threads.

    Args:
        pool: The threads.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def submit(self, task: ScanTask, request: WorkRequest) -> Future[Any]:
        # In the caller's context, by which Prefect knows whose page a log belongs on.
        return self._pool.submit(copy_context().run, task.run, request)


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
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"dask", "distributed"}:
            raise
        raise missing_extra("a Dask cluster", "dask") from None
    with open_cluster(settings, stop) as cluster:
        yield cluster
