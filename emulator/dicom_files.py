"""Real DICOM files as image sets: pydicom's own and those of pydicom-data, with every oddity of their tags.

Only files on this disk are read; pydicom's helper functions, which download, are not used.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from ahi_catalog.emulator.metadata import document, instance
from ahi_catalog.emulator.records import Record
from ahi_catalog.emulator.service import Service

# DICOM keyword to tag of the API, and the model's greatest length in characters.
_TEXTS = {
    "PatientID": ("DICOMPatientId", 512),
    "PatientName": ("DICOMPatientName", 512),
    "PatientBirthDate": ("DICOMPatientBirthDate", 36),
    "PatientSex": ("DICOMPatientSex", 16),
    "StudyInstanceUID": ("DICOMStudyInstanceUID", 512),
    "StudyID": ("DICOMStudyId", 512),
    "StudyDescription": ("DICOMStudyDescription", 512),
    "AccessionNumber": ("DICOMAccessionNumber", 512),
    "SeriesInstanceUID": ("DICOMSeriesInstanceUID", 512),
    "Modality": ("DICOMSeriesModality", 32),
    "BodyPartExamined": ("DICOMSeriesBodyPart", 128),
    "StudyDate": ("DICOMStudyDate", 36),
    "StudyTime": ("DICOMStudyTime", 56),
}
_NUMBER = "SeriesNumber"
_INT32 = 2**31
# Six image sets a day: two at exactly midnight, two a microsecond apart, one at the day's last microsecond.
_FIRST_DAY = datetime(2024, 2, 28, tzinfo=UTC)
_OF_DAY = (
    timedelta(0),
    timedelta(0),
    timedelta(hours=8, minutes=30, microseconds=123_456),
    timedelta(hours=8, minutes=30, microseconds=123_457),
    timedelta(hours=12, milliseconds=500),
    timedelta(hours=23, minutes=59, seconds=59, microseconds=999_999),
)


def load_dicom_files(service: Service, datastore_id: str, paths: Iterable[Path] | None = None) -> int:
    """Insert one image set for each series of the files; returns how many.

    As HealthImaging does on import, files of one series whose tags disagree become image sets of their own,
    of which only the first is primary. Text is kept as it is in the file, padding included; only UIDs
    lose trailing NULs and blanks. A tag that the API could not hold (longer than its limit, a series number
    that is no 32-bit integer) is absent. Times are made up, and the same every time.

    Args:
        service: Where to.
        datastore_id: Which data store.
        paths: DICOM files; None takes pydicom's and pydicom-data's.
    """
    files: defaultdict[bytes, list[Path]] = defaultdict(list)
    for path in sorted(default_paths() if paths is None else paths):
        tags = read_tags(path)
        if tags:
            files[orjson.dumps(tags, option=orjson.OPT_SORT_KEYS)].append(path)
    by_id = {_image_set_id(encoded): its for encoded, its in files.items()}
    with service.lock:
        service.datastore(datastore_id).describe = lambda record: _describe(record, by_id[record.image_set_id])
    return service.insert(datastore_id, _summaries(Counter({encoded: len(its) for encoded, its in files.items()})))


def default_paths() -> Iterator[Path]:
    """The files of pydicom and pydicom-data that are on this disk."""
    for package, folders in (("pydicom.data", ("test_files", "charset_files")), ("data_store", ("data",))):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for folder in folders:
                yield from (path for path in (Path(place) / folder).rglob("*") if path.is_file())


def read_tags(path: Path) -> dict[str, Any]:
    """The DICOMTags of one file, without the counts; empty where it is no DICOM file or has none of them."""
    import pydicom  # noqa: PLC0415 - an extra, and slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the files are odd on purpose
        try:
            dataset = pydicom.dcmread(
                path,
                stop_before_pixels=True,
                force=True,
                specific_tags=["SpecificCharacterSet", *_TEXTS, _NUMBER],
            )
        except (pydicom.errors.InvalidDicomError, EOFError, ValueError, NotImplementedError):
            # What pydicom raises at files that are broken on purpose, or of a syntax that it does not read.
            return {}
        tags: dict[str, Any] = {}
        for keyword, (tag, limit) in _TEXTS.items():
            text = _text(dataset, keyword)
            if text is not None and len(text) <= limit:
                tags[tag] = text.rstrip("\0 ") if keyword.endswith("UID") else text
        number = _int32(_text(dataset, _NUMBER))
        if number is not None:
            tags["DICOMSeriesNumber"] = number
    return tags


def _text(dataset: Any, keyword: str) -> str | None:
    """An element's text as it is in the file, decoded with the file's character sets."""
    from pydicom.charset import convert_encodings  # noqa: PLC0415 - see read_tags
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415 - see read_tags
    from pydicom.valuerep import PersonName  # noqa: PLC0415 - see read_tags

    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return None
    value = dataset.get_item(tag).value
    if not isinstance(value, bytes):
        return None if value is None else str(value)
    try:
        encodings = convert_encodings(dataset.get("SpecificCharacterSet", "ISO_IR 6") or "ISO_IR 6")
        # A person name's decoder does for any text: it is the one that knows code extensions.
        return str(PersonName(value, encodings))
    except (LookupError, ValueError):
        return value.decode("latin-1")


def _int32(text: str | None) -> int | None:
    try:
        number = int(text or "")
    except ValueError:
        return None
    return number if -_INT32 <= number < _INT32 else None


def _summaries(files: Counter[bytes]) -> Iterator[dict[str, Any]]:
    groups = [(encoded, orjson.loads(encoded), count) for encoded, count in files.items()]
    studies = {tags.get("DICOMStudyInstanceUID") for _, tags, _ in groups}
    series = {
        study: {
            tags.get("DICOMSeriesInstanceUID") for _, tags, _ in groups if tags.get("DICOMStudyInstanceUID") == study
        }
        for study in studies
    }
    instances: Counter[str | None] = Counter()
    for _, tags, count in groups:
        instances[tags.get("DICOMStudyInstanceUID")] += count
    seen: set[str | None] = set()
    for number, (encoded, tags, _) in enumerate(groups):
        study, uid = tags.get("DICOMStudyInstanceUID"), tags.get("DICOMSeriesInstanceUID")
        created = _FIRST_DAY + timedelta(days=number // len(_OF_DAY)) + _OF_DAY[number % len(_OF_DAY)]
        yield {
            "imageSetId": _image_set_id(encoded),
            "version": 1,
            "createdAt": created,
            "updatedAt": created,
            "lastAccessedAt": created,
            "storageTier": "FREQUENT_ACCESS",
            "DICOMTags": tags
            | {
                "DICOMNumberOfStudyRelatedSeries": len(series[study]),
                "DICOMNumberOfStudyRelatedInstances": instances[study],
            },
            "isPrimary": uid not in seen,
        }
        seen.add(uid)


def _image_set_id(encoded: bytes) -> str:
    return blake2b(encoded, digest_size=16).hexdigest()


# What HealthImaging keeps at its upper levels; everything else is an instance's own.
_PATIENT = frozenset({"PatientID", "PatientName", "PatientBirthDate", "PatientSex", "EthnicGroup", "PatientComments"})
_STUDY = frozenset({
    "StudyInstanceUID", "StudyID", "StudyDescription", "AccessionNumber", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "PatientAge", "PatientSize", "PatientWeight",
})  # fmt: skip
_SERIES = frozenset({
    "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "BodyPartExamined",
    "Laterality", "SeriesDate", "SeriesTime", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber",
    "SoftwareVersions", "StationName", "InstitutionName", "FrameOfReferenceUID", "PatientPosition",
})  # fmt: skip
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW", "AT"})


def _describe(record: Record, paths: list[Path]) -> bytes:
    """The metadata of an image set: the true datasets of its files."""
    import pydicom  # noqa: PLC0415 - see read_tags

    levels: tuple[dict[str, Any], ...] = ({}, {}, {})
    instances: dict[str, bytes] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            own = _attributes(dataset)
            for level, keywords in zip(levels, (_PATIENT, _STUDY, _SERIES), strict=True):
                level.update({keyword: own.pop(keyword) for keyword in keywords & own.keys()})
            uid = own.get("SOPInstanceUID") or f"2.25.{len(instances) + 1}"
            syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
            instances[str(uid)] = instance(own, syntax and str(syntax), _frames(path, own))
    return document(record, levels, instances.items())


def _attributes(dataset: Any) -> dict[str, Any]:
    """Attributes by keyword, without private and binary ones, and without those that pydicom cannot read."""
    found: dict[str, Any] = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating a dataset reads every element
        try:
            element = dataset[tag]
            if element.keyword and element.VR not in _BINARY:
                found[element.keyword] = _wire(element.value)
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError):
            continue  # The files are odd on purpose.
    return found


def _wire(value: Any) -> Any:
    """A value as HealthImaging writes it: decimal strings as they are in the file, several values as a list."""
    from pydicom.dataset import Dataset  # noqa: PLC0415 - see read_tags

    if isinstance(value, Dataset):
        return _attributes(value)
    if isinstance(value, list | tuple) or type(value).__name__ in {"MultiValue", "Sequence"}:
        return [_wire(each) for each in value]
    if value is None or type(value) in {int, float, bool}:
        return value
    return str(getattr(value, "original_string", value)) or None


def _frames(path: Path, attributes: dict[str, Any]) -> list[tuple[str, int]]:
    """Ids and sizes of the frames, as if they were stored uncompressed; none where there are no pixels."""
    try:
        rows, columns, bits = (int(attributes[name]) for name in ("Rows", "Columns", "BitsAllocated"))
        count = int(attributes.get("NumberOfFrames") or 1)
    except (KeyError, TypeError, ValueError):
        return []
    size = rows * columns * bits // 8 * int(attributes.get("SamplesPerPixel") or 1)
    return [(blake2b(f"{path.name} {number}".encode(), digest_size=16).hexdigest(), size) for number in range(count)]
