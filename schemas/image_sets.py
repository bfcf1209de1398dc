"""The table `image_sets`: one row an image set, from what SearchImageSets lists.

A test compares the columns with the installed botocore model of ``medical-imaging/2023-07-19`` (shapes
``ImageSetsMetadataSummary`` and ``DICOMTags``) and fails when the API has a field that the declaration lacks.
"""

from typing import Final

import pyarrow as pa

from ahi_catalog.schemas.tables import LOCAL_DATETIME, TIMESTAMP, Column, Sensitivity, Table

SUMMARIES: Final = "imageSetsMetadataSummaries"
"""The key of a page under which SearchImageSets lists its image sets."""
TAGS: Final = "DICOMTags"
"""The key of a summary under which its DICOM attributes stand."""


def _summary(name: str, key: str, type_: pa.DataType, doc: str, *, nullable: bool = True) -> Column:
    return Column(name=name, type=type_, source=(key,), doc=doc, nullable=nullable)


def _tag(name: str, key: str, type_: pa.DataType, sensitivity: Sensitivity, doc: str) -> Column:
    return Column(name=name, type=type_, source=(TAGS, key), sensitivity=sensitivity, doc=doc)


def _parsed(name: str, type_: pa.DataType, sensitivity: Sensitivity, doc: str, *made_of: str) -> Column:
    return Column(name=name, type=type_, source=(), sensitivity=sensitivity, doc=doc, made_of=made_of)


_S, _I, _COUNT = pa.string(), pa.int32(), pa.int64()

_COLUMNS: Final[tuple[Column, ...]] = (
    _summary("image_set_id", "imageSetId", _S, "The image set's identifier, 32 of [0-9a-z].", nullable=False),
    _summary("version", "version", _I, "The newest version; grows with every change of the metadata."),
    _summary("created_at", "createdAt", TIMESTAMP, "When the image set was created, in UTC.", nullable=False),
    _summary("updated_at", "updatedAt", TIMESTAMP, "When the image set was last changed, in UTC."),
    _summary(
        "last_accessed_at",
        "lastAccessedAt",
        TIMESTAMP,
        "When its metadata or pixels were last accessed, in UTC; reads, copies and updates count, searches do not.",
    ),
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
        "dicom_patient_birth_date",
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
        _COUNT,
        Sensitivity.NONE,
        "Number of Study Related Series (0020,1206).",
    ),
    _tag(
        "number_of_study_related_instances",
        "DICOMNumberOfStudyRelatedInstances",
        _COUNT,
        Sensitivity.NONE,
        "Number of Study Related Instances (0020,1208).",
    ),
    _parsed(
        "study_date",
        pa.date32(),
        Sensitivity.DATE,
        "Study Date, or null where it is no real date.",
        "dicom_study_date",
    ),
    _parsed(
        "study_datetime",
        LOCAL_DATETIME,
        Sensitivity.DATE,
        "Study Date and Study Time together, in the local time of the modality (no zone), or null.",
        "dicom_study_date",
        "dicom_study_time",
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

IMAGE_SETS: Final = Table(
    name="image_sets",
    doc="AWS HealthImaging image sets, one row each; kept by ahi-catalog.",
    columns=_COLUMNS,
    key=("image_set_id",),
    version=("version", "updated_at"),
    created="created_at",
    # Storage tier and last access move without a new version, and between two reads they are not promised.
    volatile=frozenset({"storage_tier", "last_accessed_at"}),
    object_name="image-sets.parquet",
    looked_up=("image_set_id", "patient_id", "accession_number", "study_instance_uid", "series_instance_uid"),
    unique=("image_set_id", "series_instance_uid"),
    categories=("patient_sex", "storage_tier", "series_modality", "series_body_part"),
)

RECEIVED: Final = tuple(column for column in IMAGE_SETS.columns if column.source)
"""The columns that hold a field of the service as it is; the others are computed from them."""

RECEIVED_SCHEMA: Final = pa.schema([IMAGE_SETS.schema.field(name) for name in (*(c.name for c in RECEIVED), "extra")])
"""The Arrow schema of what is received, before the other columns are computed."""
