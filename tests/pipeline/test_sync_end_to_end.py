"""Sync and backfill over real HTTP with real boto3; the catalog is compared with the service value by value."""

import fcntl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from ahi_catalog.connectors.catalog import Checkpoint, layout, open_catalog, open_store
from ahi_catalog.connectors.catalog.summary import summarize
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.storage import local
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.emulator.dicom_files import load_dicom_files
from ahi_catalog.emulator.idc import RELEASES, load_idc
from ahi_catalog.pipeline import sync
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import Outcome
from tests.support.reference import data_objects
from tests.support.world import BORN, TODAY, World, summary

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SETTLED = TODAY - timedelta(minutes=10)


def checkpoint_of(world: World) -> Checkpoint:
    checkpoint = open_catalog(open_store(str(world.catalog))).checkpoint(world.datastore_id)
    assert checkpoint is not None
    return checkpoint


def coverage_of(world: World) -> Coverage:
    return checkpoint_of(world).coverage


def test_a_first_sync_of_a_real_catalog_equals_the_service(world: World) -> None:
    """Every series of a slice of the Imaging Data Commons has its row, value by value."""
    world.service.clock.freeze(RELEASES[-1] + timedelta(days=30))
    load_idc(world.service, world.datastore_id, rows=6_000)
    report = world.sync(start=RELEASES[0])
    world.assert_catalog_equals_service()
    assert report.new == report.rows_read >= 6_000


def test_a_sync_of_real_dicom_files_equals_the_service(world: World) -> None:
    """The odd dates, names and paddings of pydicom's files are kept, and what does not parse is counted."""
    world.service.clock.freeze(datetime(2026, 6, 1, tzinfo=UTC))
    loaded = load_dicom_files(world.service, world.datastore_id)
    odd = summary("odd", TODAY, PatientBirthDate="1990/01/", StudyTime="12:00", PatientSex="N/A")
    world.service.insert(world.datastore_id, [odd])
    report = world.sync(start=datetime(2000, 1, 1, tzinfo=UTC))
    world.assert_catalog_equals_service()
    assert report.new == loaded + 1 > 60
    assert report.unparsable == {"patient_birth_date": 1, "study_datetime": 1}


def test_a_second_sync_with_nothing_new_writes_no_data_and_asks_little(world: World) -> None:
    """Cost follows change: one search for new image sets, one for changes, and no data object is touched."""
    world.fill(2_000)
    world.sync()
    before = {path: path.stat() for path in world.catalog.glob("image_sets/**/*.parquet")}
    world.service.reset_counters()
    report = world.sync(look_back=timedelta())
    after = {path: path.stat() for path in world.catalog.glob("image_sets/**/*.parquet")}
    assert {path: (s.st_mtime_ns, s.st_ino) for path, s in before.items()} == {
        path: (s.st_mtime_ns, s.st_ino) for path, s in after.items()
    }
    assert sum(world.service.counters.requests.values()) == report.counts.requests <= 2
    assert report.partitions_written == 0


def test_new_image_sets_updates_and_deletions_are_followed(world: World) -> None:
    """A later sync brings new rows, new versions of old rows, and loses rows deleted inside the look-back."""
    world.fill(500)
    world.fill(50, start=SETTLED - 5 * HOUR, step=timedelta(minutes=1), prefix="late")
    world.sync()
    world.service.update(world.datastore_id, "a0000003".rjust(32, "0"), {"DICOMTags": {"DICOMPatientName": "New^Name"}})
    world.service.update(world.datastore_id, "a0000499".rjust(32, "0"), {"storageTier": "ARCHIVE_INSTANT_ACCESS"})
    world.service.delete(world.datastore_id, "late0000020".rjust(32, "0"))
    world.fill(30, start=TODAY, step=timedelta(minutes=1), prefix="new")
    world.service.advance(2 * HOUR)
    report = world.sync()
    world.assert_catalog_equals_service()
    assert (report.new, report.updated, report.removed) == (30, 2, 1)


def test_a_backfill_finds_deletions_of_any_age(world: World) -> None:
    """Rows deleted long ago go when their range is read again and GetImageSet confirms it."""
    world.fill(500)
    world.sync()
    for number in (0, 1, 250):
        world.service.delete(world.datastore_id, f"a{number:07d}".rjust(32, "0"))
    world.sync(look_back=timedelta())
    assert world.backfill(BORN, TODAY).removed == 3
    world.assert_catalog_equals_service()


def test_a_row_that_search_hides_but_the_service_still_has_stays(make_world: Callable[..., World]) -> None:
    """Deletion is never inferred: an image set that vanished from the search only keeps its row."""
    hidden = summary("hidden", BORN + timedelta(minutes=1))
    before = make_world()
    before.fill(40, step=HOUR)
    before.service.insert(before.datastore_id, [hidden])
    before.sync()
    after = make_world(visibility_lag=3600.0)
    after.fill(40, step=HOUR)
    after.service.insert(after.datastore_id, [{**hidden, "updatedAt": TODAY}])
    after.service.reset_counters()
    report = after.backfill(BORN, BORN + DAY)
    assert after.service.counters.requests["GetImageSet"] == 1
    assert report.removed == 0
    before.assert_catalog_equals_service()


def test_a_stop_is_heeded_while_another_writer_holds_the_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync ends as stopped although its threads wait for the lock; the next one brings what it left."""
    world.sync()
    world.fill(100, start=TODAY, step=timedelta(minutes=1))
    world.service.advance(3 * HOUR)
    monkeypatch.setattr(local, "_LOCK_PATIENCE", 0)
    stop = threading.Event()

    def stop_when_told(_: object) -> bool:
        stop.set()
        return True

    monkeypatch.setattr(local._log, "filters", [stop_when_told])
    with (world.catalog / "_state/.scratch/lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert world.sync(stop).outcome is Outcome.STOPPED
    assert world.sync().new == 100
    world.assert_catalog_equals_service()


def test_a_stopped_sync_resumes_where_it_was(world: World) -> None:
    """A stop publishes and covers what is proven; the next run reads the rest, and nothing is missing."""
    world.fill(6_000)
    stop = threading.Event()
    requests = count(1)

    with pytest.MonkeyPatch.context() as patch:
        arrived = world.service.arrived

        def arrived_and_stop(operation: str) -> int:
            if next(requests) == 40:
                stop.set()
            return arrived(operation)

        patch.setattr(world.service, "arrived", arrived_and_stop)
        report = world.sync(stop, page_budget=4, concurrency=2)
    assert report.outcome == "stopped"
    assert 0 < report.new < 6_000
    covered = coverage_of(world)
    assert covered
    second = world.sync()
    assert second.outcome == "done"
    assert second.new == 6_000 - report.new
    world.assert_catalog_equals_service()


@pytest.mark.parametrize(
    "options",
    [
        {"between_inclusive": False},
        {"truncate_filter_seconds": True},
        {"truncate_filter_seconds": True, "between_inclusive": False},
        {"ignore_sort": True},
        {"older_api": True},
        {"older_api": True, "offset_tokens": True},
        {"offset_tokens": True},
        {"deleted_is_gone": True},
    ],
    ids=str,
)
def test_whatever_the_service_leaves_undocumented_nothing_is_lost(
    make_world: Callable[..., World], options: dict[str, bool]
) -> None:
    """Sync, changes and another sync agree with every kind of service, rows on every bound included."""
    world = make_world(**options)
    world.fill(700, step=timedelta(minutes=30))
    edges = [BORN, BORN + DAY, BORN + DAY - timedelta(microseconds=1), BORN + timedelta(microseconds=999_999)]
    world.service.insert(world.datastore_id, [summary(f"edge{n}", at) for n, at in enumerate(edges)])
    world.sync(page_budget=3)
    world.assert_catalog_equals_service()
    for number in range(0, 700, 100):
        world.service.update(world.datastore_id, f"a{number:07d}".rjust(32, "0"), {"DICOMTags": {"DICOMStudyId": "S"}})
    world.fill(60, start=TODAY, step=timedelta(seconds=1), prefix="new")
    world.service.advance(2 * HOUR)
    world.sync(page_budget=3)
    world.assert_catalog_equals_service()


@pytest.mark.parametrize("kind", ["throttle", "500", "503", "reset", "cut", "garble", "expired_token", "repeat_token"])
def test_faults_on_the_way_cost_retries_and_no_row(world: World, kind: str) -> None:
    """A request that fails once is tried again, or its window walked again, and the catalog is complete."""
    world.fill(600)
    for number in (2, 5, 9):
        world.service.faults.add(kind, at=number, operation="SearchImageSets")
    # One worker: every request but the first names a page token.
    report = world.sync(concurrency=1)
    world.assert_catalog_equals_service()
    assert report.outcome == "done"


def test_hundreds_of_equal_times_and_a_dense_second_are_read_through(world: World) -> None:
    """A second with more image sets than the page budget is read to its end."""
    dense = BORN + timedelta(days=3, seconds=11)
    world.service.insert(world.datastore_id, [summary(f"d{n:06d}", dense) for n in range(900)])
    world.fill(300)
    world.sync(page_budget=2)
    world.assert_catalog_equals_service()


def test_an_empty_data_store_costs_a_few_requests_and_is_covered(world: World) -> None:
    """Months of nothing cost at most a request a worker, and count as covered."""
    report = world.sync()
    assert report.counts.requests <= 1 + world.settings.workers
    assert coverage_of(world) == Coverage([Window(BORN, SETTLED)])
    assert report.new == 0


def test_rows_that_become_searchable_late_are_caught(make_world: Callable[..., World]) -> None:
    """A row hidden for longer than the settle time is found by the look-back of the next sync."""
    world = make_world(visibility_lag=3600.0)
    world.fill(20, start=TODAY - 2 * HOUR, step=timedelta(minutes=6))
    world.sync()
    world.service.advance(3 * HOUR)
    world.sync()
    world.assert_catalog_equals_service()


def test_a_clock_that_is_wrong_moves_no_bound_past_the_services(world: World) -> None:
    """With the local clock an hour fast, first and later runs still end at the service's clock less the settle time."""
    world.fill(100)
    for hours in range(2):
        with open_threads(2) as executor:
            sync.sync(world.settings, executor, threading.Event(), clock=lambda: world.service.now() + HOUR)
        checkpoint = checkpoint_of(world)
        assert checkpoint.coverage == Coverage([Window(BORN, SETTLED + hours * HOUR)])
        assert checkpoint.followed_to == SETTLED + hours * HOUR
        world.service.advance(HOUR)


@pytest.mark.parametrize("options", [{"older_api": True}, {"ignore_sort": True}], ids=str)
def test_a_fast_clock_moves_no_bound_where_the_service_is_an_old_one(
    make_world: Callable[..., World], options: dict[str, bool]
) -> None:
    """The same where changes are followed newest first, and where windows are read to their end."""
    world = make_world(**options)
    world.fill(100)
    for hours in range(2):
        with open_threads(2) as executor:
            settings = replace(world.settings, look_back=timedelta())
            sync.sync(settings, executor, threading.Event(), clock=lambda: world.service.now() + HOUR)
        assert checkpoint_of(world).followed_to == SETTLED + hours * HOUR
        world.service.advance(HOUR)


def test_a_data_store_is_asked_once_when_it_was_created(world: World) -> None:
    """The checkpoint keeps it, from the first sync on."""
    world.fill(100)
    for _ in range(3):
        world.sync()
        assert world.service.counters.requests["GetDatastore"] == 1
        assert coverage_of(world).windows[0].start == BORN
        world.service.advance(HOUR)
    world.assert_catalog_equals_service()


def test_a_first_syncs_start_holds_for_later_ones(world: World) -> None:
    """A sync without it goes on from there, another one is no run at all, and what lies before is no gap."""
    world.fill(900, step=timedelta(hours=3))
    start = BORN + 30 * DAY
    first = world.sync(start=start)
    world.service.advance(HOUR)
    later = world.sync()
    assert later.rows_read < first.rows_read == len(world.rows())
    assert "GetDatastore" not in world.service.counters.requests
    world.sync(start=start)
    reports = sorted(world.catalog.glob("_state/*/runs/*.json"))
    for other in (BORN, start + DAY):
        with pytest.raises(UsageError, match="2024-01-31T00:00:00Z, which its first sync fixed"):
            world.sync(start=other)
        with pytest.raises(UsageError, match="which its first sync fixed"):
            world.watch(lambda _: None, 1, start=other)
    with pytest.raises(UsageError, match="cannot begin in the future"):
        world.sync(start=world.service.now() + HOUR)
    assert sorted(world.catalog.glob("_state/*/runs/*.json")) == reports
    world.backfill(BORN, BORN + DAY)
    told = summarize(open_catalog(open_store(str(world.catalog))), world.datastore_id, runs=1)
    assert told.start == start
    assert told.watermark == SETTLED + HOUR
    assert not told.gaps


def test_a_start_cannot_be_set_where_coverage_began_with_the_data_store(world: World) -> None:
    """A start that is given later would leave out what a sync has read; after a backfill alone there is none yet."""
    world.fill(100)
    world.backfill(BORN, BORN + DAY)
    world.sync(start=BORN + DAY)
    assert checkpoint_of(world).start == BORN + DAY
    other = replace(world.settings, catalog=f"{world.catalog}-other")
    world.settings = other
    world.sync()
    with pytest.raises(UsageError, match="begins at 2024-01-01T00:00:00Z"):
        world.sync(start=BORN + DAY)


def test_months_as_partitions_hold_the_same_rows(world: World) -> None:
    """With monthly partitions the catalog equals the service just so."""
    world.fill(900, step=timedelta(hours=3))
    world.sync(partition="month")
    world.assert_catalog_equals_service()
    assert "created_month=2024-02" in {path.parent.name for path in world.catalog.glob("image_sets/**/*.parquet")}


def test_a_buffer_that_overflows_changes_nothing_but_when(world: World) -> None:
    """Publishing partitions early and again gives the same bytes as publishing them once."""
    world.fill(2_000, step=timedelta(minutes=2))
    world.sync()
    once = data_objects(world.catalog)
    report = world.sync(catalog=str(world.catalog.parent / "small"), buffer_bytes=20_000, page_budget=2)
    assert data_objects(world.catalog.parent / "small") == once
    assert report.partitions_written > len(once)


def test_fields_that_the_api_grows_are_kept(world: World) -> None:
    """A field that the declaration does not know arrives in `extra`."""
    grown = {**summary("grown", BORN + DAY, NewTag="x"), "newField": {"a": [1, None]}}
    world.service.insert(world.datastore_id, [grown])
    world.fill(120)
    world.sync()
    world.assert_catalog_equals_service()


@pytest.mark.parametrize("options", [{}, {"ignore_sort": True}, {"older_api": True}], ids=str)
def test_updates_while_a_window_is_read_hide_no_row(make_world: Callable[..., World], options: dict[str, bool]) -> None:
    """Rows that move to the front of the search while it is walked are caught, and their changes followed."""
    world = make_world(**options)
    world.fill(900, step=timedelta(minutes=15))
    requests = count()
    arrived = world.service.arrived

    def update_and_arrive(operation: str) -> int:
        if (number := next(requests)) < 90:
            # The oldest rows, which the default order shows last, move to the front one by one.
            name = f"a{number * 7 % 900:07d}".rjust(32, "0")
            world.service.advance(timedelta(seconds=1))
            world.service.update(world.datastore_id, name, {"DICOMTags": {"DICOMStudyId": f"{number}"}})
        return arrived(operation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.service, "arrived", update_and_arrive)
        report = world.sync(page_budget=5, concurrency=3)
    assert report.new == 900
    world.service.advance(2 * HOUR)
    world.sync()
    world.assert_catalog_equals_service()


def test_runs_side_by_side_agree(world: World) -> None:
    """Three overlapping syncs and a backfill on one catalog leave one row an image set, and full coverage."""
    world.fill(1_500)
    runs: list[Callable[[], object]] = [world.sync, world.sync, world.sync, lambda: world.backfill(BORN, TODAY)]
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(run) for run in runs]:
            done.result()
    world.assert_catalog_equals_service()
    assert coverage_of(world) == Coverage([Window(BORN, SETTLED)])


def test_a_lost_checkpoint_is_made_anew_by_the_next_sync(world: World) -> None:
    """Everything is read again, deletions of any age are met, and no row is lost or doubled."""
    world.fill(700)
    world.sync()
    whole = coverage_of(world)
    (world.catalog / layout.checkpoint_key(world.datastore_id)).unlink()
    world.service.delete(world.datastore_id, "a0000009".rjust(32, "0"))
    report = world.sync()
    assert (report.rows_read, report.new, report.removed) == (699, 0, 1)
    assert coverage_of(world) == whole
    world.assert_catalog_equals_service()
