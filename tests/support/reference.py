"""What the catalog must hold, worked out row by row from the service's own answers and from design §4.

Deliberately slow and separate from `schemas`: no Arrow, one value at a time, and times through `Decimal`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

_SUMMARY = {
    "imageSetId": "image_set_id",
    "version": "version",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "lastAccessedAt": "last_accessed_at",
    "storageTier": "storage_tier",
    "isPrimary": "is_primary",
}
_TAGS = {
    "DICOMPatientId": "patient_id",
    "DICOMPatientName": "patient_name",
    "DICOMPatientSex": "patient_sex",
    "DICOMStudyInstanceUID": "study_instance_uid",
    "DICOMStudyId": "study_id",
    "DICOMStudyDescription": "study_description",
    "DICOMAccessionNumber": "accession_number",
    "DICOMNumberOfStudyRelatedSeries": "number_of_study_related_series",
    "DICOMNumberOfStudyRelatedInstances": "number_of_study_related_instances",
    "DICOMSeriesInstanceUID": "series_instance_uid",
    "DICOMSeriesModality": "series_modality",
    "DICOMSeriesBodyPart": "series_body_part",
    "DICOMSeriesNumber": "series_number",
    "DICOMPatientBirthDate": "dicom_patient_birth_date",
    "DICOMStudyDate": "dicom_study_date",
    "DICOMStudyTime": "dicom_study_time",
}
_TIMES = frozenset({"createdAt", "updatedAt", "lastAccessedAt"})


def expected_rows(summaries: Iterable[Mapping[str, Any]]) -> dict[str, Row]:
    """The catalog's rows of JSON-decoded summaries, by image set id."""
    return {row["image_set_id"]: row for row in map(expected_row, summaries)}


def expected_row(summary: Mapping[str, Any]) -> Row:
    """The catalog's row of one summary whose values are all of the declared types."""
    row: Row = dict.fromkeys([*_SUMMARY.values(), *_TAGS.values(), "extra"])
    extra = {}
    for key, value in summary.items():
        if key in _SUMMARY:
            row[_SUMMARY[key]] = _moment(value) if key in _TIMES else value
        elif key != "DICOMTags":
            extra[key] = value
    tags = summary.get("DICOMTags", {})
    row |= {_TAGS[key]: value for key, value in tags.items() if key in _TAGS}
    if unknown := {key: value for key, value in tags.items() if key not in _TAGS}:
        extra["DICOMTags"] = unknown
    row["extra"] = extra or None
    row["patient_birth_date"] = expected_date(row["dicom_patient_birth_date"])
    row["study_date"] = expected_date(row["dicom_study_date"])
    clock = expected_time(row["dicom_study_time"])
    day = row["study_date"]
    row["study_datetime"] = None if day is None or clock is None else datetime(day.year, day.month, day.day) + clock  # noqa: DTZ001  # DICOM local time has no zone
    return row


def expected_date(text: str | None) -> date | None:
    """A DA text's day."""
    stripped = (text or "").rstrip(" \0")
    found = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})|([0-9]{4})\.([0-9]{2})\.([0-9]{2})", stripped)
    if not found:
        return None
    try:
        return date(*(int(part) for part in found.groups() if part))
    except ValueError:
        return None


def expected_time(text: str | None) -> timedelta | None:
    """A TM text's time since midnight."""
    stripped = (text or "").rstrip(" \0")
    new = re.fullmatch(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?)?", stripped)
    old = re.fullmatch(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?", stripped)
    found = new or old
    if not found:
        return None
    hours, minutes, seconds = (int(found[i] or 0) for i in (1, 2, 3))
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    fraction = int((found[4] or "").ljust(6, "0"))
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=fraction)


def read_rows(tables: Iterable[pa.Table]) -> dict[str, Row]:
    """The rows of data objects by image set id; fails where an id stands twice, in one object or in two."""
    rows: dict[str, Row] = {}
    for table in tables:
        for row in table.to_pylist():
            assert row["image_set_id"] not in rows, "an image set has two rows"
            # The text of `extra` may order its keys as it likes.
            row["extra"] = json.loads(row["extra"]) if row["extra"] else None
            rows[row["image_set_id"]] = row
    return rows


def read_folder(catalog: Path) -> dict[str, Row]:
    """The rows of a catalog in a folder, read as they lie, without our code."""
    return read_rows(pq.read_table(path, partitioning=None) for path in sorted(catalog.glob("image_sets/**/*.parquet")))


def data_objects(catalog: Path) -> dict[str, bytes]:
    """The bytes of a catalog's data objects by their path below it."""
    return {str(path.relative_to(catalog)): path.read_bytes() for path in catalog.glob("image_sets/**/*.parquet")}


def _moment(seconds: float) -> datetime:
    microseconds = int((Decimal(repr(seconds)) * 1_000_000).to_integral_value())
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
