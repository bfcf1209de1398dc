"""The metadata of the Imaging Data Commons' series: what its index knows of them, on as many instances as they have.

Of the index are age, description, manufacturer, model, SOP class, transfer syntax, photometric interpretation, series
date, the number of instances and their size together. It does not know slices, spacing, kernels and exposure: those are
drawn by a hash of the series' UID, the same on every machine, and so are instances' own attributes.
"""

from collections.abc import Iterator
from functools import cached_property
from hashlib import blake2b
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ahi_catalog.emulator.metadata import document
from ahi_catalog.emulator.records import Record

_STUDY = {"PatientAge": "PatientAge"}
_SERIES = ("SeriesDescription", "SeriesDate", "Manufacturer", "ManufacturerModelName")
_INSTANCE = ("SOPClassUID", "PhotometricInterpretation", "PixelRepresentation")
_COLUMNS = (
    *_STUDY, *_SERIES, *_INSTANCE, "SeriesInstanceUID", "Modality", "TransferSyntaxUID", "instanceCount",
    "series_size_MB",
)  # fmt: skip
_WITHOUT_PIXELS = frozenset({"RTSTRUCT", "RTPLAN", "SR", "PR", "KO", "ANN"})
_MEGABYTE = 1_000_000
_THICKNESSES = ("0.625", "1", "1.25", "2", "2.5", "3", "5")
_OF_MODALITY: dict[str, dict[str, tuple[Any, ...]]] = {
    "CT": {
        "SliceThickness": _THICKNESSES,
        "KVP": ("100 ", "120 ", "140 "),
        "ConvolutionKernel": ("B30f", "B70f", "STANDARD", "LUNG", "FC18"),
        "ExposureTime": ("500 ", "750 ", "1000"),
        "XRayTubeCurrent": ("100 ", "220 ", "340 "),
    },
    "MR": {
        "SliceThickness": _THICKNESSES[1:],
        "MagneticFieldStrength": ("1.5 ", "3 "),
        "RepetitionTime": ("500 ", "2000", "4250"),
        "EchoTime": ("12.5", "90", "105 "),
        "FlipAngle": ("15", "90", "150 "),
    },
    "PT": {
        "SliceThickness": ("2.027", "3.27", "5"),
        "RadiopharmaceuticalInformationSequence": ([{"Radiopharmaceutical": "Fluorodeoxyglucose"}],),
    },
}
# What instances of most kinds have besides, so that a document has the size of a real one.
_FILLING = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "Rows": 512,
    "Columns": 512,
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "SamplesPerPixel": 1,
    "PixelSpacing": ["0.703125", "0.703125"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "WindowCenter": "40",
    "WindowWidth": "400 ",
    "RescaleIntercept": "-1024 ",
    "RescaleSlope": "1 ",
    "RescaleType": "HU",
    "SpecificCharacterSet": "ISO_IR 100",
    "AcquisitionNumber": "1 ",
    "DataCollectionDiameter": "500 ",
    "ReconstructionDiameter": "360 ",
    "DistanceSourceToDetector": "949.075 ",
    "DistanceSourceToPatient": "541 ",
    "GantryDetectorTilt": "0 ",
    "TableHeight": "157.5 ",
    "RotationDirection": "CW",
    "FilterType": "BODY FILTER",
    "FocalSpots": "1.2 ",
    "PatientPosition": "FFS",
    "PositionReferenceIndicator": "SN",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY",
    "PatientIdentityRemoved": "YES",
    "LongitudinalTemporalInformationModified": "MODIFIED",
    "DeidentificationMethodCodeSequence": [
        {
            "CodeValue": value,
            "CodingSchemeDesignator": "DCM",
            "CodeMeaning": "Basic Application Confidentiality Profile",
        }
        for value in ("113100", "113101", "113105", "113107", "113108", "113109", "113111")
    ],
}


class IdcMetadata:
    """Makes the metadata of an image set of `load_idc`; reads the index when it is first asked.

    Args:
        uids: Of the series that were loaded.
    """

    def __init__(self, uids: pa.Array) -> None:
        self._uids = uids

    def __call__(self, record: Record) -> bytes:
        summary = record.summary()
        tags = summary["DICOMTags"]
        uid = tags["DICOMSeriesInstanceUID"]
        row = self._rows[uid]
        facts = {name: self._table[name][row].as_py() for name in _COLUMNS}
        if facts["SeriesDate"]:
            facts["SeriesDate"] = facts["SeriesDate"].replace("-", "")
        series = {name: facts[name] for name in _SERIES if facts[name] is not None}
        study = {name: facts[name] for name in _STUDY if facts[name] is not None}
        frame = {"FrameOfReferenceUID": f"2.25.{_draw(uid)}.1"}
        return document(record, ({}, study, series | frame), _instances(uid, facts))

    @cached_property
    def _table(self) -> pa.Table:
        import idc_index_data  # noqa: PLC0415 - an extra, and its import looks for files

        table = pq.read_table(idc_index_data.IDC_INDEX_PARQUET_FILEPATH, columns=list(_COLUMNS))
        # One chunk: a row of it is then found at once.
        return table.filter(pc.is_in(table["SeriesInstanceUID"], self._uids)).combine_chunks()

    @cached_property
    def _rows(self) -> dict[str, int]:
        uids = self._table["SeriesInstanceUID"].to_pylist()
        return {uid: row for row, uid in enumerate(uids)}


def _draw(uid: str) -> int:
    return int.from_bytes(blake2b(uid.encode(), digest_size=8).digest())


def _instances(uid: str, facts: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    drawn = _draw(uid)
    modality, count = facts["Modality"], facts["instanceCount"]
    of_series = {name: values[drawn % len(values)] for name, values in _OF_MODALITY.get(modality, {}).items()}
    filling = {} if modality in _WITHOUT_PIXELS else _FILLING
    common = {**filling, **of_series, **{name: facts[name] for name in _INSTANCE if facts[name] is not None}}
    shared = orjson.dumps(common)[1:-1]
    syntax = orjson.dumps(facts["TransferSyntaxUID"])
    size = round(facts["series_size_MB"] * _MEGABYTE)
    each = size // count
    for number in range(1, count + 1):
        its_size = each if number < count else size - each * (count - 1)
        frames = b"" if modality in _WITHOUT_PIXELS else _frame(drawn + number, its_size)
        name = f"2.25.{drawn}.{number}"
        yield (
            name,
            b'{"DICOM":{"SOPInstanceUID":"%b","InstanceNumber":"%d ","SliceLocation":"%d",%b},"DICOMVRs":{},'
            % (
                name.encode(),
                number,
                number,
                shared,
            )
            + b'"StoredTransferSyntaxUID":%b%b}' % (syntax, frames),
        )


def _frame(number: int, size: int) -> bytes:
    return (
        b',"ImageFrames":[{"ID":"%032x","PixelDataChecksumFromBaseToFullResolution":[{"Width":512,"Height":512,'
        b'"Checksum":%d}],"MinPixelValue":0,"MaxPixelValue":4095,"FrameSizeInBytes":%d}]' % (number, size, size)
    )
