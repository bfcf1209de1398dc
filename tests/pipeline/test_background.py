"""What goes on beside a watch: metadata of what arrives is read, and Iceberg tables follow; no pass waits or fails."""

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.source import connect
from ahi_catalog.connectors.iceberg import files, opening
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.storage import Entry, Store
from ahi_catalog.connectors.storage.base import Stored
from ahi_catalog.emulator.errors import denied
from ahi_catalog.pipeline import background, metadata, watch
from ahi_catalog.pipeline.background import MirrorJob
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.many import run_many
from ahi_catalog.pipeline.metadata_job import MetadataJob
from ahi_catalog.pipeline.run_report import Outcome
from ahi_catalog.schemas import IMAGE_SETS, INSTANCES
from tests.connectors.iceberg.tables import assert_equal
from tests.pipeline.test_iceberg import TO, load
from tests.pipeline.test_metadata import FAST, RECENT, origins, read, requests, rows
from tests.support.world import TODAY, Script, World, summary

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return reading(make_world())


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was logged of jobs in the background."""
    monkeypatch.setattr(logging.getLogger("ahi_catalog"), "propagate", True)
    return lambda: list(dict.fromkeys(each.getMessage() for each in caplog.records if each.name == background.__name__))


def reading(world: World) -> World:
    """The world, whose metadata is read at any rate, and asked for once."""
    world.settings = replace(world.settings, metadata=FAST, max_attempts=1)
    return world


def settle() -> None:
    """Wait until nothing goes on in the background."""
    for thread in threading.enumerate():
        if thread.name == "background":
            thread.join()


def insert(world: World, *names: str, age: timedelta = SECOND) -> None:
    at = world.service.now() - age
    world.service.insert(world.datastore_id, [summary(each, at) for each in names])


def assert_complete(world: World) -> None:
    """The catalog has the service's image sets; reading metadata moves when they were accessed."""
    assert world.rows().keys() == {row["imageSetId"] for row in world.service.rows(world.datastore_id)}


def reports(world: World) -> list[dict[str, Any]]:
    """The reports of `metadata`, oldest first."""
    runs = sorted(world.catalog.glob("_state/**/runs/*.json"))
    found = [json.loads(each.read_text(encoding="utf-8")) for each in runs]
    return [each for each in found if each["flow"] == "metadata"]


def test_what_arrives_has_its_series_after_the_pass_and_what_goes_has_none(world: World) -> None:
    """Each image set and version is asked for once; one report tells of it all."""
    world.fill(60, start=RECENT)

    def between(number: int) -> None:
        settle()
        assert_complete(world)
        if number > 1:  # The first reading may go on when the first pass ends.
            assert origins(world) == origins(world, IMAGE_SETS)
        if number == 3:
            world.service.update(world.datastore_id, "new1".rjust(32, "0"), {"DICOMTags": {"DICOMStudyId": "S"}})
        if number == 5:
            world.service.delete(world.datastore_id, "new2".rjust(32, "0"))
        insert(world, f"new{number}")

    report = world.watch(between, 12, with_metadata=True)
    assert (report.passes, report.failed_passes, report.removed) == (12, 0, 1)
    assert requests(world) == 60 + 11 + 1
    [told] = reports(world)
    assert (told["rows_read"], told["updated"], told["removed"], told["outcome"]) == (72, 1, 1, "stopped")


def test_where_nothing_is_new_nothing_is_asked_for_and_no_partition_is_looked_at(world: World) -> None:
    """The whole catalog is looked at when a watch begins and once an hour, whatever else has written to it."""
    world.fill(60, start=RECENT, step=timedelta(hours=6))
    world.sync()
    read(world)
    requests(world)
    gets: list[list[str]] = [[]]
    store_type = type(open_store(str(world.catalog)))
    get = store_type.get

    def get_and_note(store: Store, key: str) -> Stored | None:
        gets[-1].append(key)
        return get(store, key)

    def between(number: int) -> None:
        settle()
        if number == 3:  # By another run, which no pass sees.
            world.fill(3, start=RECENT + timedelta(hours=1), step=timedelta(), prefix="late")
            world.backfill(RECENT, RECENT + timedelta(days=1))
        gets.append([])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_type, "get", get_and_note)
        report = world.watch(between, 14, with_metadata=True, every=5 * MINUTE)
    assert report.failed_passes == 0
    looked_at = [{key for key in keys if key.startswith("series/")} for keys in gets]
    assert len(looked_at[0]) == 6
    assert [number for number, keys in enumerate(looked_at) if keys] == [0, 12]
    assert requests(world) == 3
    assert origins(world) == origins(world, IMAGE_SETS)
    assert sorted(each["rows_read"] for each in reports(world)) == [0, 3, 60]


def test_what_is_not_consistent_yet_is_tried_again_a_minute_later(make_world: Callable[..., World]) -> None:
    """The service answers 409 for a while after an import; the passes go on."""
    world = reading(make_world(metadata_lag=100))
    seen: list[int] = []

    def between(number: int) -> None:
        settle()
        assert_complete(world)
        seen.append(len(rows(world)))
        if number == 1:
            insert(world, "new1", "new2")

    world.watch(between, 9, with_metadata=True)
    assert seen == [0, 0, 0, 0, 0, 2, 2, 2, 2]
    [told] = reports(world)
    assert (told["rows_read"], told["metadata"]["not_ready"]) == (2, 0)


def test_a_watch_wakes_nothing_that_is_archived(world: World) -> None:
    """Whatever its settings say; the report counts each once."""
    world.fill(30, start=TODAY - timedelta(days=60), prefix="old")

    def between(number: int) -> None:
        settle()
        world.service.insert(
            world.datastore_id,
            [summary(f"new{number}", world.service.now() - SECOND) | {"storageTier": "ARCHIVE_INSTANT_ACCESS"}],
        )

    world.watch(between, 5, with_metadata=True, metadata=replace(FAST, archived=True))
    assert requests(world) == 0
    assert [each["metadata"]["archived"] for each in reports(world)] == [34]


def test_what_cannot_be_read_is_counted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often its partition is looked at in an hour."""
    monkeypatch.setattr("ahi_catalog.connectors.healthimaging.source.BACKOFF", lambda _: 0.0)
    world.fill(12, start=TODAY - timedelta(hours=3), step=timedelta())
    store = world.service.datastore(world.datastore_id)
    describe = store.describe
    bad = {f"a{number:07d}".rjust(32, "0") for number in range(2)}
    store.describe = lambda record: b"{" if record.image_set_id in bad else describe(record)

    def between(number: int) -> None:
        settle()
        insert(world, f"new{number}")

    world.watch(between, 6, with_metadata=True, max_attempts=3)
    [told] = reports(world)
    assert (told["rows_read"], told["metadata"]["malformed"]) == (15, {f"{TODAY:%Y-%m-%d}": 2})


def test_a_failing_endpoint_costs_no_pass_and_is_caught_up_with(world: World, told: Callable[[], list[str]]) -> None:
    """It is told once, tried again every five minutes, told again when it is well; the hour's report says failed."""
    world.fill(20, start=RECENT)
    store = world.service.datastore(world.datastore_id)
    describe = store.describe

    def refuse(_: object) -> bytes:
        raise denied()

    store.describe = refuse

    def between(number: int) -> None:
        settle()
        assert_complete(world)
        insert(world, f"new{number}")
        if number == 14:
            assert not rows(world)
            assert 14 <= requests(world) < 500
            store.describe = describe

    report = world.watch(between, 18, with_metadata=True, every=5 * MINUTE)
    assert report.failed_passes == 0
    assert origins(world) == origins(world, IMAGE_SETS)
    assert [each["outcome"] for each in reports(world)] == ["failed", "stopped"]
    first, last = told()
    assert first.startswith("the metadata of what is new is not read: GetImageSetMetadata: AccessDeniedException")
    assert last == "no longer: the metadata of what is new is not read"


def test_what_becomes_of_a_reading_is_no_report_of_its_watch(world: World) -> None:
    """Neither where it fails: who runs several watches is handed the reports of these."""
    world.fill(20, start=RECENT)
    world.service.faults.add("access_denied", at=1, operation="GetImageSetMetadata")
    stop = threading.Event()
    wake = Script(world.service, stop, lambda _: settle(), passes=3)
    job = partial(watch.watch, with_metadata=True, wake=wake, clock=world.service.now)
    with open_threads(8) as executor:
        [result] = run_many(
            job, world.settings, [world.datastore_id], stop, executor_for=lambda _: executor, is_lasting=True
        )
    assert [each["outcome"] for each in reports(world)] == ["failed"]
    assert result.report is not None
    assert (result.report.flow, result.outcome) == ("watch", Outcome.STOPPED)


def test_a_stop_ends_a_reading_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the first one: what is read is published, and the next watch reads the rest."""
    world.fill(200, start=RECENT)
    world.sync()
    stop, is_ending = threading.Event(), threading.Event()
    join = MetadataJob._join

    def note_and_join(job: MetadataJob, seconds: float | None = None) -> None:
        is_ending.set()
        join(job, seconds)

    def stop_and_wait() -> None:
        stop.set()
        is_ending.wait()

    monkeypatch.setattr(MetadataJob, "_join", note_and_join)
    world.on_metadata(60, stop_and_wait)
    wake = Script(world.service, stop, lambda _: stop.wait(), passes=10**6)
    with open_threads(8) as executor:
        settings = replace(world.settings, concurrency=1)
        watch.watch(settings, executor, stop, with_metadata=True, wake=wake, clock=world.service.now)
    assert not [thread for thread in threading.enumerate() if thread.name == "background"]
    assert 0 < len(rows(world)) < 200
    [told] = reports(world)
    assert (told["outcome"], told["rows_read"]) == ("stopped", len(rows(world)))
    world.watch(lambda _: settle(), 3, with_metadata=True)
    assert origins(world) == origins(world, IMAGE_SETS)


def test_a_watch_that_ends_by_itself_ends_its_reading_too(world: World) -> None:
    """A catalog that is gone ends both."""
    world.fill(20, start=RECENT)

    def between(number: int) -> None:
        settle()
        if number == 2:
            shutil.rmtree(world.catalog)
        insert(world, f"new{number}")

    with pytest.raises(UsageError, match="there is no catalog"):
        world.watch(between, 10, with_metadata=True)
    assert not [thread for thread in threading.enumerate() if thread.name == "background"]


def test_what_arrives_comes_before_the_rest_of_the_catalog(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where reading all of it takes hours."""
    monkeypatch.setattr(metadata, "_CHUNK", 1)
    world.fill(40, start=RECENT, step=timedelta(hours=12))
    world.sync()
    catalog = open_catalog(open_store(str(world.catalog)))
    oldest = min(catalog.partitions(world.datastore_id))
    settings = replace(world.settings, concurrency=1)
    job = MetadataJob(settings, clock=world.service.now, connection=connect(settings), load_key=load_phi_key)
    asked: list[str] = []
    store = world.service.datastore(world.datastore_id)
    describe = store.describe

    def note(record: Any) -> bytes:
        if not asked:
            job.follow([oldest])
        asked.append(record.image_set_id)
        return describe(record)

    store.describe = note
    job.begin_hour()
    settle()
    job.end()
    days = {row["image_set_id"]: row["created_at"].date() for row in rows(world, IMAGE_SETS)}
    assert len(asked) == len(set(asked)) == 40
    assert oldest.first_day in [days[each] for each in asked[:12]]


def test_a_watch_goes_on_where_the_catalog_keeps_more(world: World) -> None:
    """Another run has it keep instances, and keywords; a watch with a keyword that there is not does not begin."""

    def between(number: int) -> None:
        settle()
        insert(world, f"new{number}")
        if number == 2:
            read(world, instances=True, keyword=("ExposureTime",))

    report = world.watch(between, 6)
    assert (report.failed_passes, report.new) == (0, 5)
    world.watch(lambda _: settle(), 3, with_metadata=True)
    assert origins(world) == origins(world, INSTANCES) | set() == origins(world, IMAGE_SETS)
    with pytest.raises(UsageError, match="Nonsense is no keyword"):
        world.watch(between, 1, with_metadata=True, metadata=replace(FAST, keyword=("Nonsense",)))


def test_the_command_reads_metadata_where_it_is_told_to(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What it is told of metadata reaches the watch, which ends at once where that is wrong."""
    place = ["watch", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id]
    assert run([*place, "--metadata", "--keyword", "Nonsense"]) == 2
    assert "--keyword: Nonsense is no keyword" in capsys.readouterr().err
    assert run([*place, "--archived"]) == 2


@pytest.mark.usefixtures("tables")
def test_an_iceberg_table_follows_a_watch_within_five_minutes(world: World) -> None:
    """One commit for all that was published meanwhile, and none where nothing was."""
    snapshots: list[int] = []

    def between(number: int) -> None:
        settle()
        snapshots.append(len(load().snapshots()))
        if number < 25:
            insert(world, f"new{number}")
        if number == 39:
            assert_equal(open_catalog(open_store(str(world.catalog))), load())

    world.fill(20, start=RECENT)
    world.watch(between, 60, iceberg=TO)
    assert snapshots[0] == 1
    assert snapshots[39] == snapshots[-1] == 4


@pytest.mark.usefixtures("tables")
def test_a_failing_mirror_costs_no_pass_and_is_caught_up_with(world: World, told: Callable[[], list[str]]) -> None:
    """It is told once, and again when it is well."""

    def fail(name: str, **_: str) -> None:
        raise ConnectionError(name)

    def between(number: int) -> None:
        settle()
        world.assert_catalog_equals_service()
        if number == 25:
            patch.undo()
        insert(world, f"new{number}") if number < 20 else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "load_catalog", fail)
        assert world.watch(between, 40, iceberg=TO).failed_passes == 0
    assert_equal(open_catalog(open_store(str(world.catalog))), load())
    first, last = told()
    assert "are not up to date, the catalog is: the Iceberg catalog tables fails with ConnectionError" in first
    assert last.startswith("no longer: the Iceberg tables in tables.imaging")


@pytest.mark.usefixtures("tables")
def test_a_mirror_ends_with_its_watches(
    world: World, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    """It copies nothing more, so that the process can end; the next one begins anew."""
    world.fill(400, start=RECENT - timedelta(days=380), step=timedelta(days=1))
    world.sync()
    begun, ended = threading.Event(), threading.Event()
    copied: list[str] = []
    copy = files.TableFiles.copy

    def held(self: files.TableFiles, source: Store, entry: Entry, location: str) -> Any:
        copied.append(entry.key)
        begun.set()
        ended.wait()
        return copy(self, source, entry, location)

    monkeypatch.setattr(files.TableFiles, "copy", held)
    monkeypatch.setattr(background, "_LAST_SECONDS", 0.0)
    settings = replace(world.settings, iceberg=TO)
    with MirrorJob.of(settings, clock=world.service.now) as job:
        assert job is not None
        job.start()
        begun.wait()
    ended.set()
    settle()
    assert len(copied) <= 16
    assert not told()
    assert not load().snapshots()
    world.watch(lambda _: settle(), 1, iceberg=TO)
    assert_equal(open_catalog(open_store(str(world.catalog))), load())


@pytest.mark.usefixtures("tables")
def test_metadata_mirrors_at_its_end(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """As a sync does."""
    world.fill(10, start=RECENT)
    world.sync()
    place = ["--catalog", str(world.catalog), "--datastore-id", world.datastore_id]
    assert run(["metadata", *place, "--no-prefect", "--json", "--iceberg", TO]) == 0
    assert json.loads(capsys.readouterr().out)["flow"] == "metadata"
    assert load().scan().count() == 10
