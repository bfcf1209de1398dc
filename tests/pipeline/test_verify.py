"""Verify: every kind of damage is found and named by partition, and mended without losing or doubling a row."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ahi_catalog.connectors.catalog import Catalog, Partition, Unit, layout, open_catalog, open_store, parquet
from ahi_catalog.connectors.catalog.verification import Finding
from ahi_catalog.connectors.errors import DamagedError, SourceError, StateError, UsageError
from ahi_catalog.connectors.storage import LocalStore, Stored
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.schemas import IMAGE_SETS
from tests.support.reference import data_objects
from tests.support.world import BORN, TODAY, World, summary

DAY = timedelta(days=1)
FIRST, SECOND, THIRD = (BORN.date() + DAY * number for number in range(3))
SETTLED = TODAY - timedelta(minutes=10)
ROWS = 700
"""One every seven minutes from BORN on, ten at a time; 205 or so a day."""

Damage = Callable[[World], object]


def rewrite(change: Callable[[pa.Table], pa.Table], day: date = SECOND) -> Damage:
    """Change the rows of a day behind the catalog's back."""

    def damage(world: World) -> None:
        path = world.object(day)
        path.write_bytes(parquet.encode(IMAGE_SETS, change(parquet.decode(IMAGE_SETS, path.read_bytes()))))

    return damage


def with_value(column: str, value: object, rows: slice = slice(0, 3)) -> Callable[[pa.Table], pa.Table]:
    """Put another value into the first rows of a column."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[rows] = [value] * len(values[rows])
        index = table.column_names.index(column)
        return table.set_column(index, table.schema.field(column), pa.array(values, table.schema.field(column).type))

    return change


def older(table: pa.Table) -> pa.Table:
    """The first three rows as of the version before."""
    return with_value("version", 0)(with_value("patient_name", "Older^Name")(table))


def moved_to_the_next_day(table: pa.Table) -> pa.Table:
    """The first three rows, created a day later."""
    moved = pc.add(table["created_at"].slice(0, 3), pa.scalar(DAY))
    rest = table["created_at"].slice(3)
    chunks = [*moved.cast(rest.type).chunks, *rest.chunks]
    return table.set_column(2, table.schema.field("created_at"), pa.chunked_array(chunks))


def copy_of_another_day(world: World) -> None:
    """The rows of the first day in the object of a day without any."""
    path = world.object(date(2023, 12, 24))
    path.parent.mkdir(parents=True)
    path.write_bytes(world.object(FIRST).read_bytes())


def double_into_the_third_day(world: World) -> None:
    rows = parquet.decode(IMAGE_SETS, world.object(SECOND).read_bytes()).slice(0, 2)
    rows = with_value("created_at", datetime(2024, 1, 3, 4, tzinfo=UTC))(rows)
    rewrite(lambda table: pa.concat_tables([table, rows]), THIRD)(world)


DAMAGES: dict[str, tuple[Damage, dict[str, Counter[Finding]]]] = {
    "rows missing": (
        rewrite(lambda table: table.slice(3)),
        {"2024-01-02": Counter({Finding.MISSING: 3})},
    ),
    "all rows missing": (
        rewrite(lambda table: table.slice(0, 0)),
        {"2024-01-02": Counter({Finding.MISSING: 210})},
    ),
    "rows stale": (rewrite(older), {"2024-01-02": Counter({Finding.STALE: 3})}),
    "a value altered": (
        rewrite(with_value("patient_name", "Someone^Else")),
        {"2024-01-02": Counter({Finding.ALTERED: 3})},
    ),
    "a value lost": (
        rewrite(with_value("accession_number", "", slice(5, 6))),
        {"2024-01-02": Counter({Finding.ALTERED: 1})},
    ),
    "a version that never was": (
        rewrite(with_value("version", 99)),
        {"2024-01-02": Counter({Finding.ALTERED: 3})},
    ),
    "rows twice in an object": (
        rewrite(lambda table: pa.concat_tables([table, table.slice(0, 4)])),
        {"2024-01-02": Counter({Finding.DUPLICATE: 4})},
    ),
    "rows in the object of another day": (
        copy_of_another_day,
        {"2023-12-24": Counter({Finding.DUPLICATE: 210})},
    ),
    "rows in two objects, each in its place": (
        double_into_the_third_day,
        {"2024-01-03": Counter({Finding.DUPLICATE: 2})},
    ),
    "rows moved to another day": (
        rewrite(moved_to_the_next_day),
        {"2024-01-02": Counter({Finding.DUPLICATE: 3, Finding.MISSING: 3})},
    ),
    "rows of image sets that never were": (
        rewrite(lambda table: pa.concat_tables([table, with_value("image_set_id", "f" * 32)(table.slice(0, 1))])),
        {"2024-01-02": Counter({Finding.DELETED: 1})},
    ),
    "a truncated object": (
        lambda world: world.object(SECOND).write_bytes(world.object(SECOND).read_bytes()[:-100]),
        {"2024-01-02": Counter({Finding.UNREADABLE: 1, Finding.MISSING: 210})},
    ),
    "an empty object": (
        lambda world: world.object(SECOND).write_bytes(b""),
        {"2024-01-02": Counter({Finding.UNREADABLE: 1, Finding.MISSING: 210})},
    ),
    "somebody else's Parquet": (
        lambda world: pq.write_table(pa.table({"a": [1, 2]}), world.object(SECOND)),
        {"2024-01-02": Counter({Finding.UNREADABLE: 1, Finding.MISSING: 210})},
    ),
    "an object lost": (
        lambda world: world.object(SECOND).unlink(),
        {"2024-01-02": Counter({Finding.LOST: 1, Finding.MISSING: 210})},
    ),
}


def findings(report: RunReport) -> dict[str, Counter[Finding]]:
    """What a verify found."""
    assert report.verification is not None
    return report.verification.findings


def covered(world: World) -> Coverage:
    """What the checkpoint calls covered."""
    checkpoint = open_catalog(open_store(str(world.catalog))).checkpoint(world.datastore_id)
    assert checkpoint is not None
    return checkpoint.coverage


@pytest.fixture
def synced(world: World) -> World:
    """A data store of a few days, synced."""
    world.fill(ROWS)
    world.sync()
    return world


def test_a_sound_catalog_is_found_sound(synced: World) -> None:
    """Nothing is found, nothing written, no image set is looked up, and every row was compared."""
    before = data_objects(synced.catalog)
    synced.service.reset_counters()
    report = synced.verify()
    assert findings(report) == {}
    assert (report.unrepaired, report.partitions_written, report.rows_read) == (0, 0, ROWS)
    assert "GetImageSet" not in synced.service.counters.requests
    assert data_objects(synced.catalog) == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_left_as_it_is(synced: World, name: str) -> None:
    """Each kind is counted under its name and its partition; a verify without repair writes no data."""
    damage, expected = DAMAGES[name]
    damage(synced)
    before = data_objects(synced.catalog)
    report = synced.verify()
    assert findings(report) == expected
    assert report.unrepaired == sum(counts.total() for counts in expected.values())
    assert data_objects(synced.catalog) == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_mended(synced: World, name: str) -> None:
    """After a repair the catalog equals the service value by value, all is covered, and nothing is found any more."""
    damage, expected = DAMAGES[name]
    whole = covered(synced)
    damage(synced)
    report = synced.verify(is_repairing=True)
    assert findings(report).keys() == expected.keys()
    assert report.unrepaired == 0
    synced.assert_catalog_equals_service()
    assert covered(synced) == whole
    assert findings(synced.verify()) == {}


def test_deleted_image_sets_are_found_and_removed(synced: World) -> None:
    """Rows go where GetImageSet confirms that their image set is gone, whatever its age."""
    for number in (1, 2, 500):
        synced.service.delete(synced.datastore_id, f"a{number:07d}".rjust(32, "0"))
    expected = {"2024-01-01": Counter({Finding.DELETED: 2}), "2024-01-03": Counter({Finding.DELETED: 1})}
    assert findings(synced.verify()) == expected
    assert findings(synced.verify(is_repairing=True)) == expected
    synced.assert_catalog_equals_service()


def test_a_row_is_never_removed_on_the_searchs_word(make_world: Callable[..., World]) -> None:
    """An image set that the search does not list, but GetImageSet knows, is no difference and keeps its row."""
    hidden = summary("hidden", BORN + timedelta(minutes=1))
    before = make_world()
    before.fill(40)
    before.service.insert(before.datastore_id, [hidden])
    before.sync()
    after = make_world(visibility_lag=3600.0)
    after.fill(40)
    after.service.insert(after.datastore_id, [{**hidden, "updatedAt": TODAY}])
    assert findings(after.verify(is_repairing=True)) == {}
    assert after.service.counters.requests["GetImageSet"] == 1
    before.assert_catalog_equals_service()


def test_changes_that_no_sync_had_to_follow_yet_are_no_difference(synced: World) -> None:
    """An update after the last sync is not stale; after the next sync that missed it, it would be."""
    synced.service.update(synced.datastore_id, "a0000003".rjust(32, "0"), {"DICOMTags": {"DICOMPatientName": "N"}})
    synced.service.update(
        synced.datastore_id, "a0000004".rjust(32, "0"), {"storageTier": "ARCHIVE_INSTANT_ACCESS"}, new_version=False
    )
    assert findings(synced.verify()) == {}
    synced.service.advance(DAY)
    before = synced.object(FIRST).read_bytes()
    synced.sync()
    synced.object(FIRST).write_bytes(before)
    assert findings(synced.verify()) == {"2024-01-01": Counter({Finding.STALE: 1})}


def test_files_of_others_are_named_and_left(synced: World) -> None:
    """What readers of the table would read beside ours is found, and never deleted, repair or not."""
    foreign = synced.object(SECOND).with_name("part-0.parquet")
    foreign.write_bytes(synced.object(SECOND).read_bytes())
    hidden = synced.object(SECOND).with_name("_SUCCESS")
    hidden.write_bytes(b"")
    expected = {"created_date=2024-01-02/part-0.parquet": Counter({Finding.UNEXPECTED: 1})}
    for is_repairing in (False, True):
        report = synced.verify(is_repairing=is_repairing)
        assert findings(report) == expected
        assert report.unrepaired == 1
    assert foreign.exists()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda path: path.write_bytes(b"{"), Finding.UNREADABLE),
        (
            lambda path: path.write_text(path.read_text().replace('"catalog_id": "', '"catalog_id": "x')),
            Finding.UNREADABLE,
        ),
        (lambda path: path.unlink(), Finding.LOST),
    ],
    ids=["damaged", "of another catalog", "lost"],
)
def test_a_checkpoint_is_made_anew_by_reading_again(
    synced: World, damage: Callable[[object], None], kind: Finding
) -> None:
    """Found without repair; with it all is read again, covered again, and no row is lost or doubled."""
    path = synced.catalog / layout.checkpoint_key(synced.datastore_id)
    whole = covered(synced)
    synced.service.delete(synced.datastore_id, "a0000009".rjust(32, "0"))
    rewrite(lambda table: table.slice(1))(synced)
    damage(path)
    broken = path.read_bytes() if path.exists() else None
    expected = {
        "checkpoint": Counter({kind: 1}),
        "2024-01-01": Counter({Finding.DELETED: 1}),
        "2024-01-02": Counter({Finding.MISSING: 1}),
    }
    assert findings(synced.verify()) == expected
    assert (path.read_bytes() if path.exists() else None) == broken
    report = synced.verify(is_repairing=True)
    assert findings(report) == expected
    assert report.watermark_after == whole.watermark == SETTLED
    assert covered(synced) == whole
    synced.assert_catalog_equals_service()


def test_a_rebuild_that_is_interrupted_covers_only_what_it_has_read(synced: World) -> None:
    """The new checkpoint never runs ahead of the data, and the next sync or verify brings the rest."""
    (synced.catalog / layout.checkpoint_key(synced.datastore_id)).unlink()
    synced.object(THIRD).unlink()
    stopped = stop_after(synced, 4, is_repairing=True)
    assert stopped.outcome == "stopped"
    assert Coverage([Window(BORN, SETTLED)]).minus(covered(synced))
    synced.verify(is_repairing=True)
    synced.assert_catalog_equals_service()
    assert covered(synced) == Coverage([Window(BORN, SETTLED)])


def test_a_rebuild_that_ends_as_it_begins_is_taken_up(synced: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new checkpoint covers nothing; the verify after it still knows what there was to read."""
    (synced.catalog / layout.checkpoint_key(synced.datastore_id)).unlink()
    synced.object(THIRD).unlink()

    def end(*_: Any, **__: Any) -> None:
        raise SourceError("ended")

    for step in ("keep_verification", "renew_checkpoint"):
        with monkeypatch.context() as patch:
            patch.setattr(Catalog, step, end)
            with pytest.raises(SourceError):
                synced.verify(is_repairing=True)
    synced.verify(is_repairing=True)
    synced.assert_catalog_equals_service()
    assert covered(synced) == Coverage([Window(BORN, SETTLED)])


def test_a_repair_begun_anew_reads_what_the_interrupted_one_had_left(synced: World) -> None:
    """What an interrupted repair took out of the coverage is not forgotten by a restart."""
    (synced.catalog / layout.checkpoint_key(synced.datastore_id)).unlink()
    synced.object(THIRD).unlink()
    stop_after(synced, 4, is_repairing=True)
    synced.verify(is_repairing=True, is_restart=True)
    synced.assert_catalog_equals_service()
    assert covered(synced) == Coverage([Window(BORN, SETTLED)])


@pytest.mark.parametrize("body", [b"{", b'{"format": 1000}'])
def test_a_restart_needs_nothing_of_what_was_kept(synced: World, body: bytes) -> None:
    """Where the state of the last verification is damaged or a later version's, a restart goes on without it."""
    synced.verify()
    kept = synced.catalog / layout.verification_key(synced.datastore_id)
    kept.write_bytes(body)
    with pytest.raises(StateError):
        synced.verify()
    assert synced.verify(is_restart=True).rows_read == ROWS


def stop_after(world: World, requests: int, **asked: Any) -> RunReport:
    """Verify until so many requests have come, then stop in order."""
    stop, numbers = threading.Event(), count(1)
    with pytest.MonkeyPatch.context() as patch:
        arrived = world.service.arrived

        def arrived_and_stop(operation: str) -> int:
            if next(numbers) == requests:
                stop.set()
            return arrived(operation)

        patch.setattr(world.service, "arrived", arrived_and_stop)
        return world.verify(stop, replace(world.settings, page_budget=2, concurrency=1), **asked)


def test_a_verify_goes_on_where_it_was_interrupted(synced: World) -> None:
    """Two halves find what one whole finds, and the second reads what the first has left."""
    rewrite(lambda table: table.slice(1), FIRST)(synced)
    rewrite(lambda table: table.slice(2), THIRD)(synced)
    first = stop_after(synced, 7)
    assert first.outcome == "stopped"
    assert first.verification is not None
    assert findings(first) == {"2024-01-01": Counter({Finding.MISSING: 1})}
    second = synced.verify()
    assert findings(second) == {
        "2024-01-01": Counter({Finding.MISSING: 1}),
        "2024-01-03": Counter({Finding.MISSING: 2}),
    }
    assert 0 < second.rows_read < ROWS
    assert synced.verify().rows_read == ROWS


def test_an_interrupted_verify_can_be_begun_anew(synced: World) -> None:
    """Another question, and --restart, begin a new pass."""
    stop_after(synced, 7)
    assert synced.verify(is_restart=True).rows_read == ROWS
    stop_after(synced, 7)
    assert synced.verify(is_repairing=True).rows_read == ROWS


def test_a_failing_repair_leaves_nothing_covered_that_is_lost(make_world: Callable[..., World]) -> None:
    """Where the service refuses in the middle of a repair, the lost range is a gap, and the next sync fills it."""
    world = make_world()
    world.fill(ROWS)
    world.sync()
    world.object(SECOND).write_bytes(b"PAR1")
    for number in range(1, 200):
        world.service.faults.add("access_denied", at=world.service.counters.requests["SearchImageSets"] + number)
    with pytest.raises(SourceError):
        world.verify(is_repairing=True)
    midnight = BORN + DAY
    assert Coverage([Window(midnight, midnight + DAY)]).minus(covered(world))
    world.service.faults.clear()
    world.sync()
    world.assert_catalog_equals_service()
    assert covered(world) == Coverage([Window(BORN, SETTLED)])


def test_the_parts_of_a_catalog_are_verified_in_turn(synced: World) -> None:
    """Each partition belongs to one part; all parts together find what a whole verify finds."""
    for day in (FIRST, SECOND, THIRD):
        rewrite(lambda table: table.slice(1), day)(synced)
    found = [findings(synced.verify(part=f"{number}/4")) for number in (1, 2, 3, 4)]
    assert sorted(place for part in found for place in part) == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert all(len(part) == 1 for part in found if part)


def test_a_part_goes_on_by_one_a_day(synced: World) -> None:
    """`today/4` names each of four parts on four days in a row."""
    seen = set()
    for _ in range(4):
        report = synced.verify(part="today/4")
        assert report.verification is not None
        seen.add(report.verification.asked)
        synced.service.advance(DAY)
    assert len(seen) == 4


def test_a_range_is_widened_to_whole_partitions(synced: World) -> None:
    """Rows of the day are verified, of the days before and after not."""
    for day in (FIRST, SECOND, THIRD):
        rewrite(lambda table: table.slice(1), day)(synced)
    noon = BORN + timedelta(days=1, hours=12)
    report = synced.verify(start=noon, end=noon + timedelta(hours=1))
    assert findings(report) == {"2024-01-02": Counter({Finding.MISSING: 1})}
    assert findings(synced.verify(start=noon + timedelta(hours=12), is_repairing=True)).keys() == {"2024-01-03"}
    assert findings(synced.verify(end=noon)).keys() == {"2024-01-01", "2024-01-02"}


def test_a_partition_larger_than_the_buffer_is_verified_in_pieces(synced: World) -> None:
    """Early batches compare their own range only: nothing is found twice, and nothing is overlooked."""
    rewrite(lambda table: table.slice(3))(synced)
    settings = replace(synced.settings, buffer_bytes=12_000, page_budget=1)
    expected = {"2024-01-02": Counter({Finding.MISSING: 3})}
    assert findings(synced.verify(settings=settings)) == expected
    assert findings(synced.verify(settings=settings, is_repairing=True)) == expected
    synced.assert_catalog_equals_service()


@pytest.mark.parametrize(
    "options",
    [
        {"older_api": True},
        {"older_api": True, "offset_tokens": True},
        {"offset_tokens": True},
        {"deleted_is_gone": True},
    ],
    ids=str,
)
def test_every_kind_of_service_can_be_verified(make_world: Callable[..., World], options: dict[str, bool]) -> None:
    """Damage of several kinds is mended, whatever the service's order and tokens."""
    world = make_world(**options)
    world.fill(ROWS)
    world.sync()
    world.service.delete(world.datastore_id, "a0000009".rjust(32, "0"))
    rewrite(lambda table: table.slice(2))(world)
    expected = {"2024-01-01": Counter({Finding.DELETED: 1}), "2024-01-02": Counter({Finding.MISSING: 2})}
    assert findings(world.verify(is_repairing=True)) == expected
    world.assert_catalog_equals_service()
    assert findings(world.verify()) == {}


def test_a_sync_beside_a_verify_is_no_difference(synced: World) -> None:
    """Rows that another run publishes while a verify reads are newer than what it found, and right."""
    numbers = count(1)
    beside: list[threading.Thread] = []
    with pytest.MonkeyPatch.context() as patch:
        arrived = synced.service.arrived

        def arrived_and_sync(operation: str) -> int:
            if operation == "SearchImageSets" and next(numbers) == 9:
                for number in range(0, ROWS, 50):
                    name = f"a{number:07d}".rjust(32, "0")
                    synced.service.update(synced.datastore_id, name, {"DICOMTags": {"DICOMStudyId": "New"}})
                synced.service.advance(2 * DAY)
                beside.append(threading.Thread(target=synced.sync))
                beside[0].start()
            return arrived(operation)

        patch.setattr(synced.service, "arrived", arrived_and_sync)
        report = synced.verify(settings=replace(synced.settings, page_budget=1, concurrency=1))
    [sync] = beside
    sync.join()
    assert findings(report) == {}
    assert findings(synced.verify()) == {}


def test_two_verifies_do_not_mix_their_state(synced: World) -> None:
    """Whoever is overtaken by another verify of the same data store ends with one line."""
    numbers = count(1)
    with pytest.MonkeyPatch.context() as patch:
        arrived = synced.service.arrived

        def arrived_and_verify(operation: str) -> int:
            if next(numbers) == 3:
                catalog = open_catalog(open_store(str(synced.catalog)))
                begun = catalog.verification(synced.datastore_id)
                assert begun is not None
                catalog.keep_verification(synced.datastore_id, replace(begun, run_id="other"), is_new=True)
            return arrived(operation)

        patch.setattr(synced.service, "arrived", arrived_and_verify)
        with pytest.raises(StateError, match="another run is verifying"):
            synced.verify()


def test_what_was_never_synced_cannot_be_verified(world: World) -> None:
    """No catalog, or nothing of this data store in it, is wrong usage."""
    with pytest.raises(UsageError, match="no catalog"):
        world.verify()
    other = world.service.create_datastore(name="other", created_at=BORN)
    world.sync()
    with pytest.raises(UsageError, match="nothing to verify"):
        world.verify(settings=replace(world.settings, datastore_id=other))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"part": "0/3"}, "none"),
        ({"part": "4/3"}, "none"),
        ({"part": "1/0"}, "3/30"),
        ({"part": "x"}, "3/30"),
        ({"start": TODAY, "end": BORN}, "begin before it ends"),
    ],
)
def test_what_cannot_be_asked_is_refused(synced: World, asked: dict[str, Any], says: str) -> None:
    """Wrong parts and ranges are one line, and nothing is read."""
    synced.service.reset_counters()
    with pytest.raises(UsageError, match=says):
        synced.verify(**asked)
    assert not synced.service.counters.requests


def test_what_is_kept_of_a_verify_holds_counts_only(synced: World) -> None:
    """Neither its state nor its report names an image set or a patient."""
    DAMAGES["rows of image sets that never were"][0](synced)
    synced.verify()
    kept = [path.read_text() for path in synced.catalog.glob("_state/**/*.json")]
    assert json.loads((synced.catalog / layout.verification_key(synced.datastore_id)).read_text())["findings"]
    assert not [text for text in kept for secret in ("Tester", "P-a", "f" * 32, "a0000001") if secret in text]


def stop_repair_within(world: World, day: date) -> None:
    """Stop a repair after its inspection, with a part of a day verified and the rest not."""
    window = Partition(world.datastore_id, Unit.DAY, day).window
    for requests in range(4, 20):
        found = stop_after(world, requests, is_repairing=True, is_restart=True).verification
        if found and found.is_inspected and found.verified.within(window) and found.remaining.within(window):
            return
    raise AssertionError("no repair stopped within the day")


@pytest.mark.parametrize("body", [b"", b"PAR1" * 30], ids=["empty", "damaged"])
def test_a_repair_mends_what_is_damaged_after_its_inspection(synced: World, body: bytes) -> None:
    """A resumed repair mends an object that was damaged since, with the part of its day that was verified already."""
    whole = covered(synced)
    stop_repair_within(synced, SECOND)
    synced.object(SECOND).write_bytes(body)
    report = synced.verify(is_repairing=True)
    assert findings(report) == {"2024-01-02": Counter({Finding.UNREADABLE: 1, Finding.MISSING: 210})}
    assert report.unrepaired == 0
    assert report.verification is not None
    assert report.verification.finished_at is not None
    synced.assert_catalog_equals_service()
    assert covered(synced) == whole
    assert findings(synced.verify()) == {}


def test_an_object_that_stays_unreadable_ends_a_repair(synced: World) -> None:
    """Where what was written anew cannot be read either, the run says so instead of trying for ever."""
    stop_repair_within(synced, SECOND)
    key = Partition(synced.datastore_id, Unit.DAY, SECOND).key(IMAGE_SETS)
    get = LocalStore.get

    def get_damaged(store: LocalStore, asked: str) -> Stored | None:
        stored = get(store, asked)
        return Stored(b"PAR1", stored.etag) if stored and asked == key else stored

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "get", get_damaged)
        with pytest.raises(DamagedError, match="created_date=2024-01-02"):
            synced.verify(is_repairing=True)
    synced.verify(is_repairing=True)
    synced.assert_catalog_equals_service()
