"""The PHI policy through a whole run: fixed at creation, applied before the store, the same on every run."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_catalog, open_or_create, open_store
from ahi_catalog.connectors.errors import StateError, UsageError
from ahi_catalog.emulator.dicom_files import load_dicom_files
from ahi_catalog.emulator.idc import load_idc
from tests.support.reference import data_objects
from tests.support.world import BORN, World, summary

KEY = "0123456789abcdef" * 4
IDENTIFIERS = ("patient_id", "accession_number", "study_id", "study_instance_uid", "series_instance_uid")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, where the runs look for it first."""
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", KEY)


def rows_of(catalog: Path) -> list[dict[str, Any]]:
    """The rows of a catalog in a folder, in the order of their ids."""
    rows: list[dict[str, Any]] = ds.dataset(catalog / "image_sets", format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: row["image_set_id"])


@pytest.mark.parametrize("shift", [False, True])
def test_pseudonymised_real_data_joins_as_before_and_holds_no_original(world: World, shift: bool) -> None:  # noqa: FBT001
    """Patients and studies of IDC series and DICOM files group as in the plain catalog, under other names only."""
    load_idc(world.service, world.datastore_id, rows=1_500)
    load_dicom_files(world.service, world.datastore_id)
    settings: dict[str, Any] = {"start": BORN.replace(year=2000)}
    plain, veiled = world.catalog / "plain", world.catalog / "veiled"
    world.sync(catalog=str(plain), **settings)
    world.sync(catalog=str(veiled), phi="pseudonymize", shift_dates=shift, **settings)
    originals, pseudonyms = rows_of(plain), rows_of(veiled)
    assert [row["image_set_id"] for row in originals] == [row["image_set_id"] for row in pseudonyms]
    assert len(originals) > 500
    for name in IDENTIFIERS:
        pairs = {(unpadded(a[name]), unpadded(b[name])) for a, b in zip(originals, pseudonyms, strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert {a for a, _ in pairs} & {b for _, b in pairs} <= {""}
    of_patients = [
        {(unpadded(row["patient_id"]), unpadded(row["study_instance_uid"])) for row in rows}
        for rows in (originals, pseudonyms)
    ]
    assert len(of_patients[0]) == len(of_patients[1])
    # The image set id is the service's own name and stays; a short number may stand in a UID by chance.
    known = {row[name] for row in originals for name in (*IDENTIFIERS, "patient_name") if unpadded(row[name])}
    kept, sent = decoded_text([{**row, "image_set_id": None} for row in pseudonyms]), decoded_text(originals)
    assert not [value for value in known if len(value) > 6 and value in kept]
    assert [value for value in known if len(value) > 6 and value in sent]


def unpadded(text: str | None) -> str:
    """The text without its padding; empty where it names nobody."""
    return (text or "").strip(" \0")


def decoded_text(rows: list[dict[str, Any]]) -> str:
    """Every value of rows as text."""
    return "\n".join(str(value) for row in rows for value in row.values() if value is not None)


def test_every_run_with_the_key_gives_the_same_bytes(world: World) -> None:
    """Two catalogs of the same rows and key are equal byte for byte, and a backfill changes nothing."""
    world.fill(200)
    first, second = world.catalog / "first", world.catalog / "second"
    for folder in (first, second):
        world.sync(catalog=str(folder), phi="pseudonymize", shift_dates=True, keep_text=True)
    assert data_objects(first) == data_objects(second)
    assert data_objects(first)
    report = world.backfill(BORN, BORN + timedelta(days=30), catalog=str(first))
    assert (report.unchanged, report.new, report.updated, report.removed) == (200, 0, 0, 0)


def test_changes_that_come_past_the_scans_are_protected_too(make_world: Callable[..., World]) -> None:
    """On an endpoint without an updatedAt filter, where changes are walked newest first, rows are protected as well."""
    world = make_world(older_api=True)
    world.fill(20)
    world.sync(phi="pseudonymize")
    world.service.clock.advance(timedelta(hours=1))
    changes = {"DICOMTags": {"DICOMPatientName": "Marked^Change", "DICOMPatientId": "P-marked"}}
    world.service.update(world.datastore_id, "a0000001".rjust(32, "0"), changes)
    world.service.clock.advance(timedelta(hours=1))
    assert world.sync().updated == 1
    text = decoded_text(rows_of(world.catalog))
    assert "arked" not in text
    assert "P-a" not in text


def test_unparsable_values_are_counted_before_the_policy(world: World) -> None:
    """The report tells of odd dates although the policy takes them out."""
    odd = summary("odd", BORN, PatientBirthDate="about 1950", StudyTime="noon")
    world.service.insert(world.datastore_id, [odd])
    report = world.sync(phi="drop")
    assert report.unparsable == {"patient_birth_date": 1, "study_datetime": 1}


def test_the_policy_is_fixed_at_creation(world: World) -> None:
    """catalog.json says it; a run that asks for another is refused in one line, and one that asks for none follows."""
    world.fill(10)
    world.sync(phi="pseudonymize", keep_text=True)
    document = json.loads((world.catalog / "_state/catalog.json").read_text())
    assert document["phi"] | {"key_check": ""} == {
        "policy": "pseudonymize",
        "keep_text": True,
        "shift_dates": False,
        "key_check": "",
    }
    assert KEY not in (world.catalog / "_state/catalog.json").read_text()
    before = data_objects(world.catalog)
    for other in ("keep", "drop", "pseudonymize"):
        with pytest.raises(UsageError, match="made with `phi` pseudonymize, keep_text, which cannot be changed"):
            world.sync(phi=other)
    same: list[dict[str, Any]] = [{"phi": "pseudonymize", "keep_text": True}, {}]
    for asked in same:
        report = world.sync(look_back=timedelta(days=200), **asked)
        assert (report.outcome, report.new, report.updated) == ("done", 0, 0)
    assert data_objects(world.catalog) == before


@pytest.mark.parametrize("asked", [{}, {"phi": "pseudonymize"}])
def test_another_key_is_refused(world: World, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> None:
    """A run with another key, or with none, does not split patients in two; it says so in one line without a key."""
    world.fill(10)
    world.sync(phi="pseudonymize")
    before = data_objects(world.catalog)
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", KEY[::-1])
    with pytest.raises(UsageError, match="the PHI key is not the one") as refused:
        world.sync(**asked)
    assert KEY[::-1] not in str(refused.value)
    assert "\n" not in str(refused.value)
    monkeypatch.delenv("AHI_CATALOG_PHI_KEY")
    with pytest.raises(UsageError, match="set AHI_CATALOG_PHI_KEY"):
        world.sync(**asked)
    assert data_objects(world.catalog) == before


def test_flags_of_pseudonymize_stand_with_it_only(world: World) -> None:
    """`keep_text` and `shift_dates` say nothing without it, and are refused."""
    with pytest.raises(UsageError, match="go with `phi` pseudonymize"):
        world.sync(phi="drop", keep_text=True)
    assert not world.catalog.exists()


@pytest.mark.parametrize(
    "phi",
    [
        '"shred"',
        "null",
        "[]",
        '"pseudonymize"',
        '{"policy": "pseudonymize"}',
        '{"policy": "drop", "keep_text": false, "shift_dates": false, "key_check": "0"}',
        '{"policy": "pseudonymize", "keep_text": false, "shift_dates": false, "key_check": "0", "more": 1}',
    ],
)
def test_a_policy_of_a_later_version_is_refused(tmp_path: Path, phi: str) -> None:
    """catalog.json with a policy that this version cannot hold is refused, rather than read as keep."""
    store = open_store(str(tmp_path))
    open_or_create(store, None)
    path = tmp_path / "_state/catalog.json"
    path.write_text(path.read_text().replace('"keep"', phi))
    with pytest.raises(StateError, match="PHI policy that this version does not know"):
        open_catalog(store)


def test_rows_are_protected_where_they_leave_the_scan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's buffer never sees an original: what it takes in is watched."""
    from ahi_catalog.pipeline.buffer import Buffer  # noqa: PLC0415

    seen: list[pa.Table] = []
    add = Buffer.add

    def watched(self: Buffer, rows: pa.Table, scanned: Any) -> Any:
        seen.append(rows)
        return add(self, rows, scanned)

    monkeypatch.setattr(Buffer, "add", watched)
    world.fill(50)
    world.sync(phi="drop")
    assert sum(map(len, seen)) >= 50
    assert not any("Tester" in decoded_text(rows.to_pylist()) for rows in seen)


def test_a_query_says_why_views_are_empty(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Studies and patients of a catalog without identifiers are no rows, and a line on stderr says so."""
    world.fill(3)
    world.sync(phi="drop")
    assert run(["query", "--catalog", str(world.catalog), "--json", "from studies"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == []
    assert "keeps no identifiers (--phi drop)" in printed.err
    assert run(["query", "--catalog", str(world.catalog), "--json", "select count(*) n from image_sets"]) == 0
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == ([{"n": 3}], "")
