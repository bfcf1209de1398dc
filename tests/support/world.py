"""A data store on a running service, a catalog folder, and runs on plain threads."""

import itertools
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ahi_catalog.connectors.catalog import Partition, Unit
from ahi_catalog.connectors.settings import Quota, Settings
from ahi_catalog.emulator import Service
from ahi_catalog.pipeline import backfill, sync, watch
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.verify import job
from ahi_catalog.schemas import IMAGE_SETS
from tests.support.reference import expected_rows, read_folder

BORN = datetime(2024, 1, 1, tzinfo=UTC)
TODAY = datetime(2024, 6, 1, 12, tzinfo=UTC)
FAST = Quota(rate=100_000, burst=100_000)


class Script:
    """A wake of a watch that moves the clock in place of waiting, and stops the watch after so many passes.

    Attributes:
        told: Image sets to tell the watch of as deleted.
        existing: Those of them that the watch said are still there.
    """

    def __init__(self, service: Service, stop: threading.Event, between: Callable[[int], object], passes: int) -> None:
        self.told: list[str] = []
        self.existing: list[str] = []
        self._service = service
        self._stop = stop
        self._between = between
        self._passes = passes
        self._made = 0

    def wait(self, seconds: float) -> None:
        self._made += 1
        self._between(self._made)
        self._service.advance(timedelta(seconds=seconds))
        if self._made >= self._passes:
            self._stop.set()

    def deleted(self) -> list[str]:
        return list(self.told)

    def awaited(self) -> list[str]:
        return []

    def published(self, waiting: Collection[str], report: RunReport) -> None:
        del report
        self.existing += waiting
        self.told.clear()


class World:
    """A data store on a running service, a catalog folder, and a clock that both ends share.

    Attributes:
        service: The service.
        datastore_id: Its one data store, created at BORN.
        catalog: A folder for the catalog; not there yet.
        settings: Of a run that the quota does not slow down.
    """

    def __init__(self, service: Service, catalog: Path) -> None:
        self.service = service
        self.catalog = catalog
        service.clock.freeze(TODAY)
        self.datastore_id = service.create_datastore(name="world", created_at=BORN)
        self.settings = Settings(catalog=str(catalog), datastore_id=self.datastore_id, quota=FAST, concurrency=8)

    def sync(self, stop: threading.Event | None = None, **changes: Any) -> RunReport:
        """Sync on plain threads."""
        with open_threads(8) as executor:
            return sync.sync(
                replace(self.settings, **changes), executor, stop or threading.Event(), clock=self.service.now
            )

    def backfill(self, start: datetime, end: datetime, **changes: Any) -> RunReport:
        """Backfill on plain threads."""
        with open_threads(8) as executor:
            return backfill.backfill(
                replace(self.settings, **changes), start, end, executor, threading.Event(), clock=self.service.now
            )

    def verify(self, stop: threading.Event | None = None, settings: Settings | None = None, **asked: Any) -> RunReport:
        """Verify on plain threads."""
        with open_threads(8) as executor:
            return job.verify(
                settings or self.settings,
                job.Request(**asked),
                executor,
                stop or threading.Event(),
                clock=self.service.now,
            )

    def watch(
        self, between: Callable[[int], object], passes: int, *, with_metadata: bool = False, **changes: Any
    ) -> RunReport:
        """Watch on plain threads; the clock moves from pass to pass.

        Args:
            between: Called after each pass with its number, from 1.
            passes: How many there are.
            with_metadata: Whether it reads metadata too.
            changes: Of the settings.
        """
        stop = threading.Event()
        settings = replace(self.settings, **changes)
        with open_threads(8) as executor:
            wake = Script(self.service, stop, between, passes)
            return watch.watch(settings, executor, stop, with_metadata=with_metadata, wake=wake, clock=self.service.now)

    def object(self, day: date) -> Path:
        """The data object of a day."""
        partition = Partition(self.datastore_id, Unit.DAY, day)
        return self.catalog / partition.key(IMAGE_SETS)

    def fill(
        self, count: int, *, start: datetime = BORN, step: timedelta = timedelta(minutes=7), prefix: str = "a"
    ) -> None:
        """Insert image sets, one every step; every tenth shares its createdAt with the nine before."""
        self.service.insert(
            self.datastore_id,
            (summary(f"{prefix}{number:07d}", start + step * (number - number % 10)) for number in range(count)),
        )

    def on_metadata(self, number: int, act: Callable[[], None]) -> None:
        """Act when metadata is asked for the so-manieth time, before that is answered."""
        store = self.service.datastore(self.datastore_id)
        describe, asked = store.describe, itertools.count(1)

        def act_and_describe(record: Any) -> bytes:
            if next(asked) == number:
                act()
            return describe(record)

        store.describe = act_and_describe

    def rows(self) -> dict[str, dict[str, Any]]:
        """The catalog's rows, by image set id."""
        return read_folder(self.catalog)

    def assert_catalog_equals_service(self) -> None:
        """The catalog has exactly one row for each image set, with every value as the service has it."""
        expected = expected_rows(self.service.rows(self.datastore_id))
        found = read_folder(self.catalog)
        assert found.keys() == expected.keys()
        different = [name for name in expected if found[name] != expected[name]]
        assert not different, f"{len(different)} rows differ from the service"


def summary(name: str, created_at: datetime, **tags: Any) -> dict[str, Any]:
    """A summary as SearchImageSets lists it; times as datetimes.

    Args:
        name: Letters and digits, at most 32; padded to an image set id.
        created_at: Also its updatedAt.
        tags: More DICOM tags, without their prefix.
    """
    return {
        "imageSetId": name.rjust(32, "0"),
        "version": 1,
        "createdAt": created_at,
        "updatedAt": created_at,
        "lastAccessedAt": created_at + timedelta(microseconds=1),
        "storageTier": "FREQUENT_ACCESS",
        "isPrimary": True,
        "DICOMTags": {
            "DICOMPatientId": f"P-{name}",
            "DICOMPatientName": f"Tester^{name}",
            "DICOMStudyInstanceUID": f"1.2.3.{len(name)}",
            "DICOMStudyDate": "20240229",
            "DICOMStudyTime": "235959.999999",
            "DICOMSeriesNumber": -1,
            **{f"DICOM{key}": value for key, value in tags.items()},
        },
    }
