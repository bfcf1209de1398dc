"""Reading metadata: incremental, newest first, within the tier guard, resumable, beside whatever else runs."""

import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ahi_catalog.connectors.catalog import open_catalog, open_store, parquet
from ahi_catalog.connectors.catalog.verification import Finding, Verification
from ahi_catalog.connectors.errors import AhiCatalogError, SourceError, UsageError
from ahi_catalog.connectors.healthimaging.metadata import Left
from ahi_catalog.connectors.settings import MetadataOptions
from ahi_catalog.emulator.dicom_files import load_dicom_files
from ahi_catalog.pipeline import metadata
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.schemas import IMAGE_SETS, INSTANCES, SERIES, Table
from tests.support.world import TODAY, World

FAST = MetadataOptions(metadata_rate=100_000, metadata_burst=100_000)
RECENT = TODAY - timedelta(days=20)


@pytest.fixture
def world(make_world: Any) -> World:
    made: World = make_world()
    made.settings = replace(made.settings, metadata=FAST)
    return made


def read(world: World, stop: threading.Event | None = None, **asked: Any) -> RunReport:
    settings = replace(world.settings, metadata=replace(FAST, **asked))
    with open_threads(8) as executor:
        return metadata.read_metadata(settings, executor, stop or threading.Event(), clock=world.service.now)


def rows(world: World, table: Table = SERIES) -> list[dict[str, Any]]:
    """All rows of a table of the catalog."""
    files = sorted((world.catalog / table.name).rglob("*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    return [row for found in tables for row in found.to_pylist()]


def origins(world: World, table: Table = SERIES) -> set[tuple[str, int]]:
    return {(row["image_set_id"], row[table.version[0]]) for row in rows(world, table)}


def verified(world: World, **asked: Any) -> Verification:
    found = world.verify(**asked).verification
    assert found is not None
    return found


def requests(world: World) -> int:
    made = world.service.counters.requests.get("GetImageSetMetadata", 0)
    world.service.reset_counters()
    return made


def test_each_image_set_is_read_once(world: World) -> None:
    """One request an image set; a run with nothing new makes none, and writes nothing."""
    world.fill(120, start=RECENT)
    world.sync()
    report = read(world)
    assert (report.rows_read, report.new, requests(world)) == (120, 120, 120)
    assert origins(world) == origins(world, IMAGE_SETS)
    before = {path: path.stat().st_mtime_ns for path in world.catalog.rglob("*.parquet")}
    again = read(world)
    assert (again.rows_read, again.partitions_written, requests(world)) == (0, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in world.catalog.rglob("*.parquet")} == before


def test_what_changes_is_read_again_and_what_goes_is_dropped(world: World) -> None:
    """A new version takes the place of the old one, a deleted image set leaves, a late one arrives."""
    world.fill(40, start=RECENT)
    world.sync()
    read(world)
    requests(world)
    store = world.datastore_id
    world.service.update(store, "a0000003".rjust(32, "0"), {"DICOMTags": {"DICOMSeriesModality": "MR"}})
    world.service.delete(store, "a0000004".rjust(32, "0"))
    world.fill(1, start=RECENT + timedelta(days=1), prefix="late")
    world.service.advance(timedelta(hours=1))
    world.sync()
    world.backfill(RECENT - timedelta(days=1), TODAY)
    report = read(world)
    assert (report.new, report.updated, report.removed, requests(world)) == (1, 1, 1, 2)
    assert origins(world) == origins(world, IMAGE_SETS)
    [changed] = [row for row in rows(world) if row["image_set_id"].endswith("a0000003")]
    assert (changed["image_set_version"], changed["modality"]) == (2, "MR")


def test_the_newest_are_read_first(world: World) -> None:
    """Days from the last one back, and within a day the newest image sets."""
    world.fill(200, start=RECENT, step=timedelta(minutes=30))
    world.sync()
    asked: list[str] = []
    stop = threading.Event()
    with open_threads(1) as executor:
        settings = replace(world.settings, concurrency=1)
        describe = world.service.datastore(world.datastore_id).describe

        def note(record: Any) -> bytes:
            asked.append(record.image_set_id)
            return describe(record)

        world.service.datastore(world.datastore_id).describe = note
        metadata.read_metadata(settings, executor, stop, clock=world.service.now)
    created = {row["image_set_id"]: row["created_at"] for row in rows(world, IMAGE_SETS)}
    moments = [created[each] for each in asked]
    assert moments == sorted(moments, reverse=True)


def test_archived_image_sets_are_left_alone(world: World) -> None:
    """Neither what the catalog has in the archive, nor what nobody touched for 30 days, unless it is asked for."""
    world.fill(30, start=RECENT)
    world.fill(30, start=TODAY - timedelta(days=60), prefix="old")
    for number in range(10):
        world.service.update(
            world.datastore_id,
            f"a{number:07d}".rjust(32, "0"),
            {"storageTier": "ARCHIVE_INSTANT_ACCESS"},
            new_version=False,
        )
    world.sync()
    report = read(world)
    assert report.metadata is not None
    assert (report.rows_read, report.metadata.total(Left.ARCHIVED), requests(world)) == (20, 40, 20)
    tiers = [row["storageTier"] for row in world.service.rows(world.datastore_id)]
    assert tiers.count("ARCHIVE_INSTANT_ACCESS") == 10
    assert read(world, archived=True).rows_read == 40
    assert origins(world) == origins(world, IMAGE_SETS)


def test_what_reaches_the_archive_while_a_run_reads_is_left_alone(world: World) -> None:
    """A long run goes by the time at which it reads, and in a partition by when the last of it is read."""
    world.fill(30, start=TODAY - timedelta(days=28), step=timedelta(), prefix="new")
    world.fill(30, start=TODAY - timedelta(days=30, hours=-1), step=timedelta())
    world.sync()
    store = world.service.datastore(world.datastore_id)
    describe = store.describe

    def slow(record: Any) -> bytes:
        world.service.advance(timedelta(minutes=5))
        return describe(record)

    store.describe = slow
    with open_threads(1) as executor:
        settings = replace(world.settings, concurrency=1)
        report = metadata.read_metadata(settings, executor, threading.Event(), clock=world.service.now)
    assert report.metadata is not None
    assert (report.rows_read, report.metadata.total(Left.ARCHIVED)) == (30, 30)


def test_what_would_reach_the_archive_before_it_is_read_is_left_alone(world: World) -> None:
    """Of a day that takes longer to read than it has left."""
    world.fill(10, start=TODAY - timedelta(days=30, hours=-1), step=timedelta())
    world.sync()
    report = read(world, metadata_rate=9 / 3600)
    assert report.metadata is not None
    assert (report.rows_read, report.metadata.total(Left.ARCHIVED)) == (0, 10)
    assert read(world).rows_read == 10


def test_real_files_have_their_facts_and_instances(world: World) -> None:
    """pydicom's files: series and instances of all of them, joined with `image_sets` by key."""
    load_dicom_files(world.service, world.datastore_id)
    world.sync()
    read(world, archived=True, instances=True, keyword=("ExposureTime",))
    series = {row["image_set_id"]: row for row in rows(world)}
    image_sets = {row["image_set_id"]: row for row in rows(world, IMAGE_SETS)}
    assert series.keys() == image_sets.keys()
    for image_set_id, row in series.items():
        for name in ("series_instance_uid", "created_at"):
            assert (row[name] or None) == (image_sets[image_set_id][name] or row[name])
        assert set(json.loads(row["attributes"])) == {"ExposureTime"}
    counted = sum(row["instances"] for row in series.values())
    assert counted == len(rows(world, INSTANCES))
    assert {"GE Medical Systems", "SIEMENS"} <= {row["manufacturer"] for row in series.values()}


def test_what_is_kept_is_fixed_and_may_grow(world: World) -> None:
    """A new keyword, and the table of instances, have what was read before read again; later runs keep both."""
    world.fill(12, start=RECENT)
    world.sync()
    read(world)
    requests(world)
    assert read(world, keyword=("ExposureTime",)).updated == 12
    assert read(world, instances=True).rows_read == 12
    assert read(world).rows_read == 0
    assert requests(world) == 24
    world.fill(1, start=TODAY - timedelta(hours=1), prefix="b")
    world.sync()
    assert read(world).new == 2  # a series and its instance
    description = open_catalog(open_store(str(world.catalog))).description
    assert (dict(description.keywords), description.has_instances) == ({"ExposureTime": "IS"}, True)
    with pytest.raises(UsageError, match="Nonsense is no keyword"):
        read(world, keyword=("Nonsense",))


@pytest.mark.parametrize("fault", ["throttle", "500", "reset", "cut", "garble", "garble_bytes", "shorten", "conflict"])
def test_a_spoilt_answer_is_asked_for_again(world: World, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to a few answers, every image set has its series in the end."""
    monkeypatch.setattr("ahi_catalog.connectors.healthimaging.source.BACKOFF", lambda _: 0.0)
    world.fill(30, start=RECENT)
    world.sync()
    for at in (1, 7, 30):
        world.service.faults.add(fault, at=at, operation="GetImageSetMetadata")
    report = read(world)
    assert report.rows_read == 30
    assert report.counts.throttles + report.counts.retries == 3
    assert origins(world) == origins(world, IMAGE_SETS)


def test_what_cannot_be_read_is_counted_by_partition(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Metadata that is not of its form, in every try, is left out, counted and nowhere quoted."""
    world.fill(20, start=RECENT)
    world.sync()
    store = world.service.datastore(world.datastore_id)
    describe = store.describe
    bad = "a0000003".rjust(32, "0")
    store.describe = lambda record: b'{"Secret^Name"' if record.image_set_id == bad else describe(record)
    report = read(world)
    assert report.metadata is not None
    assert (report.rows_read, dict(report.metadata.left[Left.MALFORMED])) == (19, {f"{RECENT:%Y-%m-%d}": 1})
    assert "Secret" not in caplog.text + str(report.document())
    assert bad not in caplog.text
    store.describe = describe
    assert read(world).rows_read == 1


def test_what_is_gone_or_not_ready_is_left_for_later(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted since the sync, or just imported: counted, no failure; the next run reads what is ready by then."""
    monkeypatch.setattr("ahi_catalog.connectors.healthimaging.source.BACKOFF", lambda _: 0.0)
    world: World = make_world(metadata_lag=60)
    world.fill(10, start=RECENT)
    world.fill(2, start=TODAY - timedelta(seconds=30), step=timedelta(seconds=1), prefix="new")
    world.sync(settle=timedelta())
    world.service.delete(world.datastore_id, "a0000003".rjust(32, "0"))
    report = read(world)
    assert report.metadata is not None
    assert (report.rows_read, report.metadata.total(Left.GONE), report.metadata.total(Left.NOT_READY)) == (9, 1, 2)
    assert requests(world) == 10 + 2 * 6
    world.service.advance(timedelta(minutes=2))
    assert read(world).rows_read == 2


def test_a_stop_publishes_what_was_read_and_the_next_run_resumes(world: World) -> None:
    """Between two image sets; nothing is lost, nothing is read twice."""
    world.fill(150, start=RECENT)
    world.sync()
    stop = threading.Event()
    world.on_metadata(60, stop.set)
    first = read(world, stop)
    assert first.outcome is Outcome.STOPPED
    assert 60 <= first.rows_read < 150
    assert len(rows(world)) == first.rows_read
    second = read(world)
    assert first.rows_read + second.rows_read == 150
    assert origins(world) == origins(world, IMAGE_SETS)


def test_a_failure_publishes_what_was_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused request ends the run in one line; what other requests brought is there."""
    monkeypatch.setattr(metadata, "_CHUNK", 5)
    world.fill(100, start=RECENT)
    world.sync()
    world.service.faults.add("access_denied", at=60, operation="GetImageSetMetadata")
    with pytest.raises(SourceError, match="allow medical-imaging:GetImageSetMetadata"):
        read(world)
    assert 0 < len(rows(world)) < 100
    read(world)
    assert origins(world) == origins(world, IMAGE_SETS)


def test_runs_may_overlap(world: World) -> None:
    """Two readings, a sync and a backfill at once: one row a series."""
    world.fill(100, start=RECENT)
    world.sync()
    world.fill(20, start=RECENT, prefix="b")
    errors: list[AhiCatalogError] = []

    def job(run: Any) -> None:
        try:
            run()
        except AhiCatalogError as error:
            errors.append(error)

    jobs = [lambda: read(world), lambda: read(world), world.sync, lambda: world.backfill(RECENT, TODAY)]
    threads = [threading.Thread(target=job, args=(each,)) for each in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    read(world)
    found = [(row["image_set_id"], row["series_instance_uid"]) for row in rows(world)]
    assert len(found) == len(set(found))
    assert origins(world) == origins(world, IMAGE_SETS)


def test_a_row_is_not_ahead_of_image_sets(world: World) -> None:
    """What was deleted from the catalog while it was read is not published."""
    world.fill(10, start=RECENT)
    world.sync()
    day = world.object(RECENT.date())
    store = world.service.datastore(world.datastore_id)
    describe = store.describe

    def meanwhile(record: Any) -> bytes:
        body = pq.ParquetFile(day).read()
        pq.write_table(body.filter(pa.array([row.endswith("5") for row in body["image_set_id"].to_pylist()])), day)
        return describe(record)

    store.describe = meanwhile
    read(world)
    assert origins(world) <= origins(world, IMAGE_SETS)


def test_a_verify_finds_what_is_left_of_image_sets_that_are_gone(world: World) -> None:
    """Rows of `series` and `instances` without an image set, and objects that are damaged; repaired, no request."""
    world.fill(10, start=RECENT)
    world.sync()
    read(world, instances=True)
    assert verified(world).totals == Counter()
    for number in (3, 4):
        world.service.delete(world.datastore_id, f"a000000{number}".rjust(32, "0"))
    world.verify(is_repairing=True)
    assert origins(world, SERIES) == origins(world, INSTANCES) == origins(world, IMAGE_SETS)
    day = f"{RECENT:%Y-%m-%d}"
    path = world.object(RECENT.date())
    body = pq.ParquetFile(path).read()
    parquet_of = path.parents[3] / "series" / path.parent.relative_to(path.parents[2]) / "series.parquet"
    series = pq.ParquetFile(parquet_of).read()
    extra = series.slice(0, 1).set_column(0, series.schema.field(0), pa.array(["f" * 32]))
    parquet_of.write_bytes(parquet.encode(SERIES, pa.concat_tables([series, extra])))
    requests(world)
    found = verified(world)
    assert found.findings == {f"series {day}": Counter({Finding.DELETED: 1})}
    assert found.places is not None
    assert (found.unrepaired, found.places.windows[0].start.date()) == (1, RECENT.date())
    assert world.verify(is_repairing=True).unrepaired == 0
    assert len(rows(world)) == len(body) == 8
    parquet_of.write_bytes(b"no Parquet")
    assert verified(world).findings == {f"series {day}": Counter({Finding.UNREADABLE: 1})}
    assert world.verify(is_repairing=True).unrepaired == 0
    assert requests(world) == 0
    assert read(world).rows_read == 8
    assert origins(world) == origins(world, IMAGE_SETS)


def test_there_has_to_be_a_catalog(world: World) -> None:
    """Without one there is nothing to read the metadata of, and nothing is made."""
    with pytest.raises(UsageError, match="there is no catalog"):
        read(world)
    assert not Path(world.catalog).exists() or not any(Path(world.catalog).iterdir())
