"""Scans on the workers of a Dask cluster.

A worker makes its own client from the settings, once a process, with credentials from its own chain; rows come back
as Arrow tables, and everything else (planning, publishing, the checkpoint) stays with the flow's process. Every task
carries the share of the quota that its worker may use: nine tenths of it, divided by the worker processes that are
there when it is submitted; the flow's process keeps the rest, for what it asks itself. A worker takes a new share over
with the first task that carries it, for all scans that are under way there. So while workers join, the quota may be
exceeded until each has had its next task; the limiter gives way if the service throttles.

A scan only reads: where a worker dies, Dask runs its scans again elsewhere, and nothing is lost or doubled.
"""

import logging
import math
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import Any, Final, TypeAlias

import dask
import distributed
from distributed.client import ClosedClientError
from distributed.diagnostics.plugin import WorkerPlugin

from ahi_catalog.connectors.errors import AhiCatalogError, ClusterError, SourceError, StoppedError, UsageError
from ahi_catalog.connectors.healthimaging.client import make_client
from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.healthimaging.metadata import MetadataRequest, MetadataResult
from ahi_catalog.connectors.healthimaging.scan import ScanResult
from ahi_catalog.connectors.healthimaging.source import FLOW_SHARE, Connection, open_metadata_source, open_source
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Quota, Settings
from ahi_catalog.pipeline.privacy import LoadKey, make_protection
from ahi_catalog.pipeline.scan_task import Pending, ScanTask, WorkRequest, make_reading, make_scan
from ahi_catalog.schemas import PhiPolicy

_Future: TypeAlias = "distributed.Future[Any]"

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.2
"""How often the flow's process looks whether it was asked to stop, to tell the workers."""
_LOOPBACK: Final = "127.0.0.1:0"
"""Any free port that other machines cannot reach; left to itself, Dask shows its pages to the network."""

_WORKERS: Final = {
    # Rows are patients' data, and are not spilled to disk.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # Dask's profiler looks at every thread a hundred times a second. On Python 3.11 that may freeze a worker for good
    # (https://github.com/dask/distributed/issues/8616); it did here, several times in thirty thousand requests.
    "distributed.worker.profile.enabled": False,
}
_PATIENCE_SECONDS: Final = 30
"""How long to wait for a scheduler, and for its first worker."""
_LOST: Final = (OSError, distributed.CancelledError, ClosedClientError)
"""What Dask raises where the scheduler is out of reach."""


class ClusterExecutor:
    """Runs scans on a cluster's workers, until it is closed or asked to stop.

    Args:
        client: Of the cluster.
        stop: Set when the run is asked to stop.
        is_local: Whether the workers belong to this run, and end with it.
    """

    def __init__(self, client: distributed.Client, stop: threading.Event, *, is_local: bool) -> None:
        self._client = client
        self._stop = stop
        self._run = f"ahi-catalog-{uuid.uuid4().hex}"
        self._outstanding: set[_Future] = set()
        self._closed = threading.Event()
        self._is_known_to_workers = True
        client.register_plugin(_RunOnWorker(is_deaf_to_interrupts=is_local), name=self._run)
        self._watch = threading.Thread(target=self._pass_stop_on, name="stop-cluster", daemon=True)
        self._watch.start()

    def submit(self, task: ScanTask, request: WorkRequest) -> Pending:
        settings = task.settings
        try:
            workers = max(1, len(self._client.nthreads()))
            # The flow's process asks for no metadata itself.
            shares = settings.quota.part((1 - FLOW_SHARE) / workers), settings.metadata.quota.part(1 / workers)
            given = (self._run, settings, task.phi, task.load_key, shares, request)
            future = self._client.submit(_scan_on_worker, *given, key=f"scan-{uuid.uuid4().hex}", pure=False)
        except _LOST:
            failed: Future[Any] = Future()
            failed.set_exception(self._lost())
            return failed
        self._outstanding.add(future)
        return _OnCluster(future, self._finish)

    def close(self) -> None:
        """Forget the run on all workers."""
        self._closed.set()
        self._watch.join()
        self._end_run()

    @redact_errors
    def _finish(self, future: _Future) -> Any:
        try:
            scan = future.result()
        except _LOST:
            raise self._lost() from None
        except distributed.KilledWorker:
            raise ClusterError(
                "workers of the Dask cluster died again and again while they scanned; see their logs (is their memory "
                "enough?), and run again to resume"
            ) from None
        except Exception as error:  # noqa: BLE001  # its text is not ours: a worker that cannot unpickle a task, for one
            raise ClusterError(
                f"a worker of the Dask cluster cannot scan ({type(error).__name__}); is the same version of "
                "ahi-catalog installed there?"
            ) from None
        finally:
            self._outstanding.discard(future)
        if isinstance(scan, AhiCatalogError):
            raise scan
        return scan

    def _lost(self) -> AhiCatalogError:
        if self._stop.is_set():
            return StoppedError("stopped while the cluster scanned")
        return ClusterError("the scheduler of the Dask cluster is lost; run again to resume")

    def _pass_stop_on(self) -> None:
        """Tell the workers that the run was asked to stop; without workers nobody will finish, so end what waits."""
        while not self._closed.wait(_LOOK_SECONDS):
            if not self._stop.is_set():
                continue
            try:
                self._end_run()
                is_waiting_in_vain = not self._client.nthreads()
            except _LOST:
                is_waiting_in_vain = True
            if is_waiting_in_vain:
                with suppress(*_LOST):
                    self._client.cancel(list(self._outstanding), force=True)

    def _end_run(self) -> None:
        if not self._is_known_to_workers:
            return
        self._is_known_to_workers = False
        try:
            self._client.unregister_worker_plugin(self._run)
        except _LOST as error:
            # There is no scheduler that could keep it.
            _log.debug("the run's end is not passed on: %s", type(error).__name__)


@contextmanager
def open_cluster(settings: Settings, stop: threading.Event) -> Iterator[ClusterExecutor]:
    """An executor on the cluster that the settings name.

    Args:
        settings: Its `dask`; and for a local cluster, how many scans run side by side.
        stop: Set when the run is asked to stop.

    Raises:
        UsageError: No scheduler answers, it has no worker, or the workers have no ahi-catalog.
    """
    with ExitStack() as stack:
        where = settings.dask
        if where == "local":
            where = stack.enter_context(start_local_cluster(settings.workers)).scheduler_address
        try:
            client = stack.enter_context(
                distributed.Client(where, set_as_default=False, timeout=_PATIENCE_SECONDS, name="ahi-catalog")
            )
        except OSError:
            raise UsageError(f"no Dask scheduler answers at {where}") from None
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
        except TimeoutError:
            raise UsageError(f"the Dask cluster at {where} has no worker; start some: dask worker {where}") from None
        try:
            executor = ClusterExecutor(client, stop, is_local=settings.dask == "local")
        except ImportError:
            raise UsageError(
                "the workers of the Dask cluster lack ahi-catalog; install the same version there"
            ) from None
        stack.callback(executor.close)
        yield executor


@contextmanager
def start_local_cluster(concurrency: int) -> Iterator[distributed.LocalCluster]:
    """A cluster that only this machine reaches: a worker process a core.

    Args:
        concurrency: Scans side by side, over all workers.
    """
    workers = min(os.cpu_count() or 1, concurrency)
    with dask.config.set(_WORKERS):
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=math.ceil(concurrency / workers),
            processes=True,
            host="127.0.0.1",
            dashboard_address=_LOOPBACK,
            worker_dashboard_address=_LOOPBACK,
            silence_logs=logging.ERROR,
        )
        with cluster:
            yield cluster


class _OnCluster:
    """A scan on the cluster; its failures are told in our words."""

    def __init__(self, future: _Future, finish: Callable[[_Future], Any]) -> None:
        self._future = future
        self._finish = finish

    def result(self) -> Any:
        return self._finish(self._future)

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        self._future.add_done_callback(lambda _: fn(self))


class _RunOnWorker(WorkerPlugin):
    """A run as a worker knows it: workers that join later get it as well; it goes when the run ends or is stopped.

    Args:
        is_deaf_to_interrupts: Whether Ctrl-C, which reaches the whole process group, is none of the worker's business.
    """

    def __init__(self, *, is_deaf_to_interrupts: bool) -> None:
        self.stop: threading.Event | None = None
        self._is_deaf_to_interrupts = is_deaf_to_interrupts

    def setup(self, worker: Any) -> None:
        del worker
        self.stop = threading.Event()
        if self._is_deaf_to_interrupts:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def teardown(self, worker: Any) -> None:
        del worker
        if self.stop is not None:
            self.stop.set()


class _Process:
    """What all scans of a worker process share, whatever run they belong to."""

    lock = threading.Lock()
    connection: Connection | None = None

    @classmethod
    def connect(cls, settings: Settings, shares: tuple[Quota, Quota]) -> Connection:
        """The process's connection, with the shares of the two quotas that it may use from now on."""
        with cls.lock:
            if cls.connection is None:
                client = make_client(connections=settings.workers, allow_http=settings.allow_http)
                cls.connection = Connection(client, *map(Limiter, shares))
            for limiter, share in zip((cls.connection.limiter, cls.connection.metadata_limiter), shares, strict=True):
                limiter.change(share)
            return cls.connection


_protection = cache(make_protection)
"""What a policy makes of rows; the process reads the key once, from its own place."""


def _scan_on_worker(  # noqa: PLR0917  # as Dask hands them on
    run: str,
    settings: Settings,
    phi: PhiPolicy,
    load_key: LoadKey,
    shares: tuple[Quota, Quota],
    request: WorkRequest,
) -> ScanResult | MetadataResult | AhiCatalogError:
    """What a task does, in the worker's process.

    An error is returned, not raised: Dask would log it with its traceback, and one that is not ours may quote data.
    """
    plugin = distributed.get_worker().plugins.get(run)
    if isinstance(plugin, _RunOnWorker) and plugin.stop is not None:
        stop = plugin.stop
    else:
        stop = threading.Event()
        stop.set()  # The run has ended, so this hands the whole window back.
    try:
        connection = _Process.connect(settings, shares)
        # Rows are put under the policy here, before they travel.
        if isinstance(request, MetadataRequest):
            protection = partial(_protection, phi, settings, load_key)
            return make_reading(open_metadata_source(settings, stop, connection), protection, stop)(request)
        source = open_source(settings, stop, connection)
        return make_scan(source, settings, _protection(phi, settings, load_key), stop)(request)
    except AhiCatalogError as error:
        return error
    except Exception as error:  # noqa: BLE001  # told by its kind alone
        return SourceError(f"a scan failed on a worker: unexpected {type(error).__name__}")
