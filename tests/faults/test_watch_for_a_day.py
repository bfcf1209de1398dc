"""Ten thousand passes on a clock of its own, fewer in the short form: what a watch costs, and that it keeps nothing."""

import gc
import json
import threading
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.settings import Quota, Settings
from ahi_catalog.connectors.storage.local import LocalStore
from ahi_catalog.pipeline import watch
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import RunReport
from tests.faults.scale import IS_FULL

PASSES = 10_000 if IS_FULL else 600
EVERY = timedelta(seconds=8.64)
DATASTORE = "0" * 32
QUOTA = Quota(rate=1e9, burst=10**9)


class Day:
    """A service in memory, its clock, and the wake that moves it: an image set arrives every twentieth pass."""

    def __init__(self, stop: threading.Event) -> None:
        self.now = datetime(2024, 6, 1, tzinfo=UTC)
        self.requests: Counter[str] = Counter()
        self.objects: list[int] = []
        self.arrow: list[int] = []
        self._stop = stop
        self._born = self.now
        self._created: list[float] = []
        self._waits = 0

    def search_image_sets(self, **request: Any) -> dict[str, Any]:
        self.requests["search"] += 1
        if "searchCriteria" not in request:
            return self._answer({"imageSetsMetadataSummaries": []})
        criteria = request["searchCriteria"]
        [filtered] = criteria["filters"]
        low, high = (next(iter(value.values())).timestamp() for value in filtered["values"])
        # The newest come last; a page is enough for those of the last two minutes, and few for a day's.
        first = int(request.get("nextToken", 0))
        found = [(number, at) for number, at in enumerate(self._created) if low <= at <= high][first : first + 50]
        summaries = [
            {"imageSetId": f"{number:032d}", "version": 1, "createdAt": at, "updatedAt": at, "DICOMTags": {}}
            for number, at in found
        ]
        token = {"nextToken": str(first + 50)} if len(found) == 50 else {}
        return self._answer({"imageSetsMetadataSummaries": summaries, "sort": criteria["sort"], **token})

    def get_datastore(self, **_: Any) -> dict[str, Any]:
        return {**self._answer({}), "datastoreProperties": {"createdAt": self._born}}

    def get_image_set(self, **_: Any) -> dict[str, Any]:
        raise AssertionError("nothing was deleted")

    def get_image_set_metadata(self, **_: Any) -> dict[str, Any]:
        raise AssertionError("nobody asked for metadata")

    def list_datastores(self, **_: Any) -> dict[str, Any]:
        raise AssertionError("nobody asked for all data stores")

    def wait(self, seconds: float) -> None:
        self._waits += 1
        self.now += timedelta(seconds=seconds)
        if self._waits % 20 == 0:
            self._created.append(self.now.timestamp() - 1)
        if self._waits in {PASSES // 2, PASSES}:
            gc.collect()
            self.objects.append(len(gc.get_objects()))
            self.arrow.append(pa.total_allocated_bytes())
        if self._waits >= PASSES:
            self._stop.set()

    def deleted(self) -> Collection[str]:
        return ()

    def awaited(self) -> Collection[str]:
        return ()

    def published(self, waiting: Collection[str], report: RunReport) -> None:
        assert not waiting
        assert report.flow == "watch"

    def _answer(self, document: dict[str, Any]) -> dict[str, Any]:
        headers = {"date": format_datetime(self.now, usegmt=True)}
        return {"RawBody": json.dumps(document).encode(), "ResponseMetadata": {"HTTPHeaders": headers}}


@pytest.mark.timeout(1800)
def test_ten_thousand_passes_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests, puts and memory of a day: two requests a pass, a put for each arrival, a heartbeat a minute."""
    puts: Counter[str] = Counter()
    put = LocalStore.put

    def put_and_count(store: LocalStore, key: str, body: bytes, *, expected: str | None) -> str:
        puts[key.rpartition("/")[2] if "/runs/" not in key else "runs"] += 1
        return put(store, key, body, expected=expected)

    monkeypatch.setattr(LocalStore, "put", put_and_count)
    monkeypatch.setattr("os.fsync", lambda _: None)
    stop = threading.Event()
    day = Day(stop)
    settings = Settings(catalog=str(tmp_path / "catalog"), datastore_id=DATASTORE, quota=QUOTA, every=EVERY)
    with open_threads(2) as executor:
        connection = Connection(day, Limiter(QUOTA), Limiter(QUOTA))
        watch.watch(settings, executor, stop, wake=day, clock=lambda: day.now, connection=connection)
    arrivals, hours = PASSES // 20, PASSES * EVERY / timedelta(hours=1)
    assert arrivals - 2 <= puts["image-sets.parquet"] <= arrivals
    assert puts["watch.json"] <= hours * 60 + 2
    assert puts["checkpoint.json"] <= 2 * hours * 12 + 24
    assert hours <= puts["runs"] <= hours + 1
    assert day.requests["search"] <= 2.1 * PASSES
    # What arrived since is kept by the test itself.
    assert day.objects[1] - day.objects[0] < 2_000
    assert day.arrow[1] - day.arrow[0] < 100_000
