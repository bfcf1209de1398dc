"""Verify with metadata: what the tables of metadata say, against what the service says now; and what it never reads."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.catalog.verification import Finding, Verification
from ahi_catalog.connectors.errors import SourceError
from ahi_catalog.connectors.healthimaging.metadata import Left
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.pipeline.verify import job
from ahi_catalog.schemas import IMAGE_SETS, INSTANCES, SERIES, Table
from tests.pipeline.test_metadata import FAST, RECENT, origins, read, requests, rows
from tests.support.world import TODAY, World

DAY = f"{RECENT + timedelta(days=1):%Y-%m-%d}"
"""The second of two days; they have 30 and 20 image sets."""


@pytest.fixture
def world(make_world: Any) -> World:
    """Some image sets, their series and their instances."""
    made: World = make_world()
    made.settings = replace(made.settings, metadata=FAST)
    made.fill(50, start=RECENT.replace(hour=0), step=timedelta(hours=1))
    made.sync()
    read(made, instances=True)
    requests(made)
    return made


def verified(world: World, stop: threading.Event | None = None, **asked: Any) -> tuple[RunReport, Verification]:
    report = world.verify(stop, **{"share": 1.0, **asked})
    assert report.verification is not None
    return report, report.verification


def compared(report: RunReport) -> int:
    assert report.metadata is not None
    return report.metadata.compared


def object_of(world: World, table: Table, day: str = DAY) -> Path:
    [path] = world.catalog.glob(f"{table.name}/*/created_date={day}/*.parquet")
    return path


def rewrite(table: Table, change: Callable[[pa.Table], pa.Table]) -> Callable[[World], None]:
    def damage(world: World) -> None:
        path = object_of(world, table)
        path.write_bytes(parquet.encode(table, change(parquet.decode(table, path.read_bytes()))))

    return damage


def with_value(name: str, value: object, count: int = 2) -> Callable[[pa.Table], pa.Table]:
    """Another value in the first rows of a column."""

    def change(found: pa.Table) -> pa.Table:
        values = [value] * count + found[name].to_pylist()[count:]
        index = found.column_names.index(name)
        return found.set_column(index, found.schema.field(name), pa.array(values, found.schema.field(name).type))

    return change


DAMAGES: dict[str, tuple[Callable[[World], object], dict[str, Counter[Finding]]]] = {
    "a value of a series altered": (
        rewrite(SERIES, with_value("manufacturer", "Other")),
        {f"series {DAY}": Counter({Finding.ALTERED: 2})},
    ),
    "every manufacturer altered": (
        rewrite(SERIES, lambda found: with_value("manufacturer", "Other", len(found))(found)),
        {f"series {DAY}": Counter({Finding.ALTERED: 20})},
    ),
    "a list altered": (
        rewrite(SERIES, with_value("sop_class_uid", ["1.2"])),
        {f"series {DAY}": Counter({Finding.ALTERED: 2})},
    ),
    "a value of an instance lost": (
        rewrite(INSTANCES, with_value("bytes", None)),
        {f"instances {DAY}": Counter({Finding.ALTERED: 2})},
    ),
    "an earlier version": (
        rewrite(SERIES, with_value("image_set_version", 0)),
        {f"series {DAY}": Counter({Finding.STALE: 2})},
    ),
    "rows of series lost": (
        rewrite(SERIES, lambda found: found.slice(3)),
        {f"series {DAY}": Counter({Finding.MISSING: 3})},
    ),
    "rows of instances lost": (
        rewrite(INSTANCES, lambda found: found.slice(3)),
        {f"instances {DAY}": Counter({Finding.MISSING: 3})},
    ),
    "an object lost": (
        lambda world: object_of(world, SERIES).unlink(),
        {f"series {DAY}": Counter({Finding.MISSING: 20})},
    ),
    "a row of no series": (
        rewrite(
            SERIES,
            lambda found: pa.concat_tables([found, with_value("series_instance_uid", "1.9.9")(found).slice(0, 1)]),
        ),
        {f"series {DAY}": Counter({Finding.DELETED: 1})},
    ),
}


def test_a_sound_catalog_is_found_sound(world: World) -> None:
    """Each image set is read once, and nothing is written; without metadata none is read."""
    before = {path: path.stat().st_mtime_ns for path in world.catalog.rglob("*.parquet")}
    report, found = verified(world)
    assert (found.findings, compared(report), requests(world)) == ({}, 50, 50)
    assert world.verify().metadata is None
    assert requests(world) == 0
    assert {path: path.stat().st_mtime_ns for path in world.catalog.rglob("*.parquet")} == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_mended(world: World, name: str) -> None:
    """By kind and place; it is left as it is, then mended, and sound afterwards."""
    damage, expected = DAMAGES[name]
    before = {table: rows(world, table) for table in (SERIES, INSTANCES)}
    damage(world)
    report, found = verified(world)
    assert found.findings == expected
    assert report.difference is not None
    assert "verify it and its metadata with `repair` from" in report.difference
    _, mended = verified(world, is_repairing=True)
    assert (mended.findings, mended.unrepaired) == (expected, 0)
    assert {table: rows(world, table) for table in (SERIES, INSTANCES)} == before
    assert verified(world)[1].findings == {}


def test_archived_image_sets_are_never_read(world: World) -> None:
    """Neither by their tier nor by their age, by a repair neither; they are counted, and stay where they are."""
    world.fill(20, start=TODAY - timedelta(days=60), prefix="old")
    world.sync(look_back=timedelta(days=90))
    read(world, archived=True)
    names = [f"{kind}{number:07d}".rjust(32, "0") for kind in ("a", "old") for number in range(10)]
    for name in names:
        archived = {"storageTier": "ARCHIVE_INSTANT_ACCESS"}
        world.service.update(world.datastore_id, name, archived, new_version=False)
    # Of the old ones the catalog says that they are frequent still.
    world.sync(look_back=timedelta(days=30))
    requests(world)
    for is_repairing in (False, True):
        report, found = verified(world, is_repairing=is_repairing)
        assert report.metadata is not None
        assert (found.findings, compared(report), report.metadata.total(Left.ARCHIVED)) == ({}, 40, 30)
    assert requests(world) == 80
    tiers = {row["imageSetId"]: row["storageTier"] for row in world.service.rows(world.datastore_id)}
    assert {tiers[name] for name in names} == {"ARCHIVE_INSTANT_ACCESS"}


def test_a_sample_is_spread_over_the_partitions(world: World) -> None:
    """Ten at least of each, of those of a part alone; a repair reads the sample that something was found in."""
    report, found = verified(world, share=0.01)
    assert (compared(report), requests(world)) == (20, 20)
    parts = [verified(world, share=0.01, part=f"{number}/2")[0] for number in (1, 2)]
    assert [compared(part) for part in parts] == [10, 10]
    DAMAGES["every manufacturer altered"][0](world)
    _, found = verified(world, share=0.01)
    assert found.totals == Counter({Finding.ALTERED: 10})
    assert found.places is not None
    [wrong] = found.places.windows
    _, mended = verified(world, share=0.01, is_repairing=True, start=wrong.start, end=wrong.end)
    assert mended.totals == found.totals
    assert Counter(row["manufacturer"] for row in rows(world))["Other"] == 10
    assert verified(world, share=0.01)[1].seed != found.seed


def test_what_changed_since_the_reading_is_no_difference(world: World) -> None:
    """The next reading brings it, and so does a repair, of what was read before."""
    changed = "a0000030".rjust(32, "0")
    world.service.advance(timedelta(hours=1))
    world.service.update(world.datastore_id, changed, {"DICOMTags": {"DICOMSeriesModality": "MR"}})
    world.fill(1, start=world.service.now(), prefix="new")
    world.service.advance(timedelta(hours=1))
    world.sync()
    report, found = verified(world)
    assert (found.findings, compared(report)) == ({}, 49)
    report, found = verified(world, is_repairing=True)
    stale = {f"{table} {DAY}": {Finding.STALE: 1} for table in ("series", "instances")}
    assert (found.findings, compared(report)) == (stale, 50)
    assert origins(world) == origins(world, INSTANCES)
    assert (changed, 2) in origins(world)


@pytest.mark.parametrize("more", [{"keyword": ("ExposureTime",)}, {"instances": True}])
def test_what_the_catalog_is_to_keep_from_now_on_is_no_difference(make_world: Any, more: dict[str, Any]) -> None:
    """Before a reading has brought it everywhere, that is; it may take hours, or end early."""
    world: World = make_world()
    world.settings = replace(world.settings, metadata=FAST)
    world.fill(30, start=RECENT.replace(hour=0), step=timedelta(hours=1))
    world.sync()
    world.service.advance(timedelta(hours=1))
    read(world)
    assert compared(verified(world)[0]) == 30
    stopped = threading.Event()
    stopped.set()
    assert read(world, stopped, **more).outcome is Outcome.STOPPED
    report, found = verified(world)
    assert (found.findings, compared(report)) == ({}, 0)
    read(world)
    assert compared(verified(world)[0]) == 30


def test_what_the_last_reading_could_not_read_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image set that was not consistent then; it is read again, and mended."""
    monkeypatch.setattr("ahi_catalog.connectors.healthimaging.source.BACKOFF", lambda _: 0.0)
    world.service.advance(timedelta(hours=1))
    world.service.update(world.datastore_id, "a0000030".rjust(32, "0"), {})
    world.service.advance(timedelta(hours=1))
    world.sync()
    world.service.faults.add("conflict", next=6, operation="GetImageSetMetadata")
    left = read(world).metadata
    assert left is not None
    assert left.total(Left.NOT_READY) == 1
    _, found = verified(world)
    assert found.findings == {f"{table} {DAY}": {Finding.MISSING: 1} for table in ("series", "instances")}
    assert verified(world, is_repairing=True)[1].unrepaired == 0
    assert verified(world)[1].findings == {}


def test_what_goes_while_it_is_read_is_no_difference(world: World) -> None:
    """Deleted, or of a newer version, since the search found it: counted, and left to the next run."""

    def meanwhile() -> None:
        world.service.delete(world.datastore_id, "a0000002".rjust(32, "0"))
        world.service.update(world.datastore_id, "a0000003".rjust(32, "0"), {})

    world.on_metadata(1, meanwhile)
    report, found = verified(world)
    assert report.metadata is not None
    assert (found.findings, report.metadata.total(Left.GONE), compared(report)) == ({}, 2, 48)


def test_an_interrupted_verify_goes_on_after_the_last_partition(world: World) -> None:
    """What was compared is not read again, and nothing that was found counts twice."""
    for day in (DAY, f"{RECENT:%Y-%m-%d}"):
        path = object_of(world, SERIES, day)
        found = parquet.decode(SERIES, path.read_bytes())
        path.write_bytes(parquet.encode(SERIES, with_value("manufacturer", "Other")(found)))
    stop = threading.Event()
    world.on_metadata(40, stop.set)
    with open_threads(1) as executor:
        settings = replace(world.settings, concurrency=1)
        first = job.verify(settings, job.Request(share=1.0), executor, stop, clock=world.service.now)
    assert first.outcome is Outcome.STOPPED
    assert first.verification is not None
    assert first.verification.totals == Counter({Finding.ALTERED: 2})
    second, done = verified(world)
    assert done.finished_at is not None
    assert done.totals == Counter({Finding.ALTERED: 4})
    assert compared(first) + compared(second) == 50


def test_a_service_that_refuses_ends_it(world: World) -> None:
    """In one line, with what was found kept; the next one goes on."""
    world.service.faults.add("access_denied", at=30, operation="GetImageSetMetadata")
    with pytest.raises(SourceError, match="allow medical-imaging:GetImageSetMetadata"):
        verified(world)
    report, found = verified(world)
    assert (found.findings, compared(report) <= 50) == ({}, True)


def test_it_may_overlap_with_everything_else(world: World) -> None:
    """A repair, two readings, a sync and a backfill at once, after image sets changed and went: all ends right."""
    for table in (SERIES, INSTANCES):
        rewrite(table, lambda found: found.slice(3))(world)
    for number in range(20, 30):
        world.service.update(world.datastore_id, f"a{number:07d}".rjust(32, "0"), {})
    for number in range(30, 33):
        world.service.delete(world.datastore_id, f"a{number:07d}".rjust(32, "0"))
    start = RECENT.replace(hour=0)
    jobs = [
        lambda: verified(world, is_repairing=True),
        lambda: read(world),
        lambda: read(world),
        world.sync,
        lambda: world.backfill(start, TODAY),
    ]
    with ThreadPoolExecutor(len(jobs)) as threads:
        for done in [threads.submit(each) for each in jobs]:
            done.result()
    world.verify(is_repairing=True)
    read(world)
    assert origins(world) == origins(world, INSTANCES) == origins(world, IMAGE_SETS)
    keys = [(row["image_set_id"], row["series_instance_uid"]) for row in rows(world)]
    assert len(keys) == len(set(keys)) == 47
    assert verified(world)[1].findings == {}


@pytest.mark.parametrize("phi", [{"phi": "pseudonymize", "shift_dates": True}, {"phi": "drop"}])
def test_every_policy_can_be_verified(make_world: Any, phi: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound catalog is sound under each, and a repair changes nothing; damage is found."""
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", "0123456789abcdef" * 4)
    world: World = make_world()
    world.settings = replace(world.settings, metadata=FAST, **phi)
    world.fill(30, start=RECENT.replace(hour=0), step=timedelta(hours=1))
    world.sync()
    read(world, instances=True)
    before = {table: rows(world, table) for table in (IMAGE_SETS, SERIES, INSTANCES)}
    assert verified(world)[1].findings == {}
    assert verified(world, is_repairing=True)[1].findings == {}
    assert {table: rows(world, table) for table in (IMAGE_SETS, SERIES, INSTANCES)} == before
    day = f"{RECENT:%Y-%m-%d}"
    path = object_of(world, INSTANCES, day)
    path.write_bytes(parquet.encode(INSTANCES, parquet.decode(INSTANCES, path.read_bytes()).slice(3)))
    assert verified(world, is_repairing=True)[1].findings == {f"instances {day}": {Finding.MISSING: 3}}
    assert {table: rows(world, table) for table in (IMAGE_SETS, SERIES, INSTANCES)} == before
