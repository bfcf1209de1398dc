"""A real Prefect server process, and a worker of a process work pool: each stopped by its process id."""

import http.client
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL

from tests.support.s3_server import free_ports

ROOT = Path(__file__).parents[2]
_TRIES = 600
_PAUSE = 0.2


@contextmanager
def running_prefect_server(folder: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Start a server on a free loopback port, with its database in a folder; the environment of its clients.

    Args:
        folder: Its home.
        settings: Of Prefect's, for the server alone.
    """
    [port] = free_ports(1)
    environment = {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(server, folder, environment | settings, name="server"):
        wait_for(lambda: _answers(environment["PREFECT_API_URL"] + "/health"), "the Prefect server")
        yield environment


@contextmanager
def flows_on_a_server() -> Iterator[None]:
    """Give the flows of this process a temporary server with a database of its own."""
    # Prefect's server takes seconds to import, and most processes of the tests run none of these.
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
            # Blocks are saved and read through clients of their own making, in threads of the flows too.
            patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
            yield


@contextmanager
def running(
    command: list[str], folder: Path, environment: Mapping[str, str], *, name: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends; its output goes to NAME.log in the folder, where it runs."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def prefect(environment: Mapping[str, str], *arguments: str, python: str = sys.executable, folder: Path = ROOT) -> str:
    """What a command of Prefect prints, run in the folder of a prefect.yaml."""
    done = subprocess.run(
        [python, "-m", "prefect", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start_run(client: SyncPrefectClient, name: str, **parameters: object) -> UUID:
    """Start a deployment's run; its id."""
    deployment = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id


def end_of_run(client: SyncPrefectClient, run_id: UUID) -> FlowRun:
    """The run, once its state is final."""
    wait_for(lambda: bool((state := client.read_flow_run(run_id).state) and state.is_final()), "the run's end")
    return client.read_flow_run(run_id)


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Ask again and again until it is so."""
    for _ in range(_TRIES):
        if is_so():
            return
        time.sleep(_PAUSE)
    raise AssertionError(f"{what} did not come")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # loopback
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        # Before the server listens, a connection to its port may meet its own end.
        return False
