"""What the benchmarks share: the embedded service in a process of its own, measured commands, goals and tables."""

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from rich.console import Console
from rich.table import Table

from ahi_catalog.emulator import Emulator, Service, ServiceOptions
from ahi_catalog.emulator.idc import RELEASES, load_idc
from ahi_catalog.emulator.metadata import document, instance
from tests.support.event_queue import envelope

ROOT = Path(__file__).parent.parent
AHI_CATALOG = str(Path(sys.executable).with_name("ahi-catalog"))
UNTHROTTLED = ("--rate", "100000", "--burst", "100000", "--concurrency", "8")
_ACCOUNT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the summary: what was measured against what was to reach."""

    what: str
    goal: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """A command's cost, its children included.

    Attributes:
        cpu: Seconds, user and system.
        wall: Seconds.
        peak: Bytes of resident memory at most.
        output: What it printed.
    """

    cpu: float
    wall: float
    peak: int
    output: str

    @property
    def report(self) -> dict[str, Any]:
        """The JSON document that it printed."""
        document: dict[str, Any] = json.loads(self.output)
        return document


class Served:
    """A running service, as the benchmarks talk to it."""

    def __init__(self, pipe: Connection, url: str) -> None:
        self._pipe = pipe
        # Compiled modules are kept, as they are where pip installed them, whatever this shell's habits.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment = kept | {
            "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"),
            "AWS_ENDPOINT_URL_MEDICAL_IMAGING": url,
            **_ACCOUNT,
            "DO_NOT_TRACK": "1",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }

    def ask(self, command: str, *arguments: Any) -> Any:
        """Have the service's process do something: see `_serve`."""
        self._pipe.send((command, arguments))
        return self._pipe.recv()

    def load(self, rows: int | None, *, days: int | None = None, until: datetime | None = None) -> tuple[str, int]:
        """Load the Imaging Data Commons; the data store, and its image sets.

        Args:
            rows: So many of its series; None: all.
            days: As if they had arrived one by one, at the same pace, in so many days; None: as they did.
            until: The end of these days; None: an hour ago, for a sync leaves out what is younger than the settle time.
        """
        store, count = self.ask("load", rows, days, until)
        return str(store), int(count)

    def uniform(self, count: int, instances: int) -> str:
        """A data store of so many image sets of as many instances each."""
        return str(self.ask("uniform", count, instances))

    def queue(self) -> str:
        """A queue of SQS that image sets which arrive are told on; its URL."""
        url, endpoint = self.ask("queue")
        self.environment["AWS_ENDPOINT_URL_SQS"] = endpoint
        return str(url)

    def change(self, store: str, days: Sequence[str], *, new: int, changed: int) -> None:
        """Import so many image sets two seconds ago, and revise others of the given days of createdAt."""
        self.ask("change", store, days, new, changed)


@contextmanager
def serving(**options: Any) -> Iterator[Served]:
    """The embedded service in a process of its own, on the last core."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, options))
    process.start()
    theirs.close()  # so that a service that dies ends the benchmark
    try:
        yield Served(ours, ours.recv())
    finally:
        with suppress(BrokenPipeError):
            ours.send(("stop", ()))
        process.join(30)
        process.kill()


def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    os.sched_setaffinity(0, _CORES[-1:])
    service = Service(ServiceOptions(**options))
    with Emulator(service) as emulator:
        pipe.send(emulator.url)
        while True:
            command, arguments = pipe.recv()
            if command == "stop":
                return
            pipe.send(_COMMANDS[command](service, *arguments))


def _load(service: Service, rows: int | None, days: int | None, until: datetime | None) -> tuple[str, int]:
    store = service.create_datastore(name=f"idc-{rows}", created_at=RELEASES[0])
    load_idc(service, store, rows=rows)
    if days is not None:
        end = until or datetime.now(UTC) - timedelta(hours=1)
        start = end - timedelta(days=days)
        loaded = service.datastore(store).current.values()
        shares = np.random.default_rng(7).random(len(loaded))
        store = service.create_datastore(name=f"even-{rows}", created_at=start)
        service.insert(
            store,
            (
                record.summary() | _at(start + (end - start) * share)
                for record, share in zip(loaded, shares.tolist(), strict=True)
            ),
        )
    return store, len(service.datastore(store).current)


def _at(moment: datetime) -> dict[str, Any]:
    return {"createdAt": moment, "updatedAt": moment, "lastAccessedAt": moment}


def _change(service: Service, store: str, days: Sequence[str], new: int, changed: int) -> None:
    """Import so many image sets two seconds ago, and revise others of the given days of createdAt."""
    now = datetime.now(UTC)
    service.insert(
        store,
        (
            {
                "imageSetId": f"new{number:029d}",
                "version": 1,
                "createdAt": now - timedelta(seconds=2),
                "updatedAt": now - timedelta(seconds=2),
                "DICOMTags": {"DICOMPatientId": f"NEW-{number}"},
            }
            for number in range(new)
        ),
    )
    every = [
        name
        for name, record in service.datastore(store).current.items()
        if datetime.fromtimestamp(record.created / 1e6, UTC).date().isoformat() in days
    ]
    for name in every[:: max(1, len(every) // changed)][:changed]:
        service.update(store, name, {"DICOMTags": {"DICOMStudyId": "revised"}})


def _uniform(service: Service, count: int, instances: int) -> str:
    """So many image sets of an hour ago, each with so many instances of 62 attributes."""
    store = service.create_datastore(name=f"uniform-{count}-{instances}", created_at=RELEASES[0])
    moment = datetime.now(UTC) - timedelta(hours=1)
    service.insert(
        store,
        (
            {"imageSetId": f"{number:032d}", "version": 1, "storageTier": "FREQUENT_ACCESS"} | _at(moment)
            for number in range(count)
        ),
    )
    common: dict[str, Any] = {
        f"AttributeOfSomeKeyword{number}": f"value {number} of some length" for number in range(52)
    }
    common |= {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Rows": 512, "Columns": 512, "KVP": "120 "}
    common |= {"PixelSpacing": ["0.703125", "0.703125"], "SliceThickness": "1.25", "BitsStored": 12}
    bodies = [
        (
            f"1.2.3.{number}",
            instance(
                {**common, "InstanceNumber": f"{number} ", "SliceLocation": str(number * 1.25)},
                "1.2.840.10008.1.2.1",
                [(f"{number:032x}", 524_288)],
            ),
        )
        for number in range(instances)
    ]
    first = next(iter(service.datastore(store).current.values()))
    body = document(first, ({}, {}, {"Modality": "CT", "SeriesInstanceUID": "1.2.3"}), bodies)
    service.datastore(store).describe = lambda _: body
    return store


def _create(service: Service, name: str) -> str:
    return service.create_datastore(name=name, created_at=datetime.now(UTC) - timedelta(days=1))


def _queue(service: Service) -> tuple[str, str]:
    """A queue on moto's SQS; its URL and its endpoint."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # a second of imports, for one benchmark

    del service
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(_ACCOUNT, AWS_ENDPOINT_URL_SQS=f"http://{host}:{port}")
    return boto3.client("sqs").create_queue(QueueName="events")["QueueUrl"], os.environ["AWS_ENDPOINT_URL_SQS"]


def _arrive(service: Service, store: str, seconds: float, rate: float, queue: str | None = None) -> None:
    """Have image sets arrive for a while, so many a second on average, in bursts of one to nine at random times.

    HealthImaging's event of each of them is sent to the queue, if there is one.
    """
    client = boto3.client("sqs") if queue else None

    def insert() -> None:
        numbers, chance = itertools.count(), np.random.default_rng(7)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(chance.exponential(5 / rate))
            burst = [f"new{next(numbers):029d}" for _ in range(chance.integers(1, 10))]
            now = _at(datetime.now(UTC))
            service.insert(store, ({"imageSetId": name, "version": 1, "DICOMTags": {}} | now for name in burst))
            if client:
                bodies = [json.dumps(envelope("Image Set Created", store, name)) for name in burst]
                entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
                client.send_message_batch(QueueUrl=queue, Entries=entries)

    threading.Thread(target=insert, daemon=True).start()


def _requests(service: Service) -> int:
    return sum(service.counters.requests.values())


_COMMANDS: dict[str, Callable[..., Any]] = {
    "load": _load,
    "change": _change,
    "uniform": _uniform,
    "create": _create,
    "arrive": _arrive,
    "queue": _queue,
    "requests": _requests,
}


def measure(command: Sequence[str], served: Served, *, cores: Sequence[int] = ()) -> Measured:
    """Run a command to its end and take what the system says that it cost."""
    with scratch() as folder, tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        figures = folder / "figures.json"
        measured = [sys.executable, "-S", str(ROOT / "benchmarks" / "measuring.py"), str(figures), json.dumps(cores)]
        ended = subprocess.run(
            [*measured, *command], stdout=output, stderr=errors, env=served.environment, cwd=ROOT, check=False
        )
        output.seek(0)
        errors.seek(0)
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read()[-2000:]}")
        return Measured(**json.loads(figures.read_text("utf-8")), output=output.read())


def sync(served: Served, store: str, catalog: Path, *options: str, cores: Sequence[int] = ()) -> Measured:
    """`ahi-catalog sync` on plain threads."""
    command = [AHI_CATALOG, "sync", "--catalog", str(catalog), "--datastore-id", store, "--no-prefect", "--json"]
    return measure([*command, *options], served, cores=cores)


def first_core() -> list[int]:
    """The core that the service is not on."""
    return _CORES[:1]


def size_of(folder: Path, suffix: str = ".parquet") -> int:
    """Bytes of the files of a kind."""
    return sum(path.stat().st_size for path in folder.rglob(f"*{suffix}"))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ahi-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def arguments(description: str | None, **sizes: tuple[int | None, str]) -> argparse.Namespace:
    """Parse a benchmark's sizes, and where to write its goals.

    Args:
        description: The benchmark's docstring.
        sizes: Default and help of each size.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    for name, (default, text) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text}; {default or 'all'} by default")
    parser.add_argument("--json", type=Path, help="write the goals there")
    return parser.parse_args()


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on the terminal."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def conclude(goals: Sequence[Goal], file: Path | None) -> None:
    """Show the goals, and keep them for `run.py`."""
    show(
        "Goals",
        ["what", "goal", "measured", "met"],
        [(g.what, g.goal, g.measured, "yes" if g.met else "NO") for g in goals],
    )
    if file:
        file.write_text(json.dumps([asdict(goal) for goal in goals], indent=1) + "\n")
