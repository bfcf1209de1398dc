"""The ledger of removals, and the views `changes` and `conflicts`, asked of catalogs that runs wrote."""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ahi_catalog.connectors import retrying
from ahi_catalog.connectors.catalog import Batch, Partition, Unit, open_catalog, open_or_create, open_store, publish
from ahi_catalog.connectors.catalog.changes import changes_since
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.errors import DamagedError, StoreError
from ahi_catalog.connectors.storage import LocalStore, Store
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.schemas import IMAGE_SETS, REMOVALS
from tests.support.world import BORN, TODAY, World, summary

DAY = datetime(2024, 2, 29, tzinfo=UTC)
ID = "0" * 32
PARTITION = Partition(ID, Unit.DAY, date(2024, 2, 29))
WHOLE_DAY = Window(DAY, DAY + timedelta(days=1))


@pytest.fixture
def synced(world: World) -> World:
    """A data store of a day, synced."""
    world.fill(30)
    world.sync()
    return world


def batch(*names: str, scanned: Collection[Window] = (), **values: Any) -> Batch:
    records = [{"image_set_id": name, "version": 1, "created_at": DAY, "updated_at": DAY} | values for name in names]
    rows = pa.Table.from_pylist(records, IMAGE_SETS.schema)
    return Batch(table=IMAGE_SETS, partition=PARTITION, rows=rows, scanned=Coverage(scanned))


def all_gone(image_set_ids: Collection[str]) -> Collection[str]:
    return image_set_ids


class Dying(LocalStore):
    """A store that fails the put of rows, as a killed process would not come to it."""

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        if key.startswith(IMAGE_SETS.folder):
            raise StoreError("gone")
        return super().put(key, body, expected=expected)


def removed(store: Store) -> list[str]:
    found = run_query(open_catalog(store), "select image_set_id from changes where change = 'removed' order by 1")
    ids: list[str] = found["image_set_id"].to_pylist()
    return ids


def test_a_run_that_dies_between_ledger_and_row_loses_and_invents_no_removal(tmp_path: Path) -> None:
    """The row that is still there hides its removal; the next run takes it, and renews when that was."""
    store = open_store(str(tmp_path))
    open_or_create(store, None)
    publish(store, batch("a", "b"), all_gone)
    with pytest.raises(StoreError):
        publish(Dying(tmp_path), batch("a", scanned=[WHOLE_DAY]), all_gone)
    first = run_query(open_catalog(store), "from removals")
    assert (first["image_set_id"].to_pylist(), removed(store)) == (["b"], [])
    publish(store, batch("a", scanned=[WHOLE_DAY]), all_gone)
    again = run_query(open_catalog(store), "from removals")
    assert (again["image_set_id"].to_pylist(), removed(store)) == (["b"], ["b"])
    assert again["removed_at"][0].as_py() > first["removed_at"][0].as_py()
    publish(store, batch("b"), lambda _: [])
    assert removed(store) == []


def test_runs_side_by_side_lose_no_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run that removes an image set of the day just before the ledger is written keeps its removal."""
    monkeypatch.setattr(retrying, "CONFLICT_BACKOFF", lambda _: 0)
    store = open_store(str(tmp_path))
    open_or_create(store, None)
    publish(store, batch("a", "b", "c"), all_gone)

    class Meddled(LocalStore):
        is_first = True

        def put(self, key: str, body: bytes, *, expected: str | None) -> str:
            if key.startswith(REMOVALS.folder) and self.is_first:
                Meddled.is_first = False
                publish(store, batch("a", "c", scanned=[WHOLE_DAY]), all_gone)
            return super().put(key, body, expected=expected)

    publish(Meddled(tmp_path), batch("a", scanned=[WHOLE_DAY]), all_gone)
    assert removed(store) == ["b", "c"]


def test_changes_tell_what_is_new_updated_and_removed_since(synced: World) -> None:
    """Each image set once; what was there and stayed is left out, and the next question begins where this ended."""
    catalog = open_catalog(open_store(str(synced.catalog)))
    before = changes_since(catalog, TODAY)
    assert len(before.rows) == 0
    rows = sorted(synced.service.rows(synced.datastore_id), key=lambda row: str(row["imageSetId"]))
    gone, updated = (str(row["imageSetId"]) for row in rows[:2])
    synced.service.clock.freeze(TODAY + timedelta(hours=1))
    synced.service.delete(synced.datastore_id, gone)
    synced.service.update(synced.datastore_id, updated, {})
    synced.service.insert(synced.datastore_id, [summary("new", TODAY + timedelta(minutes=1))])
    synced.service.clock.freeze(TODAY + timedelta(hours=2))
    synced.backfill(BORN, TODAY)
    synced.sync()
    found = changes_since(catalog, before.complete_to)
    assert dict(zip(found.rows["image_set_id"].to_pylist(), found.rows["change"].to_pylist(), strict=True)) == {
        gone: "removed",
        updated: "updated",
        "new".rjust(32, "0"): "new",
    }
    assert found.complete_to == TODAY + timedelta(hours=2) - synced.settings.settle
    assert run_query(catalog, "select count(*) from removals where created_at is not null")[0].to_pylist() == [1]


def test_a_repair_notes_what_it_removes(synced: World) -> None:
    """verify with repair removes rows of deleted image sets as a backfill does: into the ledger first."""
    [gone, *_] = (str(row["imageSetId"]) for row in synced.service.rows(synced.datastore_id))
    synced.service.delete(synced.datastore_id, gone)
    synced.verify(is_repairing=True)
    assert removed(open_store(str(synced.catalog))) == [gone]


def test_a_damaged_ledger_is_found_and_mended(synced: World) -> None:
    """verify names it, and with repair writes it anew, so that the next removal is noted again."""
    first, second, *_ = (str(row["imageSetId"]) for row in synced.service.rows(synced.datastore_id))
    synced.service.delete(synced.datastore_id, first)
    synced.backfill(BORN, TODAY)
    [ledger] = synced.catalog.glob("removals/**/*.parquet")
    ledger.write_bytes(b"PAR1")
    synced.service.delete(synced.datastore_id, second)
    with pytest.raises(DamagedError, match="removals/"):
        synced.backfill(BORN, TODAY)
    found = synced.verify().verification
    assert found is not None
    assert found.findings.keys() == {f"removals/{BORN:%Y-%m-%d}", f"{BORN:%Y-%m-%d}"}
    assert synced.verify(is_repairing=True).unrepaired == 0
    assert removed(open_store(str(synced.catalog))) == [second]


def conflicts(tmp_path: Path, *rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    store = open_store(str(tmp_path))
    open_or_create(store, None)
    for number, row in enumerate(rows):
        publish(store, batch(f"{number}", **row), all_gone)
    answer = run_query(open_catalog(store), "select conflict, identifier, found, image_sets from conflicts order by 1")
    return [tuple(row.values()) for row in answer.to_pylist()]


def test_conflicts_name_what_contradicts_itself(tmp_path: Path) -> None:
    """Series in several image sets or not primary, studies of two patients, patients of two names and birth dates."""
    one = {"series_instance_uid": "1.1", "study_instance_uid": "1", "patient_id": "p", "patient_name": "A^B"}
    other = {"series_instance_uid": "1.1\0", "study_instance_uid": "1 ", "patient_id": "q", "is_primary": False}
    third = {
        "series_instance_uid": "3",
        "patient_id": " p",
        "patient_name": "C",
        "patient_birth_date": date(2000, 1, 1),
    }
    fourth = {"series_instance_uid": "4", "patient_id": "p", "patient_birth_date": date(2000, 1, 2)}
    assert conflicts(tmp_path, one, other, third, fourth) == [
        ("patient_birth_dates", "p", 2, 3),
        ("patient_names", "p", 2, 3),
        ("series_image_sets", "1.1", 2, 2),
        ("series_not_primary", "1.1", 1, 2),
        ("study_patients", "1", 2, 2),
    ]


def test_every_phi_policy_leaves_conflicts_what_it_keeps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """keep all; pseudonymize series, studies and the years of birth, under pseudonyms; drop none."""
    for number, (patient, name, born) in enumerate([("p", "A", "19990101"), ("p", "B", "19991231"), ("q", "A", "")]):
        tags = {"PatientId": patient, "PatientName": name, "PatientBirthDate": born, "SeriesInstanceUID": "1.2.3"}
        world.service.insert(world.datastore_id, [summary(f"x{number}", BORN, StudyInstanceUID="1.2", **tags)])
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", "0123456789abcdef" * 4)
    kinds = {}
    for policy in ("keep", "pseudonymize", "drop"):
        catalog = str(world.catalog / policy)
        world.sync(catalog=catalog, phi=policy)
        found = run_query(open_catalog(open_store(catalog)), "select conflict, identifier from conflicts order by 1")
        kinds[policy] = found["conflict"].to_pylist()
        assert policy == "keep" or not {"p", "q", "1.2", "1.2.3"} & set(found["identifier"].to_pylist())
    of_all = ["series_image_sets", "study_patients"]
    assert kinds == {"keep": ["patient_birth_dates", "patient_names", *of_all], "pseudonymize": of_all, "drop": []}


def test_padding_and_absent_values_are_no_conflict(tmp_path: Path) -> None:
    """Blanks, NULs and empty components at the end of a name say nothing, nor does a patient who is not told."""
    common = {"study_instance_uid": "1", "is_primary": True, "patient_birth_date": date(2000, 1, 1)}
    assert (
        conflicts(
            tmp_path,
            common | {"series_instance_uid": "1", "patient_id": "p", "patient_name": "A^B"},
            common | {"series_instance_uid": "2", "patient_id": "p ", "patient_name": "A^B^^^ "},
            common | {"series_instance_uid": "3", "patient_id": "\0", "patient_name": "X"},
            common | {"series_instance_uid": "4", "patient_id": "p\0", "patient_name": "^^^^"},
            {"series_instance_uid": " "},
            {"series_instance_uid": ""},
        )
        == []
    )
