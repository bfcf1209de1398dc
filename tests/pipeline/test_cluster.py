"""Scans on a real Dask cluster: worker processes that come, die and are told to stop."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import distributed
import pyarrow.parquet as pq
import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.errors import ClusterError, SourceError
from ahi_catalog.connectors.settings import MetadataOptions
from ahi_catalog.pipeline import backfill, sync
from ahi_catalog.pipeline.cluster import start_local_cluster
from ahi_catalog.pipeline.executors import open_executor
from ahi_catalog.pipeline.metadata import read_metadata
from ahi_catalog.pipeline.run_report import RunReport
from tests.support.world import BORN, TODAY, World


def sync_on(address: str, world: World, **changes: Any) -> RunReport:
    settings, stop = replace(world.settings, dask=address, concurrency=4, **changes), threading.Event()
    with open_executor(settings, stop) as executor:
        return sync.sync(settings, executor, stop, clock=world.service.now)


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
    with open_executor(settings, stop) as executor:
        backfill.backfill(settings, BORN, BORN + timedelta(days=30), executor, stop, clock=world.service.now)


def test_a_killed_worker_costs_no_row_and_what_goes_wrong_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two worker processes dies while both scan: the run completes, and the catalog equals the service.

    A refusal that a worker meets, and the loss of the scheduler, end a run in our words, with the catalog whole.
    """
    world.fill(4_000)
    with start_local_cluster(4) as cluster:
        address = cluster.scheduler_address
        with distributed.Client(address, set_as_default=False) as client:
            victim, *_ = client.run(os.getpid).values()
        with at_request(world, 30, lambda: os.kill(victim, signal.SIGKILL)):
            finished = sync_on(address, world, page_budget=8)
        with pytest.raises(ProcessLookupError):
            os.kill(victim, 0)
        assert (finished.outcome, finished.new) == ("done", 4_000)
        world.assert_catalog_equals_service()

        options = world.service.options
        world.service.options = replace(options, denied=frozenset({"SearchImageSets"}))
        world.service.advance(timedelta(hours=1))
        with pytest.raises(SourceError, match="allow medical-imaging:SearchImageSets"):
            sync_on(address, world)
        world.service.options = options

        monkeypatch.setattr("ahi_catalog.pipeline.cluster._PATIENCE_SECONDS", 5)
        with at_request(world, 10, lambda: threading.Thread(target=cluster.close).start()), pytest.raises(ClusterError):
            backfill_on(address, world)
    world.assert_catalog_equals_service()


def test_a_killed_worker_costs_no_metadata(world: World) -> None:
    """One of two worker processes dies while both read metadata: every image set has its series, and is there once."""
    world.fill(1_000, start=TODAY - timedelta(days=10), step=timedelta(seconds=1))
    world.sync()
    fast = MetadataOptions(metadata_rate=100_000, metadata_burst=100_000)
    with start_local_cluster(4) as cluster:
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            victim, *_ = client.run(os.getpid).values()
        settings = replace(world.settings, dask=cluster.scheduler_address, concurrency=4, metadata=fast)
        stop = threading.Event()
        with at_request(world, 200, lambda: os.kill(victim, signal.SIGKILL)), open_executor(settings, stop) as executor:
            report = read_metadata(settings, executor, stop, clock=world.service.now)
    assert (report.outcome, report.rows_read, report.new) == ("done", 1_000, 1_000)
    ids = [row for file in world.catalog.glob("series/**/*.parquet") for row in ids_of(file)]
    assert len(ids) == len(set(ids)) == 1_000


def ids_of(file: Path) -> list[str]:
    found: list[str] = pq.ParquetFile(file).read(["image_set_id"])["image_set_id"].to_pylist()
    return found


def test_ctrl_c_stops_a_run_on_a_local_cluster_in_an_orderly_way(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    """SIGINT to the whole process group: workers hand back what they have, code 130, and the next run resumes."""
    world = make_world(latency=0.02)
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(3_000)
    program = str(Path(sys.executable).with_name("ahi-catalog"))
    common = ["--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect", "--json"]
    quota = ["--rate", "60", "--burst", "10", "--concurrency", "2"]
    with (tmp_path / "log").open("wb") as log, (tmp_path / "report").open("wb") as report:
        process = subprocess.Popen(
            [program, "sync", *common, *quota, "--dask", "local"], stdout=report, stderr=log, start_new_session=True
        )
        with at_request(world, 25, lambda: os.killpg(process.pid, signal.SIGINT)):
            assert process.wait(200) == 130
    stopped = json.loads((tmp_path / "report").read_bytes())
    assert stopped["outcome"] == "stopped"
    assert 0 < stopped["new"] < 3_000
    assert b"Traceback" not in (tmp_path / "log").read_bytes()
    assert world.sync().new == 3_000 - stopped["new"]
    world.assert_catalog_equals_service()


def test_a_cluster_that_is_not_there_is_wrong_usage(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No scheduler at the address, or no address at all: code 2, one line, and no catalog."""
    monkeypatch.setattr("ahi_catalog.pipeline.cluster._PATIENCE_SECONDS", 0.5)
    given = ["sync", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect", "--dask"]
    assert run([*given, "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert run([*given, "somewhere"]) == 2
    assert "tcp://host:port" in capsys.readouterr().err
    assert not world.catalog.exists()
