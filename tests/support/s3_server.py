"""Real S3 servers, for tests: SeaweedFS, and rclone, which takes conditional writes and ignores them.

Each is one process on free loopback ports, stopped by its process id.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"
READER_KEY, READER_SECRET = "reader-access-key", "reader-secret-key"
"""An identity that may read and list, and not write."""
_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
)
_TRIES = 300


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, and its Iceberg catalog."""

    endpoint: str
    iceberg: str = ""


@contextmanager
def running_s3_server(folder: Path) -> Iterator[S3Server]:
    """Start the server with its data in a folder; stop it at the end."""
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    reader = {
        "name": "reader",
        "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}],
        "actions": ["Read", "List"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity, reader]}))
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    command = [
        _program("weed"),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        "-admin.ui=false",
        "-s3.autoCreateBucket=false",
        "-webdav=false",
        "-master.telemetry=false",
        "-volume.max=2000",
        # It listens on one port, whoever started first; a second server would end over it.
        "-s3.port.lance=0",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment["GOMEMLIMIT"] = "600MiB"
    with _running(command, folder, environment, f"http://127.0.0.1:{ports['s3.port']}", "/healthz") as server:
        yield replace(server, iceberg=f"http://127.0.0.1:{ports['s3.port.iceberg']}")


@contextmanager
def running_pretender(folder: Path) -> Iterator[S3Server]:
    """Start rclone's S3 server on a folder whose subfolders are its buckets; stop it at the end."""
    [port] = free_ports(1)
    buckets = folder / "buckets"
    buckets.mkdir(exist_ok=True)
    command = [_program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-cache-mode", "writes", str(buckets)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with _running(command, folder, environment, f"http://127.0.0.1:{port}", "/") as server:
        yield server


def _program(name: str) -> str:
    """A program that a package of the test extra brings."""
    beside = Path(sys.executable).with_name(name)
    program = str(beside) if beside.exists() else shutil.which(name)
    assert program, f"{name} is not installed; make install brings it"
    return program


@contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str], endpoint: str, health: str
) -> Iterator[S3Server]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            _wait_until_ready(f"{endpoint}{health}", process)
            yield S3Server(endpoint)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(_TRIES):
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # loopback
                return
        except urllib.error.HTTPError:
            return  # It answers, if only that the request is not signed.
        except (urllib.error.URLError, OSError):
            # Waits for the process to end, or for a tenth of a second.
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
    raise AssertionError("the S3 server did not become ready; its log is beside its data")


def free_ports(count: int) -> list[int]:
    """Free loopback ports below 50000: the server adds 10000 to some."""
    found: list[int] = []
    sockets = []
    # From anywhere: two servers that start at once would look at the same ports before either has bound any.
    for port in range(20_000 + secrets.randbelow(20_000), 50_000):
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            candidate.close()
            continue
        sockets.append(candidate)
        found.append(port)
        if len(found) == count:
            break
    for taken in sockets:
        taken.close()
    return found
