"""Runs as Prefect flows, one for each way to end: done, failed, stopped, killed. The next one always completes."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ahi_catalog.connectors.errors import StoreError
from ahi_catalog.flows.backfill import backfill
from ahi_catalog.flows.parameters import parameters_of
from ahi_catalog.flows.sync import sync
from tests.faults.ledger import LEDGER
from tests.faults.lines import ROOT
from tests.faults.scale import IS_FULL
from tests.faults.stages import begin_synced, change
from tests.faults.world import BORN, HOUR, TODAY, FaultWorld
from tests.support.prefect_server import flows_on_a_server
from tests.support.s3_proxy import S3Proxy

pytestmark = pytest.mark.skipif(not IS_FULL, reason="a minute of Prefect; part of the full form: make test-faults")

_FLOW = """
import pickle, sys
from pathlib import Path
from ahi_catalog.flows.parameters import parameters_of
from ahi_catalog.flows.sync import sync
sync(**parameters_of(pickle.loads(Path(sys.argv[1]).read_bytes())))
"""


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    """One server for all of them."""
    with flows_on_a_server():
        yield


@pytest.fixture
def s3_world(make_world: Callable[..., FaultWorld]) -> Iterator[FaultWorld]:
    """A synced catalog on S3 with changes to follow, and boto3 led there."""
    world = make_world("s3")
    begin_synced(world)
    change(world)
    with world.clients():
        yield world


def complete(world: FaultWorld) -> None:
    """A flow to its end; then the catalog is the service."""
    assert sync(**parameters_of(world.settings), return_state=True).is_completed()
    world.witness.compare()


def test_a_flow_that_is_done(s3_world: FaultWorld) -> None:
    """A sync and a backfill as flows end completed, and equal the service."""
    complete(s3_world)
    assert backfill(**parameters_of(s3_world.settings), start=BORN, end=TODAY + HOUR, return_state=True).is_completed()
    s3_world.witness.compare()
    LEDGER.injected("Prefect: done", 2)


def test_a_flow_that_fails(s3_world: FaultWorld, proxy: S3Proxy) -> None:
    """Credentials expire in the middle: the flow run fails with that one line."""
    proxy.order("expired", method="PUT", since=3)
    state: Any = sync(**parameters_of(s3_world.settings), return_state=True)
    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), StoreError)
    s3_world.witness.look()
    proxy.clear()
    LEDGER.injected("Prefect: failed")
    complete(s3_world)


def test_a_flow_that_is_stopped(s3_world: FaultWorld) -> None:
    """SIGTERM ends the flow run as cancelled, with what is proven covered."""

    def ask_to_stop(_: str, number: int) -> None:
        if number == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with s3_world.on_request(ask_to_stop):
        state = sync(**parameters_of(replace(s3_world.settings, page_budget=1, concurrency=1)), return_state=True)
    assert state.is_cancelled()
    s3_world.witness.look()
    LEDGER.injected("Prefect: stopped by SIGTERM")
    complete(s3_world)


def test_a_flow_that_is_killed(s3_world: FaultWorld, proxy: S3Proxy, tmp_path: Path) -> None:
    """kill -9 of the process of a flow run, just after a partition was put, leaves nothing that is not so."""
    settings = tmp_path / "settings"
    settings.write_bytes(pickle.dumps(s3_world.settings))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    flow = subprocess.Popen([sys.executable, "-c", _FLOW, str(settings)], env=environment, stderr=subprocess.DEVNULL)
    proxy.call("after", lambda _: flow.kill(), method="PUT", key="image-sets.parquet", at=[2])
    assert flow.wait(120) == -signal.SIGKILL
    s3_world.witness.look()
    proxy.clear()
    LEDGER.injected("Prefect: SIGKILL")
    complete(s3_world)
