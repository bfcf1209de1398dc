"""Real DICOM files, with all that is odd about them."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.emulator import Service
from ahi_catalog.emulator.dicom_files import default_paths, load_dicom_files, read_tags

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("data_store")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    service = Service()
    store = service.create_datastore(name="files")
    count = load_dicom_files(service, store)
    found = service.rows(store)
    assert len(found) == count
    return found


def values(rows: list[dict[str, Any]], tag: str) -> set[Any]:
    return {row["DICOMTags"][tag] for row in rows if tag in row["DICOMTags"]}


def test_names_of_every_script_are_kept(rows: list[dict[str, Any]]) -> None:
    """Person names come as they are in the file: all three groups, any script, padding included."""
    names = values(rows, "DICOMPatientName")
    assert {
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "Διονυσιος ",
        "שרון^דבורה",
        "قباني^لنزار ",
        "^^^^",
        "",
    } <= names


def test_odd_dates_and_times_are_kept(rows: list[dict[str, Any]]) -> None:
    """Old forms of dates and times, short ones, padded ones and empty ones are not tidied."""
    assert {"1994.11.05", "1997.04.24", "20040826", ""} <= values(rows, "DICOMStudyDate")
    assert {"11:20:00", "1200", "093431.70 ", "111154.812", ""} <= values(rows, "DICOMStudyTime")


def test_identifiers_lose_their_padding_only(rows: list[dict[str, Any]]) -> None:
    """UIDs have no trailing NULs or blanks, whatever else they are; other ids keep theirs."""
    uids = values(rows, "DICOMStudyInstanceUID") | values(rows, "DICOMSeriesInstanceUID")
    assert uids
    assert not [uid for uid in uids if uid != uid.rstrip("\0 ")]
    assert any(len(uid) == 64 and not uid.replace(".", "").isdigit() for uid in uids)
    assert max(map(len, values(rows, "DICOMStudyId"))) == 64
    assert "1 " in values(rows, "DICOMStudyId")


def test_numbers_are_numbers(rows: list[dict[str, Any]]) -> None:
    """Series numbers are 32-bit ints, and absent where the file has none."""
    assert {type(number) for number in values(rows, "DICOMSeriesNumber")} == {int}
    assert any("DICOMSeriesNumber" not in row["DICOMTags"] for row in rows)


def test_times_are_the_hard_ones(rows: list[dict[str, Any]]) -> None:
    """There are equal createdAt, exact midnights, and last microseconds of a day."""
    micros = [round(row["createdAt"] * 1_000_000) for row in rows]
    assert len(micros) > 60
    assert len(set(micros)) < len(micros)
    day = timedelta(days=1) // timedelta(microseconds=1)
    assert {0, day - 1} <= {number % day for number in micros}


def test_disagreeing_files_of_a_series_are_secondary(rows: list[dict[str, Any]]) -> None:
    """Each series has one primary image set; more of them only where tags disagree."""
    by_series: dict[Any, list[bool]] = {}
    for row in rows:
        by_series.setdefault(row["DICOMTags"].get("DICOMSeriesInstanceUID"), []).append(row["isPrimary"])
    assert all(sum(primaries) == 1 for primaries in by_series.values())
    tags = [tuple(sorted(row["DICOMTags"].items(), key=str)) for row in rows]
    assert len(set(tags)) == len(tags)


def test_what_is_no_dicom_file_is_passed_over(tmp_path: Path) -> None:
    """Text, nothing at all, and a file without our tags give no image set."""
    empty, text = tmp_path / "empty.dcm", tmp_path / "text.dcm"
    empty.write_bytes(b"")
    text.write_bytes(b"not DICOM at all, but long enough to look at " * 10)
    assert read_tags(empty) == read_tags(text) == {}
    service = Service()
    assert load_dicom_files(service, service.create_datastore(name="none"), [empty, text]) == 0


def test_values_beyond_the_apis_limits_are_absent(tmp_path: Path) -> None:
    """A text longer than the API allows, and a series number beyond 32 bits, are left out."""
    source = next(path for path in sorted(default_paths()) if path.name == "CT_small.dcm")
    dataset = pydicom.dcmread(source)
    dataset.add_new("PatientSex", "LO", "M" * 17)
    dataset.add_new("SeriesNumber", "LO", "2147483648")
    dataset.add_new("StudyInstanceUID", "LO", "1.2.3 ")
    dataset.save_as(tmp_path / "odd.dcm")
    tags = read_tags(tmp_path / "odd.dcm")
    assert "DICOMPatientSex" not in tags
    assert "DICOMSeriesNumber" not in tags
    assert tags["DICOMStudyInstanceUID"] == "1.2.3"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo's environment has no DICOM files; `emulate --dicom-files` says how to get them."""
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert run(["emulate", "--port", "0", "--dicom-files"]) == 2
    assert "pip install 'ahi-catalog[demo,dicom]'" in capsys.readouterr().err
