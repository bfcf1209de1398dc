"""What GetImageSetMetadata answers: one JSON document an image set, in the form of the developer guide.

Where a data store has no source of real attributes, an image set has one instance with what its summary says.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from ahi_catalog.emulator.records import Record

Describe = Callable[[Record], bytes]
"""The document of an image set."""

_PATIENT = {
    "DICOMPatientId": "PatientID",
    "DICOMPatientName": "PatientName",
    "DICOMPatientBirthDate": "PatientBirthDate",
    "DICOMPatientSex": "PatientSex",
}
_STUDY = {
    "DICOMStudyInstanceUID": "StudyInstanceUID",
    "DICOMStudyId": "StudyID",
    "DICOMStudyDescription": "StudyDescription",
    "DICOMAccessionNumber": "AccessionNumber",
    "DICOMStudyDate": "StudyDate",
    "DICOMStudyTime": "StudyTime",
}
_SERIES = {
    "DICOMSeriesInstanceUID": "SeriesInstanceUID",
    "DICOMSeriesModality": "Modality",
    "DICOMSeriesBodyPart": "BodyPartExamined",
    "DICOMSeriesNumber": "SeriesNumber",
}
_NO_UID = "2.25.0"


def document(record: Record, levels: Iterable[Mapping[str, Any]], instances: Iterable[tuple[str, bytes]]) -> bytes:
    """The document of an image set.

    Args:
        record: Its summary, of which the three upper levels are made.
        levels: More attributes of patient, study and series.
        instances: The SOP Instance UID of each, and what it says as JSON.
    """
    tags = record.summary().get("DICOMTags", {})
    patient, study, series = (
        {keyword: tags[tag] for tag, keyword in keywords.items() if tag in tags} | dict(more)
        for keywords, more in zip((_PATIENT, _STUDY, _SERIES), levels, strict=True)
    )
    joined = b",".join([b"%b:%b" % (orjson.dumps(uid), body) for uid, body in instances])
    return (
        b'{"SchemaVersion":"1.1","ImageSetID":"%b","Patient":{"DICOM":%b},"Study":{"DICOM":%b,'
        b'"Series":{%b:{"DICOM":%b,"Instances":{%b}}}}}'
        % (
            record.image_set_id.encode(),
            orjson.dumps(patient),
            orjson.dumps(study),
            orjson.dumps(series.get("SeriesInstanceUID") or _NO_UID),
            orjson.dumps(series),
            joined,
        )
    )


def instance(attributes: Mapping[str, Any], syntax: str | None, frames: Iterable[tuple[str, int]] = ()) -> bytes:
    """An instance as JSON.

    Args:
        attributes: By keyword.
        syntax: The transfer syntax that is stored.
        frames: The id and the size in bytes of each; none: it has no pixels.
    """
    listed = [
        {
            "ID": name,
            "PixelDataChecksumFromBaseToFullResolution": [{"Width": 512, "Height": 512, "Checksum": size}],
            "MinPixelValue": 0,
            "MaxPixelValue": 4095,
            "FrameSizeInBytes": size,
        }
        for name, size in frames
    ]
    body: dict[str, Any] = {"DICOM": attributes, "DICOMVRs": {}, "StoredTransferSyntaxUID": syntax}
    return orjson.dumps(body | ({"ImageFrames": listed} if listed else {}))


def describe_summary(record: Record) -> bytes:
    """The document of an image set of which nothing but the summary is known."""
    uid = f"2.25.{int(record.image_set_id, 36)}"
    one = instance(
        {"SOPInstanceUID": uid, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "InstanceNumber": "1 "},
        "1.2.840.10008.1.2.1",
        [(record.image_set_id, 1_000)],
    )
    return document(record, ({}, {}, {}), [(uid, one)])
