"""A watch over real HTTP with real boto3, on a clock that moves from pass to pass; compared value by value."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path

import pytest

from ahi_catalog.connectors.catalog import layout, open_catalog, open_store
from ahi_catalog.connectors.errors import SourceError, UsageError
from ahi_catalog.connectors.healthimaging.source import Source
from ahi_catalog.connectors.storage import Store
from ahi_catalog.connectors.storage.base import Stored
from ahi_catalog.pipeline import watch
from ahi_catalog.pipeline.executors import open_threads
from tests.support.world import BORN, TODAY, Script, World, summary

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def name(text: str) -> str:
    return text.rjust(32, "0")


def data_of(world: World) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in world.catalog.glob("image_sets/**/*.parquet")}


def insert(world: World, *names: str, age: timedelta = SECOND) -> None:
    at = world.service.now() - age
    world.service.insert(world.datastore_id, [summary(each, at) for each in names])


def test_a_watch_publishes_what_is_new_changed_and_deleted_in_its_next_pass(world: World) -> None:
    """Every pass ends with a catalog that equals the service, whatever happened since the one before."""
    world.fill(300)

    def between(number: int) -> None:
        world.assert_catalog_equals_service()
        if number == 4:
            world.service.delete(world.datastore_id, name("new3"))
        insert(world, f"new{number}")
        world.service.update(world.datastore_id, name(f"a{number:07d}"), {"DICOMTags": {"DICOMStudyId": "S"}})

    report = world.watch(between, 25)
    assert (report.passes, report.failed_passes) == (25, 0)
    assert report.removed == 1
    assert report.new == 300 + 24


def test_a_pass_that_finds_nothing_is_two_requests_and_writes_nothing(world: World) -> None:
    """Between two syncs of a watch neither store nor checkpoint is touched; image sets seen before cost no more."""
    world.fill(500)
    world.fill(20, start=TODAY - 3 * MINUTE, step=SECOND, prefix="young")
    requests: list[int] = []
    gets: list[str] = []

    def between(number: int) -> None:
        del number
        requests.append(world.service.counters.requests["SearchImageSets"])
        gets.append("|")

    store_type = type(open_store(str(world.catalog)))
    get = store_type.get

    def get_and_note(store: Store, key: str) -> Stored | None:
        gets.append(key)
        return get(store, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_type, "get", get_and_note)
        world.watch(between, 9, every=timedelta(seconds=10))
    each = [after - before for before, after in pairwise(requests)]
    assert each == [2] * 8
    assert {key for key in gets[gets.index("|", gets.index("|") + 1) :] if not key.endswith("watch.json")} == {"|"}


def test_a_watch_covers_what_has_settled_and_follows_changes(world: World) -> None:
    """After some minutes coverage and followed_to are where a sync would have them, no further."""
    world.watch(lambda _: None, 40)
    checkpoint = open_catalog(open_store(str(world.catalog))).checkpoint(world.datastore_id)
    assert checkpoint
    settled = world.service.now() - timedelta(minutes=10)
    assert checkpoint.coverage.windows[0].start == BORN
    for moment in (checkpoint.coverage.watermark, checkpoint.followed_to):
        assert moment
        assert settled - 6 * MINUTE < moment <= settled


@pytest.mark.parametrize("lag", [60.0, 400.0])
def test_image_sets_that_become_searchable_late_are_published(make_world: Callable[..., World], lag: float) -> None:
    """Within the look-back of two minutes by the next pass, later by the next sync of five minutes."""
    world = make_world(visibility_lag=lag)

    def between(number: int) -> None:
        if number < 10:
            insert(world, f"late{number}")

    world.watch(between, 45)
    world.assert_catalog_equals_service()


@pytest.mark.parametrize("options", [{"ignore_sort": True}, {"older_api": True}], ids=str)
def test_a_watch_reads_services_that_do_not_sort(make_world: Callable[..., World], options: dict[str, bool]) -> None:
    """An endpoint of the older API reference is followed just so."""
    world = make_world(**options)
    world.fill(200)

    def between(number: int) -> None:
        world.assert_catalog_equals_service()
        insert(world, f"new{number}")
        world.service.update(world.datastore_id, name(f"a{number:07d}"), {"DICOMTags": {"DICOMStudyId": "S"}})

    world.watch(between, 6)


@pytest.mark.parametrize("skew", [-timedelta(hours=1), -20 * SECOND, 20 * SECOND, timedelta(hours=1)], ids=str)
def test_a_wrong_clock_delays_no_row(world: World, skew: timedelta) -> None:
    """Recent image sets are asked for by the service's clock, so that a fast or slow one here loses no row."""
    world.fill(50)

    def between(number: int) -> None:
        world.assert_catalog_equals_service()
        insert(world, f"new{number}")

    stop = threading.Event()
    with open_threads(8) as executor:
        watch.watch(
            world.settings,
            executor,
            stop,
            wake=Script(world.service, stop, between, 12),
            clock=lambda: world.service.now() + skew,
        )
    checkpoint = open_catalog(open_store(str(world.catalog))).checkpoint(world.datastore_id)
    assert checkpoint
    assert checkpoint.coverage.watermark
    assert checkpoint.coverage.watermark <= world.service.now() - timedelta(minutes=10)


def test_each_partition_is_written_once_a_pass(world: World) -> None:
    """What is new and what has changed in one partition goes into one object at once."""
    world.fill(100, start=TODAY - timedelta(hours=6), step=MINUTE)
    puts: list[str] = []
    writes: list[list[str]] = []

    def between(number: int) -> None:
        writes.append([key for key in puts if key.startswith("image_sets/")])
        puts.clear()
        insert(world, f"new{number}")
        world.service.update(world.datastore_id, name(f"a{number:07d}"), {"DICOMTags": {"DICOMStudyId": "S"}})

    store_type = type(open_store(str(world.catalog)))
    put = store_type.put

    def put_and_note(store: Store, key: str, body: bytes, *, expected: str | None) -> str:
        puts.append(key)
        return put(store, key, body, expected=expected)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_type, "put", put_and_note)
        world.watch(between, 24)
    assert [len(each) for each in writes] == [1] * 24


def test_a_deletion_that_is_told_removes_a_row_of_any_age(world: World) -> None:
    """GetImageSet confirms it first: a false word removes nothing, and is told so."""
    world.fill(500)
    stop = threading.Event()

    def between(number: int) -> None:
        if number == 1:
            world.service.delete(world.datastore_id, name("a0000007"))
            script.told += [name("a0000007"), name("a0000008"), name("never")]
        if number == 2:
            world.assert_catalog_equals_service()

    script = Script(world.service, stop, between, 3)
    with open_threads(8) as executor:
        report = watch.watch(world.settings, executor, stop, wake=script, clock=world.service.now)
    assert report.removed == 1
    assert script.existing == [name("a0000008")]


def test_a_row_that_the_search_still_lists_after_its_deletion_stays_away(world: World) -> None:
    """A lagging search does not bring a removed row back."""
    world.fill(100, start=TODAY - timedelta(hours=2), step=MINUTE)
    stop = threading.Event()
    lagging = name("a0000007")

    def between(number: int) -> None:
        if number == 1:
            world.service.update(world.datastore_id, lagging, {"DICOMTags": {"DICOMStudyId": "S"}})
            script.told.append(lagging)
        if number > 1:
            assert lagging not in world.rows()

    script = Script(world.service, stop, between, 4)
    look_up = Source.look_up_any
    with pytest.MonkeyPatch.context() as patch, open_threads(8) as executor:
        patch.setattr(
            Source,
            "look_up_any",
            lambda source, name, counts: None if name == lagging else look_up(source, name, counts),
        )
        watch.watch(world.settings, executor, stop, wake=script, clock=world.service.now)


@pytest.mark.parametrize("kind", ["500", "503", "reset", "throttle"])
def test_a_failure_that_may_pass_is_survived_and_counted(world: World, kind: str) -> None:
    """A pass fails where every try does; the next ones mend it, and the report and the heartbeat say so."""
    world.fill(100)

    def between(number: int) -> None:
        insert(world, f"new{number}")
        if number == 2:
            asked = world.service.counters.requests["SearchImageSets"]
            world.service.faults.add(kind, at=asked + 1, operation="SearchImageSets")

    report = world.watch(between, 6, max_attempts=1)
    world.watch(lambda _: None, 1)
    world.assert_catalog_equals_service()
    assert report.failed_passes == 1
    document = json.loads((world.catalog / layout.heartbeat_key(world.datastore_id)).read_text())
    assert document["ended_at"]
    assert document["failure"] is None


def test_what_no_pass_can_mend_ends_the_watch(world: World) -> None:
    """A catalog that is gone, or a refusal, is told in one line, and nothing is written where it was."""
    world.fill(100)

    def remove(number: int) -> None:
        if number == 1:
            (world.catalog / layout.DESCRIPTION_KEY).unlink()
            insert(world, "new")

    with pytest.raises(UsageError, match="there is no catalog"):
        world.watch(remove, 3)
    assert name("new") not in world.rows()


def test_a_stopped_watch_has_published_what_it_proved(world: World) -> None:
    """A stop during the first pass ends in order, and the next watch resumes there."""
    world.fill(6_000)
    stop = threading.Event()
    with pytest.MonkeyPatch.context() as patch, open_threads(2) as executor:
        arrived, requests = world.service.arrived, count(1)

        def arrived_and_stop(operation: str) -> int:
            if next(requests) == 60:
                stop.set()
            return arrived(operation)

        patch.setattr(world.service, "arrived", arrived_and_stop)
        settings = replace(world.settings, page_budget=4, concurrency=2)
        report = watch.watch(settings, executor, stop, clock=world.service.now)
    assert report.outcome == "stopped"
    assert 0 < report.new < 6_000
    assert world.watch(lambda _: None, 1).new == 6_000 - report.new
    world.assert_catalog_equals_service()


def test_a_watch_keeps_one_report_an_hour_and_tells_its_freshness(world: World) -> None:
    """The delay of each new row is in the report of its hour; what was there before the watch is not measured."""
    world.fill(200)

    def between(number: int) -> None:
        if number % 10 == 0:
            insert(world, f"new{number}", age=timedelta(seconds=-20))

    world.watch(between, 245)
    catalog = open_catalog(open_store(str(world.catalog)))
    reports = [catalog.run(key) for key in catalog.run_keys(world.datastore_id)]
    assert [report and report["flow"] for report in reports] == ["watch"] * 3
    assert sum(report["freshness"]["rows"] for report in reports if report) == 24
    assert all(9 < report["freshness"]["p99_seconds"] < 11 for report in reports[1:] if report)


def test_syncs_and_backfills_beside_a_watch_lose_nothing(world: World) -> None:
    """Other runs publish, cover and follow between the passes; the catalog equals the service after each."""
    world.fill(400)

    def between(number: int) -> None:
        insert(world, f"new{number}")
        world.service.update(world.datastore_id, name(f"a{number:07d}"), {"DICOMTags": {"DICOMStudyId": f"{number}"}})
        if number % 3 == 0:
            world.sync()
            world.assert_catalog_equals_service()
        if number % 4 == 0:
            world.backfill(BORN, BORN + timedelta(days=2))
        if number % 5 == 0:
            assert world.verify().unrepaired == 0

    world.watch(between, 30)
    world.service.advance(timedelta(hours=1))
    world.sync()
    world.assert_catalog_equals_service()
    assert world.verify().unrepaired == 0


def test_a_wrong_data_store_leaves_nothing_behind(world: World) -> None:
    """A watch that cannot begin says so at once."""
    with pytest.raises(SourceError):
        world.watch(lambda _: None, 1, datastore_id="f" * 32)
    assert not world.catalog.exists()
