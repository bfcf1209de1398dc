"""The one declaration of the catalog's columns.

The Arrow schema, the flattening and, later, the DDL, the PHI actions and the data dictionary all derive
from :data:`COLUMNS`. A test compares it with the installed botocore model of
``medical-imaging/2023-07-19`` (shapes ``ImageSetsMetadataSummary`` and ``DICOMTags``) and fails when the
API has a field that the declaration lacks.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import pyarrow as pa

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
LOCAL_DATETIME: Final = pa.timestamp("us")

EARLIEST: Final = -62_135_596_800
"""Epoch seconds of the first second of year 1. Python and Athena know no moment before it, or after the year 9999."""
LATEST: Final = 253_402_300_799
"""Epoch seconds of the last second of year 9999."""

SUMMARIES: Final = "imageSetsMetadataSummaries"
"""The key of a page under which SearchImageSets lists its image sets."""
TAGS: Final = "DICOMTags"
"""The key of a summary under which its DICOM attributes stand."""


class Sensitivity(StrEnum):
    """What a column can tell about a patient; anything but ``NONE`` is marked `sensitive` in the API."""

    NONE = "none"
    IDENTIFIER = "identifier"
    NAME = "name"
    UID = "uid"
    BIRTH = "birth"
    DATE = "date"
    TEXT = "text"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the catalog.

    Attributes:
        name: The service's field name, ``DICOM`` dropped, in snake case; ``dicom_*`` for untouched text
            that a parsed column stands beside.
        type: The Arrow type, one that Athena, Spark, DuckDB and Trino all read.
        source: Path of the field in a summary, from the outside in; empty for a column that is computed.
        sensitivity: What the column can tell about a patient.
        doc: One line for the data dictionary.
        nullable: False only where a row without the value cannot be.
    """

    name: str
    type: pa.DataType
    source: tuple[str, ...]
    sensitivity: Sensitivity = Sensitivity.NONE
    doc: str
    nullable: bool = True


def _summary(name: str, key: str, type_: pa.DataType, doc: str, *, nullable: bool = True) -> Column:
    return Column(name=name, type=type_, source=(key,), doc=doc, nullable=nullable)


def _tag(name: str, key: str, type_: pa.DataType, sensitivity: Sensitivity, doc: str) -> Column:
    return Column(name=name, type=type_, source=(TAGS, key), sensitivity=sensitivity, doc=doc)


def _parsed(name: str, type_: pa.DataType, sensitivity: Sensitivity, doc: str) -> Column:
    return Column(name=name, type=type_, source=(), sensitivity=sensitivity, doc=doc)


_S, _I = pa.string(), pa.int32()

COLUMNS: Final[tuple[Column, ...]] = (
    _summary("image_set_id", "imageSetId", _S, "The image set's identifier, 32 of [0-9a-z].", nullable=False),
    _summary("version", "version", _I, "The newest version; grows with every change of the metadata."),
    _summary("created_at", "createdAt", TIMESTAMP, "When the image set was created, in UTC.", nullable=False),
    _summary("updated_at", "updatedAt", TIMESTAMP, "When the image set was last changed, in UTC."),
    _summary("last_accessed_at", "lastAccessedAt", TIMESTAMP, "When its pixels were last read, in UTC."),
    _summary("storage_tier", "storageTier", _S, "FREQUENT_ACCESS or ARCHIVE_INSTANT_ACCESS."),
    _summary("is_primary", "isPrimary", pa.bool_(), "Whether it is the primary image set of its series."),
    _tag("patient_id", "DICOMPatientId", _S, Sensitivity.IDENTIFIER, "Patient ID (0010,0020)."),
    _tag("patient_name", "DICOMPatientName", _S, Sensitivity.NAME, "Patient's Name (0010,0010), as received."),
    _tag("patient_sex", "DICOMPatientSex", _S, Sensitivity.CODE, "Patient's Sex (0010,0040), as received."),
    _parsed(
        "patient_birth_date",
        pa.date32(),
        Sensitivity.BIRTH,
        "Patient's Birth Date, or null where it is no real date.",
    ),
    _tag(
        "study_instance_uid",
        "DICOMStudyInstanceUID",
        _S,
        Sensitivity.UID,
        "Study Instance UID (0020,000D).",
    ),
    _tag("study_id", "DICOMStudyId", _S, Sensitivity.IDENTIFIER, "Study ID (0020,0010)."),
    _tag("study_description", "DICOMStudyDescription", _S, Sensitivity.TEXT, "Study Description (0008,1030)."),
    _tag(
        "accession_number",
        "DICOMAccessionNumber",
        _S,
        Sensitivity.IDENTIFIER,
        "Accession Number (0008,0050).",
    ),
    _tag(
        "number_of_study_related_series",
        "DICOMNumberOfStudyRelatedSeries",
        _I,
        Sensitivity.NONE,
        "Number of Study Related Series (0020,1206).",
    ),
    _tag(
        "number_of_study_related_instances",
        "DICOMNumberOfStudyRelatedInstances",
        _I,
        Sensitivity.NONE,
        "Number of Study Related Instances (0020,1208).",
    ),
    _parsed("study_date", pa.date32(), Sensitivity.DATE, "Study Date, or null where it is no real date."),
    _parsed(
        "study_datetime",
        LOCAL_DATETIME,
        Sensitivity.DATE,
        "Study Date and Study Time together, in the local time of the modality (no zone), or null.",
    ),
    _tag(
        "series_instance_uid",
        "DICOMSeriesInstanceUID",
        _S,
        Sensitivity.UID,
        "Series Instance UID (0020,000E).",
    ),
    _tag("series_modality", "DICOMSeriesModality", _S, Sensitivity.CODE, "Modality (0008,0060)."),
    _tag("series_body_part", "DICOMSeriesBodyPart", _S, Sensitivity.CODE, "Body Part Examined (0018,0015)."),
    _tag("series_number", "DICOMSeriesNumber", _I, Sensitivity.CODE, "Series Number (0020,0011)."),
    _tag(
        "dicom_patient_birth_date",
        "DICOMPatientBirthDate",
        _S,
        Sensitivity.BIRTH,
        "Patient's Birth Date (0010,0030), untouched.",
    ),
    _tag("dicom_study_date", "DICOMStudyDate", _S, Sensitivity.DATE, "Study Date (0008,0020), untouched."),
    _tag("dicom_study_time", "DICOMStudyTime", _S, Sensitivity.DATE, "Study Time (0008,0030), untouched."),
    Column(
        name="extra",
        type=_S,
        source=(),
        sensitivity=Sensitivity.TEXT,
        doc="JSON of what the service sent beyond these columns or in a form they cannot hold; or null.",
    ),
)

SCHEMA: Final = pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in COLUMNS])
"""The Arrow schema of a data object; the partition keys are in its path only."""

RECEIVED: Final = tuple(column for column in COLUMNS if column.source)
"""The columns that hold a field of the service as it is; the others are computed from them."""

RECEIVED_SCHEMA: Final = pa.schema([SCHEMA.field(name) for name in (*(c.name for c in RECEIVED), "extra")])
"""The Arrow schema of what is received, before the other columns are computed."""
