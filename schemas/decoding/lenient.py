"""The lenient decoder: one page at a time through Python objects, for what the strict decoder refuses.

Fields that the API has grown, and values that their column cannot hold, go into ``extra`` under their own
names; times may be ISO texts.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from ahi_catalog.schemas.decoding.answer import Answer, MalformedSummaryError
from ahi_catalog.schemas.decoding.values import as_json, unicode_text
from ahi_catalog.schemas.image_sets import RECEIVED, RECEIVED_SCHEMA, SUMMARIES, TAGS
from ahi_catalog.schemas.tables import EARLIEST, LATEST, TIMESTAMP

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS: Final = 1e6
_MOST_DIGITS: Final = 1000


def read(body: bytes) -> Answer:
    """Any page.

    Raises:
        MalformedSummaryError: It cannot be read, or an image set on it lacks what no row can do without.
    """
    page = _load(body)
    rows = pa.Table.from_pylist([_read_summary(summary) for summary in page[SUMMARIES]], RECEIVED_SCHEMA)
    created, updated = (rows[name].cast(pa.int64()).to_pylist() for name in ("created_at", "updated_at"))
    token = page.get("nextToken")
    return Answer(
        rows=rows,
        ids=tuple(rows["image_set_id"].to_pylist()),
        created=tuple(created),
        updated=tuple(born if changed is None else changed for born, changed in zip(created, updated, strict=True)),
        next_token=token if isinstance(token, str) and token else None,
        sort=_sort(page.get("sort")),
    )


def _sort(value: Any) -> tuple[str, str] | None:
    return (str(value.get("sortField")), str(value.get("sortOrder"))) if isinstance(value, dict) else None


def _load(body: bytes) -> Mapping[str, Any]:
    """The page as Python objects; MalformedSummaryError where it is not a JSON object with a list of image sets."""
    try:
        loaded = json.loads(body, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError):
        raise MalformedSummaryError("a page of the service is not JSON") from None
    if not isinstance(loaded, dict) or not isinstance(loaded.get(SUMMARIES), list):
        raise MalformedSummaryError(f"a page of the service has no list {SUMMARIES}")
    return loaded


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float | str:
    """The number, or its text where no number of JSON can be written for it: 1e999 would become Infinity."""
    return number if math.isfinite(number := float(text)) else text


def _int(text: str) -> int | str:
    """The number, or its text where Python converts no number of so many digits back."""
    return int(text) if len(text) <= _MOST_DIGITS else text


def _read_summary(summary: Any) -> dict[str, Any]:
    if not isinstance(summary, dict):
        raise MalformedSummaryError("an image set in a page of the service is not a JSON object")
    row: dict[str, Any] = {}
    rest = dict(summary)
    if isinstance(tags := rest.get(TAGS), dict):
        rest[TAGS] = dict(tags)
    elif TAGS in rest and tags is None:
        del rest[TAGS]
    for column in RECEIVED:
        value = lookup(rest, column.source)
        held = None if value is None else _hold(value, column.type)
        if held is None and not column.nullable:
            raise MalformedSummaryError(f"an image set in a page of the service has no usable {column.source[-1]}")
        row[column.name] = held
        if value is None or held is not None:
            _discard(rest, column.source)
    if rest.get(TAGS) == {}:
        del rest[TAGS]
    try:
        row["extra"] = as_json(rest) if rest else None
    except RecursionError:
        raise MalformedSummaryError("an image set in a page of the service is nested too deeply") from None
    return row


def lookup(summary: Mapping[str, Any], source: tuple[str, ...]) -> Any:
    value: Any = summary
    for key in source:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _discard(summary: dict[str, Any], source: tuple[str, ...]) -> None:
    parent = lookup(summary, source[:-1])
    if isinstance(parent, dict):
        parent.pop(source[-1], None)


def _hold(value: Any, type_: pa.DataType) -> Any:
    """The value in its column's type, or None where the column cannot hold it."""
    if type_ == TIMESTAMP:
        return _to_microseconds(value)
    if pa.types.is_boolean(type_):
        return value if isinstance(value, bool) else None
    if pa.types.is_integer(type_):
        least = -(2 ** (type_.bit_width - 1))
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value < -least
        return value if fits else None
    return unicode_text(value)


def _to_microseconds(value: Any) -> int | None:
    """Epoch microseconds of epoch seconds or of an ISO 8601 text with a zone (botocore reads both)."""
    try:
        if isinstance(value, str):
            microseconds = (datetime.fromisoformat(value) - _EPOCH) // timedelta(microseconds=1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            microseconds = round(value * _MICROSECONDS)
        else:
            return None
    except (ValueError, OverflowError, TypeError):
        # No number or no time, too great for either, or a time without a zone.
        return None
    return microseconds if EARLIEST <= microseconds // 10**6 <= LATEST else None
