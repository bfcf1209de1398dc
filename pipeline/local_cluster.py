"""A Dask cluster of processes on this machine, for the time of a run."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dask
import distributed

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
