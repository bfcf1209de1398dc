"""Answers of GetImageSetMetadata as rows of `series` and `instances`, part by part.

A body is unzipped and decoded in parts of a few megabytes, each cut between two instances; of an instance only the
declared attributes become objects. So memory does not depend on how many instances an image set has.

A cut is proven by decoding: a part, closed with the brackets that are open between two instances, is a document of
the same form, and a part that is cut elsewhere is no JSON.
"""

import itertools
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import msgspec
import pyarrow as pa

from ahi_catalog.schemas.decoding.answer import MalformedSummaryError
from ahi_catalog.schemas.decoding.values import FLOAT_VRS, INTEGER_VRS, as_json, unicode_text
from ahi_catalog.schemas.dicom import parse_dates
from ahi_catalog.schemas.series import ATTRIBUTES, INSTANCES, SERIES
from ahi_catalog.schemas.tables import NUMBERS, TEXTS

MOST_BYTES: Final = 1 << 30
"""Of a body once it is unzipped: some 350,000 instances. A larger one is refused, as is what unzips without end."""
_PART_BYTES: Final = 4 << 20
_MOST_PART_BYTES: Final = 64 << 20
"""Of one part, where no instance ends before."""
_MOST_FRAME_BYTES: Final = 1 << 36
"""Of a frame: what is said to be larger is no size, and would not add up."""
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31
_STEP: Final = 256 << 10
_CLOSED: Final = b"}}}}}"
"""What is open between two instances: the document, Study, Series, the series, Instances."""
_BETWEEN: Final = re.compile(rb'\}(?P<cut>\s*,\s*)"[0-9][0-9A-Za-z.]{0,127}"\s*:\s*\{')
"""Between two instances or two series, whose keys are UIDs, some longer than they may be. It is never inside a text,
where a quote has a backslash before it."""
_TRIED: Final = 4
_DISAGREEING: Final = object()
_MISSING: Final = object()
_AGES: Final = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_AGE: Final = re.compile(r"(\d{3})([DWMY])[ \0]*")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INT: Final = re.compile(r"[+-]?\d{1,18}")


class MalformedMetadataError(MalformedSummaryError):
    """A body that is no metadata of an image set, or larger than any should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where rows come from, as the catalog knows it.

    Attributes:
        image_set_id: The image set.
        version: That was asked for.
        created_at: Of the image set, aware.
    """

    image_set_id: str
    version: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the metadata of an image set says: rows, not under a PHI policy yet.

    Attributes:
        series: Values of the columns of `series`, and the `patient_id` that dates are shifted by.
        instances: In the columns of `instances`; no row unless they were asked for.
    """

    series: list[dict[str, Any]] = field(repr=False)
    instances: pa.Table = field(repr=False)


def read_metadata(
    body: Iterable[bytes],
    origin: Origin,
    keywords: Mapping[str, str] = MappingProxyType({}),
    *,
    with_instances: bool = False,
) -> Metadata:
    """The rows of an image set.

    Args:
        body: Of the answer, piece by piece, gzip or not.
        origin: What it was asked for.
        keywords: Of the column `attributes`, each with its VR.
        with_instances: Whether rows of `instances` are wanted too.

    Raises:
        MalformedMetadataError: It is no metadata. The text quotes nothing.
    """
    reading = _Reading(origin, keywords, with_instances=with_instances)
    try:
        for part in _parts(_unzipped(body), _decoder(tuple(keywords)).decode):
            reading.add(part)
        return reading.result()
    except RecursionError:
        raise MalformedMetadataError("metadata is nested too deeply") from None


def to_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of `series` that `read_metadata` has made, in the table's columns and their `patient_id`."""
    dates = parse_dates(pa.chunked_array([pa.array([row["series_date"] for row in rows], pa.string())]))
    for row, date in zip(rows, dates.to_pylist(), strict=True):
        if date is None and row["series_date"] is not None and row["series_date"].strip(" \0"):
            row["extra"]["SeriesDate"] = row["series_date"]
        row["series_date"] = date
        row["extra"] = as_json(row["extra"]) if row["extra"] else None
    return pa.Table.from_pylist(rows, pa.schema([*SERIES.schema, pa.field("patient_id", pa.string())]))


def _unzipped(body: Iterable[bytes]) -> Iterator[bytes]:
    """The body in pieces of limited size, unzipped where it is gzip."""
    pieces = iter(body)
    head = next(pieces, b"")
    while len(head) < len(_GZIP) and (more := next(pieces, b"")):
        head += more
    total = 0
    whole = itertools.chain([head], pieces)
    for piece in _gunzip(whole) if head.startswith(_GZIP) else whole:
        total += len(piece)
        if total > MOST_BYTES:
            raise MalformedMetadataError(f"metadata of more than {MOST_BYTES >> 20} MB is not read")
        yield piece


def _gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(_GZIP_WINDOW)
    for piece in pieces:
        rest = piece
        while rest:
            if inflate.eof:
                inflate = zlib.decompressobj(_GZIP_WINDOW)
            try:
                yield inflate.decompress(rest, _STEP)
            except zlib.error:
                raise MalformedMetadataError("metadata is no readable gzip") from None
            rest = inflate.unused_data or inflate.unconsumed_tail
    if not inflate.eof:
        raise MalformedMetadataError("metadata ends too early")


def _parts(pieces: Iterable[bytes], decode: Callable[[bytes], Any]) -> Iterator[Any]:
    """The document, or several of its form that hold its instances between them."""
    waiting = bytearray()
    wanted = _PART_BYTES
    head = b""
    for piece in pieces:
        waiting += piece
        if len(waiting) < wanted:
            continue
        if len(waiting) > _MOST_PART_BYTES:
            raise MalformedMetadataError(f"metadata with an instance of {_MOST_PART_BYTES >> 20} MB is not read")
        found = _cut(head, waiting, decode)
        if found is None:
            wanted = 2 * len(waiting)
            continue
        part, end = found
        yield part
        uid = next(reversed(part.Study.Series))
        head = b'{"Study":{"Series":{%b:{"Instances":{' % json.dumps(uid).encode()
        del waiting[:end]
        wanted = _PART_BYTES
    try:
        yield decode(head + waiting)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The error may quote the body, and ends here.
        raise MalformedMetadataError("metadata is not of its form") from None


def _cut(head: bytes, waiting: bytearray, decode: Callable[[bytes], Any]) -> tuple[Any, int] | None:
    """What stands before the last place between two instances, decoded, and where the next one begins."""
    places = [found.span("cut") for found in _BETWEEN.finditer(waiting, max(len(waiting) - _PART_BYTES, 0))]
    for start, end in reversed(places[-_TRIED:]):
        try:
            part = decode(b"".join((head, memoryview(waiting)[:start], _CLOSED)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # Between two series, or in an attribute whose keys look like UIDs.
        if part.Study is not None and part.Study.Series:
            return part, end
    return None


@cache
def _decoder(keywords: tuple[str, ...]) -> Any:
    """Decodes a document into objects that hold what is declared alone."""
    wanted = {name: None for a in ATTRIBUTES for name in (a.keyword, *a.within[:1])}
    wanted |= dict.fromkeys(
        ("PatientID", "StudyInstanceUID", "SOPClassUID", "InstanceNumber", "TransferSyntaxUID", *keywords)
    )
    attributes = msgspec.defstruct("_Attributes", [(name, Any, None) for name in wanted], gc=False, frozen=True)
    # Not typed, so that what is odd about one frame does not lose the image set.
    frame = msgspec.defstruct("_Frame", [("ID", Any, None), ("FrameSizeInBytes", Any, None)], gc=False)
    instance = msgspec.defstruct(
        "_Instance",
        [
            ("DICOM", attributes, attributes()),
            ("StoredTransferSyntaxUID", Any, None),
            ("ImageFrames", list[frame] | None, None),  # type: ignore[valid-type]
        ],
        gc=False,
    )
    series = msgspec.defstruct(
        "_Series",
        [("DICOM", attributes | None, None), ("Instances", dict[str, instance] | None, None)],  # type: ignore[valid-type]
    )
    study = msgspec.defstruct(
        "_Study",
        [("DICOM", attributes | None, None), ("Series", dict[str, series] | None, None)],  # type: ignore[valid-type]
    )
    patient = msgspec.defstruct("_Patient", [("DICOM", attributes | None, None)])
    return msgspec.json.Decoder(
        msgspec.defstruct("_Document", [("Patient", patient | None, None), ("Study", study | None, None)])
    )


class _Reading:
    """What the parts of a document have come to."""

    def __init__(self, origin: Origin, keywords: Mapping[str, str], *, with_instances: bool) -> None:
        self._origin = origin
        self._keywords = keywords
        self._with_instances = with_instances
        self._above: list[Any] = []
        self._series: dict[str, _Series] = {}
        self._instances = [INSTANCES.schema.empty_table()]

    def add(self, part: Any) -> None:
        study = part.Study
        for level in (study, part.Patient):
            if level is not None and level.DICOM is not None:
                self._above.append(level.DICOM)
        for uid, its in ((study and study.Series) or {}).items():
            series = self._series.setdefault(uid, _Series())
            if its.DICOM is not None:
                series.own.append(its.DICOM)
            if its.Instances:
                series.add(its.Instances)
                if self._with_instances:
                    rows = list(map(partial(self._instance, uid), its.Instances.items()))
                    self._instances.append(pa.Table.from_pylist(rows, INSTANCES.schema))

    def result(self) -> Metadata:
        if not self._series:
            raise MalformedMetadataError("metadata has no series")
        series = [self._row(*item) for item in self._series.items()]
        return Metadata(series=series, instances=pa.concat_tables(self._instances))

    def _start(self, uid: str) -> dict[str, Any]:
        origin = self._origin
        return {
            "image_set_id": origin.image_set_id,
            "image_set_version": origin.version,
            "created_at": origin.created_at,
            "series_instance_uid": unicode_text(uid),
        }

    def _row(self, uid: str, series: "_Series") -> dict[str, Any]:
        holders = [*series.own, *self._above]
        extra: dict[str, Any] = {}
        row = self._start(uid) | {
            "patient_id": unicode_text(series.value("PatientID", (), holders)),
            "study_instance_uid": unicode_text(series.value("StudyInstanceUID", (), holders)),
            "sop_class_uid": sorted(series.classes) or None,
            "transfer_syntax_uid": sorted(series.syntaxes) or None,
            "instances": series.instances,
            "frames": series.frames,
            "bytes": series.bytes,
            "extra": extra,
        }
        for attribute in ATTRIBUTES:
            sent = series.value(attribute.keyword, attribute.within, holders)
            held = None if sent is None else _held(sent, attribute.column.type)
            row[attribute.column.name] = held
            if sent is not None and held is None and sent not in ("", []):
                extra[attribute.keyword] = sent
        row["patient_age_years"] = _years(row["patient_age"])
        if self._keywords:
            values = {name: _plain(series.value(name, (), holders), vr) for name, vr in self._keywords.items()}
            row["attributes"] = as_json(values)
        return row

    def _instance(self, series_uid: str, item: tuple[str, Any]) -> dict[str, Any]:
        uid, its = item
        frames = its.ImageFrames or []
        return self._start(series_uid) | {
            "sop_instance_uid": unicode_text(uid),
            "sop_class_uid": unicode_text(its.DICOM.SOPClassUID),
            "transfer_syntax_uid": unicode_text(its.StoredTransferSyntaxUID),
            "instance_number": _held(its.DICOM.InstanceNumber, INSTANCES.schema.field("instance_number").type),
            "frames": len(frames),
            "bytes": sum(map(_size, frames)),
            "frame_ids": [frame.ID for frame in frames if unicode_text(frame.ID) is not None],
            "rows": _held(its.DICOM.Rows, pa.int32()),
            "columns": _held(its.DICOM.Columns, pa.int32()),
        }


class _Series:
    """A series under way: what its instances agree on so far, and their sums."""

    def __init__(self) -> None:
        self.own: list[Any] = []
        self.instances = self.frames = self.bytes = 0
        self.classes: set[str] = set()
        self.syntaxes: set[str] = set()
        self._common: dict[tuple[str, ...], Any] = {}

    def add(self, instances: Mapping[str, Any]) -> None:
        found = list(instances.values())
        dicoms = [each.DICOM for each in found]
        self.instances += len(found)
        for each in found:
            if each.ImageFrames:
                self.frames += len(each.ImageFrames)
                self.bytes += sum(map(_size, each.ImageFrames))
        self.classes |= _distinct(each.SOPClassUID for each in dicoms)
        self.syntaxes |= _distinct(each.StoredTransferSyntaxUID for each in found)
        for name in dicoms[0].__struct_fields__:
            self._agree((name,), list(map(attrgetter(name), dicoms)))
        for attribute in ATTRIBUTES:
            if attribute.within:
                path = (*attribute.within, attribute.keyword)
                self._agree(path, [_inside(each, path) for each in dicoms])

    def value(self, keyword: str, within: tuple[str, ...], holders: Iterable[Any]) -> Any:
        """The value at the nearest level that has one; of the instances' the one that all agree on."""
        paths = [(keyword,), (*within, keyword)]
        for holder in holders:
            for path in paths:
                if (value := _inside(holder, path)) is not None:
                    return value
        common = (self._common.get(path) for path in paths)
        return next((value for value in common if value is not None and value is not _DISAGREEING), None)

    def _agree(self, path: tuple[str, ...], values: list[Any]) -> None:
        before = self._common.get(path, _MISSING)
        if before is _DISAGREEING:
            return
        first = values[0] if before is _MISSING else before
        if values.count(first) != len(values):
            bare = _bare(first)
            if any(_bare(value) != bare for value in values):
                first = _DISAGREEING
        self._common[path] = first


def _inside(holder: Any, path: tuple[str, ...]) -> Any:
    """The value at the end of a path through the first items of sequences."""
    value = getattr(holder, path[0])
    for name in path[1:]:
        if isinstance(value, list):
            value = value[0] if value else None
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _distinct(values: Iterable[Any]) -> set[str]:
    return {
        text for value in set(filter(lambda value: isinstance(value, str), values)) if (text := value.rstrip(" \0"))
    }


def _size(frame: Any) -> int:
    size = frame.FrameSizeInBytes
    return size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _MOST_FRAME_BYTES else 0


def _bare(value: Any) -> Any:
    """A value without DICOM's padding, by which two instances do not disagree."""
    if isinstance(value, list):
        return [_bare(each) for each in value]
    return value.strip(" \0") if isinstance(value, str) else value


def _held(value: Any, type_: pa.DataType) -> Any:
    """The value in its column's type; None where that cannot hold it. Of a date its text, which is parsed later."""
    if type_ in (TEXTS, NUMBERS):
        several = value if isinstance(value, list) else value.split("\\") if isinstance(value, str) else [value]
        held = [_held(each, type_.value_type) for each in several]
        return held if held and None not in held else None
    if type_ == pa.float64():
        return _number(_single(value))
    if pa.types.is_integer(type_):
        number = _integer(_single(value))
        return number if number is not None and -(2**31) <= number < 2**31 else None
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = "\\".join(value)  # as DICOM writes several values
    return unicode_text(value)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = float(bare) if _NUMBER.fullmatch(bare := _bare(value)) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        return int(bare) if _INT.fullmatch(bare := _bare(value)) else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _years(age: str | None) -> float | None:
    found = _AGE.fullmatch(age or "")
    return None if found is None else round(int(found[1]) / _AGES[found[2]], 3)


def _plain(value: Any, vr: str) -> Any:
    """A value of `attributes`: numbers as numbers, where they are ones."""
    convert = _number if vr in FLOAT_VRS else _integer if vr in INTEGER_VRS else None
    if convert is None or value is None:
        return _bare(value)
    if isinstance(value, list):
        numbers = [convert(each) for each in value]
        return value if None in numbers else numbers
    number = convert(value)
    return value if number is None else number
