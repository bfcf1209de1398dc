"""A running service, a place for a catalog, and runs between them, in this process or in their own."""

import itertools
import json
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ahi_catalog.connectors.settings import MetadataOptions, Quota, Settings
from ahi_catalog.emulator import Emulator, Service, ServiceOptions
from ahi_catalog.pipeline import backfill, metadata, sync
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.verify import job
from tests.faults.child import RunSpec
from tests.faults.place import Place
from tests.faults.witness import Witness
from tests.faults.zygote import Child, Zygote
from tests.support.reference import Row
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY
from tests.support.world import summary

BORN: Final = datetime(2024, 2, 26, tzinfo=UTC)
"""When the data store was created: a leap day lies ahead."""
TODAY: Final = datetime(2024, 3, 2, 12, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
FAST: Final = Quota(rate=100_000, burst=100_000)
METADATA: Final = MetadataOptions(metadata_rate=100_000, metadata_burst=100_000, instances=True)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run in a process of its own ended."""

    code: int
    report: Mapping[str, Any] | None
    error: str


class FaultWorld:
    """One data store and one catalog.

    Args:
        emulator: Running.
        place: Where the catalog shall lie.
        zygote: Forks the runs.
        output: A folder for what they say.
        environment: Of the clients: endpoints and credentials.
        datastore_id: The data store.
    """

    def __init__(
        self,
        emulator: Emulator,
        place: Place,
        zygote: Zygote,
        output: Path,
        *,
        environment: Mapping[str, str],
        datastore_id: str,
    ) -> None:
        self.service = emulator.service
        self.place = place
        self.datastore_id = datastore_id
        self.environment = dict(environment)
        self.late: set[str] = set()
        self._said: dict[str, list[Row]] = {}
        self.settings = Settings(
            catalog=place.url,
            datastore_id=datastore_id,
            quota=FAST,
            metadata=METADATA,
            concurrency=3,
            page_budget=2,
            max_attempts=20,
        )
        self.witness = self._new_witness()
        self._zygote = zygote
        self._output = output
        self._numbers = itertools.count()
        self._emulator = emulator

    def moved(self, place: Place, datastore_id: str | None = None) -> "FaultWorld":
        """The same service with a catalog elsewhere, and a witness that has seen nothing of it.

        Args:
            place: Where the catalog shall lie.
            datastore_id: Another data store of the service.
        """
        moved = object.__new__(FaultWorld)
        moved.__dict__.update(self.__dict__)
        moved.place = place
        if datastore_id:
            moved.datastore_id = datastore_id
            moved._said = {}
            moved.late = set()
        moved.settings = replace(self.settings, catalog=place.url, datastore_id=moved.datastore_id)
        moved.witness = moved._new_witness()
        return moved

    def insert(self, *summaries: dict[str, Any]) -> None:
        """Add image sets."""
        self.service.insert(self.datastore_id, summaries)
        self.witness.note()

    def fill(self, count: int, *, start: datetime = BORN, step: timedelta = timedelta(minutes=13), prefix: str) -> None:
        """Add image sets, one every step, the last three of ten at the same moment."""
        moments = (start + step * (number - max(0, number % 10 - 7)) for number in range(count))
        self.insert(*(summary(f"{prefix}{number:05d}", moment) for number, moment in enumerate(moments)))

    def update(self, name: str, **changes: Any) -> None:
        """Give an image set a new version."""
        self.service.update(self.datastore_id, name.rjust(32, "0"), changes)
        self.witness.note()

    def delete(self, name: str) -> None:
        """Delete an image set."""
        self.service.delete(self.datastore_id, name.rjust(32, "0"))
        self.witness.note()

    def spec(self, job: str = "sync", **changes: Any) -> RunSpec:
        """A run in a process of its own. Changes are those of the specification, or of its settings."""
        ours = {name: changes.pop(name) for name in [*changes] if name in RunSpec.__dataclass_fields__}
        return RunSpec(
            **{
                "job": job,
                "settings": replace(self.settings, **changes),
                "now": self.service.now(),
                "environment": self.environment,
                "output": self._output / f"{next(self._numbers)}",
                **ours,
            }
        )

    def start(self, spec: RunSpec) -> Child:
        """Start it."""
        return self._zygote.start(spec)

    def finish(self, spec: RunSpec, child: Child) -> Ended:
        """How it ended."""
        code = child.wait()
        said = {name: spec.output / name for name in ("stdout", "stderr")}
        text = {name: path.read_text() if path.exists() else "" for name, path in said.items()}
        report = json.loads(text["stdout"]) if code in (0, 130) and text["stdout"] else None
        return Ended(code, report, text["stderr"])

    def run_apart(self, job: str = "sync", **changes: Any) -> Ended:
        """Run in a process of its own, to its end."""
        spec = self.spec(job, **changes)
        return self.finish(spec, self.start(spec))

    def sync(self, stop: threading.Event | None = None, *, now: datetime | None = None, **changes: Any) -> RunReport:
        """Sync in this process."""
        settings = replace(self.settings, **changes)
        clock = self.service.now if now is None else lambda: now
        with self.clients(), open_threads(settings.workers) as executor:
            return sync.sync(settings, executor, stop or threading.Event(), clock=clock)

    def backfill(self, start: datetime, end: datetime, **changes: Any) -> RunReport:
        """Backfill in this process."""
        settings = replace(self.settings, **changes)
        with self.clients(), open_threads(settings.workers) as executor:
            return backfill.backfill(settings, start, end, executor, threading.Event(), clock=self.service.now)

    def read_metadata(self, **changes: Any) -> RunReport:
        """Read metadata in this process."""
        settings = replace(self.settings, **changes)
        with self.clients(), open_threads(settings.workers) as executor:
            return metadata.read_metadata(settings, executor, threading.Event(), clock=self.service.now)

    def verify(self, stop: threading.Event | None = None, **asked: Any) -> RunReport:
        """Verify in this process.

        Args:
            stop: Ends it early.
            asked: Of the request; and what else there is, of the settings.
        """
        request = {name: asked.pop(name) for name in [*asked] if name in job.Request.__dataclass_fields__}
        settings = replace(self.settings, **asked)
        with self.clients(), open_threads(settings.workers) as executor:
            return job.verify(
                settings,
                job.Request(**request),
                executor,
                stop or threading.Event(),
                clock=self.service.now,
            )

    @contextmanager
    def clients(self) -> Iterator[None]:
        """boto3 in this process is led to this world."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @contextmanager
    def on_request(self, call: Callable[[str, int], None]) -> Iterator[None]:
        """Have a function called when a request arrives, with its operation and number, before it is answered."""
        arrived = self.service.arrived
        numbers = itertools.count(1)

        def arrived_and_called(operation: str) -> int:
            call(operation, next(numbers))
            return arrived(operation)

        self.service.arrived = arrived_and_called  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.service.arrived = arrived  # type: ignore[method-assign]

    @contextmanager
    def storm(self, kinds: Sequence[str], chance: float, choice: random.Random) -> Iterator[None]:
        """Requests are spoilt with a probability, while the block runs."""

        def spoil(_: str, __: int) -> None:
            if choice.random() < chance:
                # An answer that comes a second late is past the read timeout.
                self.service.faults.add(choice.choice(kinds), next=1)

        with self.on_request(spoil):
            yield
        self.service.faults.clear()

    def _new_witness(self) -> Witness:
        witness = Witness(
            self.place,
            self.datastore_id,
            lambda: self.service.rows(self.datastore_id),
            self.late,
            self._said,
        )
        witness.note()
        return witness


@contextmanager
def running_world(
    place: Place, zygote: Zygote, output: Path, *, s3_endpoint: str | None = None, **options: Any
) -> Iterator[FaultWorld]:
    """A world whose service behaves as the options say, and whose clock stands still at TODAY."""
    service = Service(ServiceOptions(**{"rate": None, **options}))
    service.clock.freeze(TODAY)
    datastore_id = service.create_datastore(name="faults", created_at=BORN)
    with Emulator(service) as emulator:
        environment = {
            "AWS_ENDPOINT_URL_MEDICAL_IMAGING": emulator.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent/config",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        }
        if s3_endpoint:
            environment["AWS_ENDPOINT_URL_S3"] = s3_endpoint
        yield FaultWorld(emulator, place, zygote, output, environment=environment, datastore_id=datastore_id)
