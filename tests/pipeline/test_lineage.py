"""OpenLineage's events of a run: off by default, of columns and counts, and nothing that can harm a run."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ahi_catalog.pipeline.run_report import Outcome
from ahi_catalog.schemas import IMAGE_SETS
from tests.support.world import BORN, World, summary


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that OpenLineage's own settings have its events written to."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(path))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_is_told_with_schema_lineage_and_counts(world: World, events: Path) -> None:
    """One event as it begins to read and one as it ends: fields of the service, columns, and which became which."""
    world.fill(30)
    report = world.sync()
    started, ended = read(events)
    assert [started["eventType"], ended["eventType"]] == ["START", "COMPLETE"]
    assert started["run"]["runId"] == ended["run"]["runId"]
    assert ended["job"]["name"] == f"sync.{world.datastore_id}"
    [source], [table] = ended["inputs"], ended["outputs"]
    assert (source["namespace"], source["name"]) == ("aws-healthimaging", world.datastore_id)
    assert (table["namespace"], table["name"]) == ("file", f"{world.catalog}/image_sets")
    assert source["inputFacets"]["inputStatistics"]["rowCount"] == report.rows_read
    written = table["outputFacets"]["outputStatistics"]
    assert (written["rowCount"], written["size"]) == (30, report.bytes_written)
    names = [field["name"] for field in table["facets"]["schema"]["fields"]]
    assert names == [*(column.name for column in IMAGE_SETS.columns), "datastore_id", "created_date"]
    columns = table["facets"]["columnLineage"]["fields"]
    assert [each["field"] for each in columns["study_datetime"]["inputFields"]] == [
        "DICOMTags.DICOMStudyDate",
        "DICOMTags.DICOMStudyTime",
    ]
    [how] = columns["image_set_id"]["inputFields"][0]["transformations"]
    assert (how["subtype"], how["masking"]) == ("IDENTITY", False)
    assert set(columns) == set(names) - {"extra", "datastore_id", "created_date"}


def test_columns_under_the_phi_policy_are_told_as_masked(world: World, events: Path) -> None:
    """And no patient's datum is in an event."""
    world.service.insert(world.datastore_id, [summary("a", BORN, PatientName="Secret^Name")])
    world.sync(phi="drop")
    columns = read(events)[-1]["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert columns["patient_name"]["inputFields"][0]["transformations"][0]["masking"] is True
    assert "Secret" not in events.read_text(encoding="utf-8")


def test_a_failed_run_is_told_as_failed(world: World, events: Path) -> None:
    """By its last event."""
    world.fill(30)
    world.service.insert(world.datastore_id, [summary("b", BORN + timedelta(hours=9)) | {"new": 1}])
    with pytest.raises(Exception, match="fields that this version does not know"):
        world.sync(unknown_fields="fail")
    assert read(events)[-1]["eventType"] == "FAIL"


@pytest.mark.parametrize(
    "variables",
    [
        {"OPENLINEAGE_URL": "http://127.0.0.1:1"},
        {"OPENLINEAGE__TRANSPORT__TYPE": "no-such"},
        {"OPENLINEAGE_CONFIG": "/nonexistent/openlineage.yml", "OPENLINEAGE_DISABLED": "true"},
    ],
)
def test_a_back_end_that_is_gone_costs_a_run_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Nor do settings that are wrong."""
    world.fill(30)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__RETRY__TOTAL", "0")
    assert world.sync().outcome is Outcome.DONE
    world.assert_catalog_equals_service()


def test_without_settings_nothing_is_sent(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """OpenLineage itself would print its events."""
    world.fill(3)
    world.sync()
    assert capsys.readouterr().out == ""
