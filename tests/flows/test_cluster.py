"""Scans on a real Dask cluster: worker processes that come, die and are told to stop."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from connectors.errors import ClusterError, SourceError
from connectors.settings import Quota
from flows import jobs
from flows.cli.main import run
from flows.report import RunReport
from flows.runners import open_runner
from tests.flows.conftest import BORN, World

distributed = pytest.importorskip("distributed", reason="Dask is an extra")


def sync_on(address: str, world: World, stop: threading.Event | None = None, **changes: Any) -> RunReport:
    settings = replace(world.settings, **{"dask": address, "concurrency": 4, **changes})
    stop = stop or threading.Event()
    with open_runner(settings, stop) as runner:
        return jobs.sync(settings, runner, stop, clock=world.service.now)


@contextmanager
def at_request(world: World, number: int, act: Callable[[], object]) -> Iterator[None]:
    """Have something done when the service gets its so manieth request of the block."""
    requests, arrived = count(1), world.service.arrived

    def arrived_and_act(operation: str) -> int:
        if next(requests) == number:
            act()
        return arrived(operation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.service, "arrived", arrived_and_act)
        yield


def backfill_on(address: str, world: World) -> None:
    settings, stop = replace(world.settings, dask=address, concurrency=4), threading.Event()
    with open_runner(settings, stop) as runner:
        jobs.backfill(settings, BORN, BORN + timedelta(days=30), runner, stop, clock=world.service.now)


def test_runs_on_worker_processes_survive_a_stop_a_killed_worker_and_a_lost_scheduler(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens to the cluster, what is proven is kept, and the catalog equals the service in the end.

    A run is stopped in its middle; the next one reads the rest while one of two workers is killed; a refusal that a
    worker meets is told in our words; and so is the loss of the scheduler.
    """
    world.fill(4_000)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        address = cluster.scheduler_address
        stop = threading.Event()
        with at_request(world, 30, stop.set):
            stopped = sync_on(address, world, stop, quota=Quota(rate=400, burst=10))
        assert stopped.outcome == "stopped"
        assert 0 < stopped.new < 4_000

        with distributed.Client(address, set_as_default=False) as client:
            victim, *_ = client.run(os.getpid).values()
        with at_request(world, 30, lambda: os.kill(victim, signal.SIGKILL)):
            finished = sync_on(address, world, page_budget=8)
        with pytest.raises(ProcessLookupError):
            os.kill(victim, 0)
        assert (finished.outcome, finished.new) == ("done", 4_000 - stopped.new)
        world.assert_catalog_equals_service()

        options = world.service.options
        world.service.options = replace(options, denied=frozenset({"SearchImageSets"}))
        world.service.advance(timedelta(hours=1))
        with pytest.raises(SourceError, match="allow medical-imaging:SearchImageSets"):
            sync_on(address, world)
        world.service.options = options

        monkeypatch.setattr("flows.cluster._PATIENCE_SECONDS", 5)
        with at_request(world, 10, lambda: threading.Thread(target=cluster.close).start()), pytest.raises(ClusterError):
            backfill_on(address, world)
    world.assert_catalog_equals_service()


def test_a_cluster_that_is_not_there_is_wrong_usage(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No scheduler at the address, or no address at all: code 2, one line, and no catalog."""
    monkeypatch.setattr("flows.cluster._PATIENCE_SECONDS", 0.5)
    given = ["sync", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect", "--dask"]
    assert run([*given, "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert run([*given, "somewhere"]) == 2
    assert "tcp://host:port" in capsys.readouterr().err
    assert not world.catalog.exists()
