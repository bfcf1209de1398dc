"""A real Prefect server process, and a worker of a process work pool: each stopped by its process id."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.s3_server import free_ports

ROOT = Path(__file__).parents[2]
_PREFECT = Path(sys.executable).with_name("prefect")
_TRIES = 600
_PAUSE = 0.2


@contextmanager
def running_prefect_server(folder: Path) -> Iterator[dict[str, str]]:
    """Start a server on a free loopback port, with its database in a folder; the environment of its clients."""
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
    with running([str(_PREFECT), "server", "start", "--host", "127.0.0.1", "--port", str(port)], folder, environment):
        wait_for(lambda: _answers(environment["PREFECT_API_URL"] + "/health"), "the Prefect server")
        yield environment


@contextmanager
def running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends; its output goes to a file in the folder."""
    with (folder / f"{Path(command[0]).name}-{command[1]}.log").open("wb") as log:
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


def prefect(environment: Mapping[str, str], *arguments: str) -> str:
    """What a command of Prefect prints, run where prefect.yaml is."""
    done = subprocess.run(
        [str(_PREFECT), *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
    except OSError:
        return False
