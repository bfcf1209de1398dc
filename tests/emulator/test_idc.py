"""The Imaging Data Commons as a data store: a slice of it, and its timeline."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ahi_catalog.emulator import Service, ServiceOptions
from ahi_catalog.emulator.clock import to_micros
from ahi_catalog.emulator.idc import ATTRIBUTION, RELEASE_SPAN, RELEASES, import_times, load_idc
from ahi_catalog.emulator.records import render

idc_index_data = pytest.importorskip("idc_index_data")

ROWS = 3000
LATEST = RELEASES[-1] + RELEASE_SPAN
SAME = {
    "PatientID": "DICOMPatientId",
    "PatientSex": "DICOMPatientSex",
    "StudyInstanceUID": "DICOMStudyInstanceUID",
    "StudyDescription": "DICOMStudyDescription",
    "SeriesInstanceUID": "DICOMSeriesInstanceUID",
    "Modality": "DICOMSeriesModality",
    "BodyPartExamined": "DICOMSeriesBodyPart",
}
OTHERS = ["StudyDate", "SeriesNumber", "license_short_name", "instanceCount", "series_init_idc_version"]


def load(**settings: Any) -> list[dict[str, Any]]:
    service = Service(ServiceOptions(rate=None))
    return service.rows(load_idc(service, **{"rows": ROWS, **settings}))


def moment(number: float) -> datetime:
    return datetime.fromtimestamp(number, UTC)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return load()


@pytest.fixture(scope="module")
def series(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The index's own rows of the patients in the slice, read the plain way."""
    table = pq.read_table(idc_index_data.IDC_INDEX_PARQUET_FILEPATH, columns=[*SAME, *OTHERS])
    patients = sorted({row["DICOMTags"]["DICOMPatientId"] for row in rows})
    table = table.filter(pc.is_in(table["PatientID"], pa.array(patients, table["PatientID"].type)))
    return {row["SeriesInstanceUID"]: row for row in table.to_pylist()}


def test_a_slice_is_the_same_every_time(rows: list[dict[str, Any]]) -> None:
    """The same arguments give the same rows; about as many as asked for, and no fewer."""
    assert load() == rows
    assert ROWS <= len(rows) < ROWS * 1.5
    assert len({row["imageSetId"] for row in rows}) == len(rows)


def test_tags_are_the_indexs(rows: list[dict[str, Any]], series: dict[str, dict[str, Any]]) -> None:
    """Each tag is the index's value; what is absent there is absent here; dates are DICOM's."""
    for row in rows:
        tags = row["DICOMTags"]
        source = series[tags["DICOMSeriesInstanceUID"]]
        expected = {tag: source[column] for column, tag in SAME.items() if source[column] is not None}
        if source["StudyDate"] is not None:
            expected["DICOMStudyDate"] = source["StudyDate"].replace("-", "")
        if source["SeriesNumber"] is not None:
            expected["DICOMSeriesNumber"] = int(source["SeriesNumber"])
        counted = {
            "DICOMNumberOfStudyRelatedSeries": tags["DICOMNumberOfStudyRelatedSeries"],
            "DICOMNumberOfStudyRelatedInstances": tags["DICOMNumberOfStudyRelatedInstances"],
        }
        assert tags == expected | counted


def test_patients_are_whole_and_studies_counted(rows: list[dict[str, Any]], series: dict[str, dict[str, Any]]) -> None:
    """Every free series of a sampled patient is there, and each study knows its series and instances."""
    free = {uid: row for uid, row in series.items() if not row["license_short_name"].startswith("CC BY-NC")}
    assert {row["DICOMTags"]["DICOMSeriesInstanceUID"] for row in rows} == set(free)
    counts = Counter(row["StudyInstanceUID"] for row in free.values())
    instances: Counter[str] = Counter()
    for row in free.values():
        instances[row["StudyInstanceUID"]] += row["instanceCount"]
    for row in rows:
        tags = row["DICOMTags"]
        study = tags["DICOMStudyInstanceUID"]
        assert tags["DICOMNumberOfStudyRelatedSeries"] == counts[study]
        assert tags["DICOMNumberOfStudyRelatedInstances"] == instances[study]


def test_series_arrive_with_their_release(rows: list[dict[str, Any]], series: dict[str, dict[str, Any]]) -> None:
    """createdAt lies in the span of the release that first had the series."""
    for row in rows:
        release = RELEASES[series[row["DICOMTags"]["DICOMSeriesInstanceUID"]]["series_init_idc_version"] - 1]
        assert release < moment(row["createdAt"]) < release + RELEASE_SPAN


def test_revisions_are_second_versions(rows: list[dict[str, Any]]) -> None:
    """A revised series is version 2 and updated later; any other is as it was created."""
    versions = Counter(row["version"] for row in rows)
    assert set(versions) == {1, 2}
    for row in rows:
        assert (row["updatedAt"] > row["createdAt"]) == (row["version"] == 2)
        assert row["updatedAt"] <= row["lastAccessedAt"] <= LATEST.timestamp()
        long_ago = (LATEST - moment(row["lastAccessedAt"])) > timedelta(days=30)
        assert row["storageTier"] == ("ARCHIVE_INSTANT_ACCESS" if long_ago else "FREQUENT_ACCESS")
    assert 0.9 < sum(row["isPrimary"] for row in rows) / len(rows) < 1.0


def test_an_earlier_moment_has_what_was_there_then(rows: list[dict[str, Any]]) -> None:
    """As of an earlier release, later series are missing and later revisions undone; the rest is the same."""
    then = RELEASES[17] + timedelta(days=1)
    before = {row["imageSetId"]: row for row in load(as_of=then, tiers_as_of=LATEST)}
    now = {row["imageSetId"]: row for row in rows if moment(row["createdAt"]) <= then}
    assert before.keys() == now.keys()
    assert 0 < len(before) < len(rows)
    undone = 0
    for name, row in before.items():
        if moment(now[name]["updatedAt"]) <= then:
            assert row == now[name]
        else:
            undone += 1
            assert (row["version"], row["updatedAt"]) == (1, row["createdAt"])
            assert row["DICOMTags"] == now[name]["DICOMTags"]
    assert undone


def test_rendering_is_that_of_any_other_row() -> None:
    """The loader writes a row's bytes itself, and writes what insert() would."""
    service = Service(ServiceOptions(rate=None))
    store = load_idc(service, rows=200)
    for record in service.datastore(store).current.values():
        again = record.summary()
        for name in ("createdAt", "updatedAt", "lastAccessedAt"):
            again[name] = round(again[name] * 1_000_000)
        assert render(again) == record


def test_import_jobs_come_in_bursts() -> None:
    """Hundreds of series share a createdAt, thousands a minute, all within the release's span."""
    times = import_times(np.full(30_000, 18))
    assert max(Counter(times.tolist()).values()) == 300
    minutes = Counter((times // 60_000_000).tolist())
    assert max(minutes.values()) == 3000
    assert len(minutes) == 10
    begin = to_micros(RELEASES[17])
    assert begin < times.min() <= times.max() < begin + RELEASE_SPAN // timedelta(microseconds=1)
    assert (np.diff(times) >= 0).all()


def test_releases_are_fixed() -> None:
    """Twenty-five dates, ascending, the last before May 2026; the source and its licences are named."""
    assert len(RELEASES) == 25
    assert list(RELEASES) == sorted(RELEASES)
    assert RELEASES[0] == datetime(2020, 10, 15, tzinfo=UTC)
    assert datetime(2026, 5, 1, tzinfo=UTC) > LATEST
    assert "Imaging Data Commons" in ATTRIBUTION
    assert "CC BY" in ATTRIBUTION
