"""The tables `series` and `instances`: what GetImageSetMetadata knows of an image set, and its summary does not.

Each attribute is declared once: keyword, level, column type, tag, documentation, sensitivity. Decoding, schemas, DDL,
the data dictionary and PHI actions follow from it.
"""

import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from ahi_catalog.schemas.tables import NUMBERS, TEXTS, TIMESTAMP, Column, Sensitivity, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A DICOM attribute that a column holds.

    Attributes:
        keyword: Of DICOM PS3.6.
        within: Sequences inside which it may stand too, from the outside in; of each the first item counts.
        column: What holds it; its source says at which level it stands.
    """

    keyword: str
    within: tuple[str, ...]
    column: Column


def snake_case(keyword: str) -> str:
    """A DICOM keyword as a column's name: ``SOPClassUID`` sop_class_uid."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", keyword).lower()


def _declare(  # noqa: PLR0917  # a line of a table each
    keyword: str,
    level: str,
    type_: pa.DataType,
    tag: str,
    doc: str,
    sensitivity: Sensitivity = Sensitivity.NONE,
    within: tuple[str, ...] = (),
) -> Attribute:
    source = (level, "DICOM", *within, keyword)
    column = Column(name=snake_case(keyword), type=type_, source=source, sensitivity=sensitivity, doc=f"{doc} ({tag}).")
    return Attribute(keyword=keyword, within=within, column=column)


_S, _I, _COUNT, _N = pa.string(), pa.int32(), pa.int64(), pa.float64()
_STUDY, _SERIES, _INSTANCE = "Study", "Series", "Instances"
"""Where in a document of metadata an attribute stands."""
_CODE, _AGE, _DATE = Sensitivity.CODE, Sensitivity.AGE, Sensitivity.DATE
_ID, _UID, _TEXT = Sensitivity.IDENTIFIER, Sensitivity.UID, Sensitivity.TEXT
_MEASURES = ("SharedFunctionalGroupsSequence", "PixelMeasuresSequence")
_NUCLIDES = ("RadiopharmaceuticalInformationSequence",)
_SAME: Final = ", where all instances agree"

_GENERAL: Final = (
    _declare("Modality", _SERIES, _S, "0008,0060", "Modality", _CODE),
    _declare("SeriesNumber", _SERIES, _I, "0020,0011", "Series Number", _CODE),
    _declare("SeriesDescription", _SERIES, _S, "0008,103E", "Series Description", _TEXT),
    _declare("ProtocolName", _SERIES, _S, "0018,1030", "Protocol Name", _TEXT),
    _declare("BodyPartExamined", _SERIES, _S, "0018,0015", "Body Part Examined", _CODE),
    _declare("Laterality", _SERIES, _S, "0020,0060", "Laterality", _CODE),
    _declare("SeriesDate", _SERIES, pa.date32(), "0008,0021", "Series Date", _DATE),
    _declare("SeriesTime", _SERIES, _S, "0008,0031", "Series Time, untouched", _DATE),
    _declare("PatientAge", _STUDY, _S, "0010,1010", "Patient's Age, as received", _AGE),
)
_EQUIPMENT: Final = (
    _declare("PatientSize", _STUDY, _N, "0010,1020", "Patient's Size in metres", _CODE),
    _declare("PatientWeight", _STUDY, _N, "0010,1030", "Patient's Weight in kilograms", _CODE),
    _declare("Manufacturer", _SERIES, _S, "0008,0070", "Manufacturer"),
    _declare("ManufacturerModelName", _SERIES, _S, "0008,1090", "Manufacturer's Model Name"),
    _declare("DeviceSerialNumber", _SERIES, _S, "0018,1000", "Device Serial Number", _ID),
    _declare("SoftwareVersions", _SERIES, _S, "0018,1020", "Software Versions, several joined by a backslash"),
    _declare("StationName", _SERIES, _S, "0008,1010", "Station Name", _ID),
    _declare("InstitutionName", _SERIES, _S, "0008,0080", "Institution Name", _ID),
)
_IMAGE: Final = (
    _declare("Rows", _INSTANCE, _I, "0028,0010", f"Rows{_SAME}"),
    _declare("Columns", _INSTANCE, _I, "0028,0011", f"Columns{_SAME}"),
    _declare("BitsStored", _INSTANCE, _I, "0028,0101", f"Bits Stored{_SAME}"),
    _declare("PhotometricInterpretation", _INSTANCE, _S, "0028,0004", f"Photometric Interpretation{_SAME}", _CODE),
    _declare(
        "PixelSpacing",
        _INSTANCE,
        NUMBERS,
        "0028,0030",
        f"Pixel Spacing in millimetres, between rows and between columns{_SAME}",
        within=_MEASURES,
    ),
    _declare(
        "SliceThickness",
        _INSTANCE,
        _N,
        "0018,0050",
        f"Slice Thickness in millimetres{_SAME}",
        within=_MEASURES,
    ),
    _declare(
        "SpacingBetweenSlices",
        _INSTANCE,
        _N,
        "0018,0088",
        f"Spacing Between Slices in millimetres{_SAME}",
        within=_MEASURES,
    ),
    _declare("ImageType", _INSTANCE, TEXTS, "0008,0008", f"Image Type{_SAME}", _CODE),
    _declare("FrameOfReferenceUID", _SERIES, _S, "0020,0052", "Frame of Reference UID", _UID),
    _declare("KVP", _INSTANCE, _N, "0018,0060", f"KVP{_SAME}"),
    _declare("ConvolutionKernel", _INSTANCE, _S, "0018,1210", f"Convolution Kernel{_SAME}"),
    _declare("ContrastBolusAgent", _INSTANCE, _S, "0018,0010", f"Contrast/Bolus Agent{_SAME}", _TEXT),
    _declare("MagneticFieldStrength", _INSTANCE, _N, "0018,0087", f"Magnetic Field Strength in tesla{_SAME}"),
    _declare("RepetitionTime", _INSTANCE, _N, "0018,0080", f"Repetition Time in milliseconds{_SAME}"),
    _declare("EchoTime", _INSTANCE, _N, "0018,0081", f"Echo Time in milliseconds{_SAME}"),
    _declare("FlipAngle", _INSTANCE, _N, "0018,1314", f"Flip Angle in degrees{_SAME}"),
    _declare(
        "Radiopharmaceutical",
        _INSTANCE,
        _S,
        "0018,0031",
        f"Radiopharmaceutical, the first{_SAME}",
        within=_NUCLIDES,
    ),
)
ATTRIBUTES: Final[tuple[Attribute, ...]] = (*_GENERAL, *_EQUIPMENT, *_IMAGE)
"""What `series` takes from DICOM attributes as they are, in the order of its columns."""

_PREFIX: Final = (
    Column(
        name="image_set_id", type=_S, source=("ImageSetID",), doc="The image set that it was read from.", nullable=False
    ),
    Column(name="image_set_version", type=_I, source=(), doc="The version of the image set that it was read from."),
    Column(
        name="created_at",
        type=TIMESTAMP,
        source=(),
        doc="When the image set was created, in UTC, as in `image_sets`.",
        nullable=False,
    ),
)
_SERIES_UID: Final = Column(
    name="series_instance_uid",
    type=_S,
    source=("Study", "Series"),
    sensitivity=_UID,
    doc="Series Instance UID (0020,000E).",
)


def _uids(name: str, keyword: str, doc: str) -> Column:
    return Column(name=name, type=TEXTS, source=("Instances", keyword), doc=doc)


def _count(name: str, source: tuple[str, ...], doc: str) -> Column:
    return Column(name=name, type=_COUNT, source=source, doc=doc)


_FRAMES: Final = ("Instances", "ImageFrames")
_BYTES: Final = _count("bytes", (*_FRAMES, "FrameSizeInBytes"), "Bytes of all frames as they are stored.")

SERIES: Final = Table(
    name="series",
    doc="Series of AWS HealthImaging image sets, one row each, from their metadata.",
    columns=(
        *_PREFIX,
        _SERIES_UID,
        Column(
            name="study_instance_uid",
            type=_S,
            source=("Study", "DICOM", "StudyInstanceUID"),
            sensitivity=_UID,
            doc="Study Instance UID (0020,000D).",
        ),
        *(attribute.column for attribute in _GENERAL),
        Column(
            name="patient_age_years",
            type=_N,
            source=(),
            sensitivity=_AGE,
            doc="Patient's Age (0010,1010) in years, or null where it is no age.",
        ),
        *(attribute.column for attribute in _EQUIPMENT),
        _uids("sop_class_uid", "SOPClassUID", "The distinct SOP Class UIDs (0008,0016), sorted."),
        _uids("transfer_syntax_uid", "StoredTransferSyntaxUID", "The distinct transfer syntaxes that are stored."),
        _count("instances", ("Instances",), "How many instances."),
        _count("frames", _FRAMES, "How many frames."),
        _BYTES,
        *(attribute.column for attribute in _IMAGE),
        Column(
            name="attributes",
            type=_S,
            source=(),
            sensitivity=Sensitivity.ATTRIBUTES,
            doc="JSON of the further keywords that the catalog keeps, each null where instances disagree; or null.",
        ),
        Column(
            name="extra",
            type=_S,
            source=(),
            sensitivity=_TEXT,
            doc="JSON of what was sent in a form that its column cannot hold, by keyword; or null.",
        ),
    ),
    key=("image_set_id", "series_instance_uid"),
    version=("image_set_version",),
    created="created_at",
    object_name="series.parquet",
    looked_up=("image_set_id", "study_instance_uid", "series_instance_uid"),
    unique=("image_set_id", "series_instance_uid"),
    categories=("modality", "body_part_examined", "manufacturer"),
)

INSTANCES: Final = Table(
    name="instances",
    doc="SOP instances of AWS HealthImaging image sets, one row each, from their metadata.",
    columns=(
        *_PREFIX,
        _SERIES_UID,
        Column(
            name="sop_instance_uid",
            type=_S,
            source=("Instances",),
            sensitivity=_UID,
            doc="SOP Instance UID (0008,0018).",
        ),
        Column(
            name="sop_class_uid",
            type=_S,
            source=("Instances", "DICOM", "SOPClassUID"),
            doc="SOP Class UID (0008,0016).",
        ),
        Column(
            name="transfer_syntax_uid",
            type=_S,
            source=("Instances", "StoredTransferSyntaxUID"),
            doc="The transfer syntax that is stored.",
        ),
        Column(
            name="instance_number",
            type=_I,
            source=("Instances", "DICOM", "InstanceNumber"),
            doc="Instance Number (0020,0013).",
        ),
        _count("frames", _FRAMES, "How many frames."),
        _BYTES,
        Column(name="frame_ids", type=TEXTS, source=(*_FRAMES, "ID"), doc="The ids of its frames, in their order."),
        Column(name="rows", type=_I, source=("Instances", "DICOM", "Rows"), doc="Rows (0028,0010)."),
        Column(name="columns", type=_I, source=("Instances", "DICOM", "Columns"), doc="Columns (0028,0011)."),
    ),
    key=("image_set_id", "sop_instance_uid"),
    version=("image_set_version",),
    created="created_at",
    object_name="instances.parquet",
    looked_up=("image_set_id", "sop_instance_uid"),
    unique=("image_set_id", "sop_instance_uid", "frame_ids"),
    categories=("sop_class_uid",),
)

DERIVED_TABLES: Final = (SERIES, INSTANCES)
"""Tables whose rows name their image set, and the version of it that they were read from."""
