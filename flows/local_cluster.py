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


@contextmanager
def start_local_cluster(concurrency: int) -> Iterator[str]:
    """The address of a cluster that only this machine reaches: a worker process a core.

    Args:
        concurrency: Scans side by side, over all workers.
    """
    workers = min(os.cpu_count() or 1, concurrency)
    # Rows are patients' data, and are not spilled to disk.
    with dask.config.set({"distributed.worker.memory.target": False, "distributed.worker.memory.spill": False}):
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
            address: str = cluster.scheduler_address
            yield address
