"""A PHI policy applied to rows: Arrow in, Arrow out, the same for the same rows and key. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.schemas.decoding.lenient import lookup
from ahi_catalog.schemas.decoding.values import FLOAT_VRS, INTEGER_VRS, as_json
from ahi_catalog.schemas.dicom import parse_times
from ahi_catalog.schemas.phi.policy import Action, PhiPolicy, Policy, action
from ahi_catalog.schemas.phi.pseudonyms import PhiKey, day_offsets, hashes, uids
from ahi_catalog.schemas.tables import Column, Sensitivity, Table

_FIRST_DAY: Final = -719_162
"""The first of January of the year 1, in days since 1970: a date column holds none before it."""
_DAY_MICROSECONDS: Final = 86_400_000_000
_CODE: Final = r"^[A-Za-z0-9 _]{0,16}[ \x00]*$"
"""A code string (DICOM PS3.5 section 6.2, CS), lower case too, since real files have it."""
_CODES: Final = r"^[A-Za-z0-9 _\\\x00]*$"
"""Several of them, joined by a backslash."""
_OLDEST: Final = 90
"""Ages above 89 are told as one (45 CFR 164.514(b)(2)(i)(C))."""
_AGE: Final = r"^(?:\d{3}[DWM]|0[0-8]\dY) ?$"
_BEYOND: Final = r"^(?:09\d|[1-9]\d\d)Y ?$"
_MADE_OF: Final = {"dicom_study_date": "study_date", "dicom_patient_birth_date": "patient_birth_date"}
"""Raw texts, and the parsed date that each is written anew from, so that it can tell no more than that."""
_HARMLESS: Final = (Sensitivity.NONE, Sensitivity.TEXT)
"""Columns whose fields may stand in ``extra``: no identifier, name, UID, date or code."""
_KEYED: Final = {Action.HASH: hashes, Action.UID: uids}

Protect = Callable[[pa.Table], pa.Table]
"""Makes rows of a table into rows of the same columns that may be stored."""


def protection(
    table: Table, policy: PhiPolicy, key: PhiKey | None, *, keywords: Mapping[str, str] = MappingProxyType({})
) -> Protect:
    """What a catalog's policy makes of rows.

    Image set id, version and the service's own times stay: merging and partitioning need them. Rows may have a
    `patient_id` that the table lacks: dates are shifted by it, and it is left out of what comes back.

    Args:
        table: What the rows are of; each column's sensitivity says what becomes of it.
        policy: The catalog's.
        key: Of its pseudonyms; with `pseudonymize` only.
        keywords: Of the column `attributes`, each with its VR.

    Raises:
        ValueError: The key is missing, or another than the policy's.
    """
    if (key.check if key else None) != policy.key_check:
        raise ValueError("the key is not the policy's")
    if policy.policy is Policy.KEEP:
        return lambda rows: rows.select(table.schema.names)
    return _Protection(table, policy, key, keywords)


class _Protection:
    def __init__(self, table: Table, policy: PhiPolicy, key: PhiKey | None, keywords: Mapping[str, str]) -> None:
        self._table = table
        self._keywords = keywords
        self._policy = policy
        self._keys = {c.name: key.derive(c.name) for c in table.columns} if key else {}
        has_dates = any(action(policy.policy, column) is Action.DATE for column in table.columns)
        self._offset_key = key.derive("day offset") if key and policy.shift_dates and has_dates else None

    def __call__(self, rows: pa.Table) -> pa.Table:
        offsets = day_offsets(rows["patient_id"], self._offset_key) if self._offset_key else None

        def moved(does: Action, values: pa.ChunkedArray) -> pa.ChunkedArray:
            if does is Action.YEAR:
                return _first_of_january(values)
            if pa.types.is_string(values.type):
                return _where(values, pc.is_valid(parse_times(values)))
            return _shifted(values, offsets)

        def protected(column: Column) -> pa.ChunkedArray:
            values = rows[column.name]
            does = action(self._policy.policy, column)
            if does is Action.KEEP:
                return values
            if does in (Action.DATE, Action.YEAR):
                parsed = _MADE_OF.get(column.name)
                return _da(moved(does, rows[parsed])) if parsed else moved(does, values)
            made = self._make(column.name, does, values)
            return pa.chunked_array([pa.nulls(len(rows), column.type)]) if made is None else made

        return pa.Table.from_arrays([protected(column) for column in self._table.columns], schema=self._table.schema)

    def _make(self, name: str, does: Action, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """What an action makes of a column on its own; None: nothing is left."""
        if does in _KEYED:
            return _KEYED[does](values, self._keys[name])
        if does is Action.CODE:
            return _codes(values)
        if does is Action.AGE:
            return _ages(values)
        if does is Action.ATTRIBUTES:
            return _each_text(values, self._clean_attributes)
        if does is Action.TEXT and self._policy.keep_text:
            return _each_text(values, self._clean) if name == "extra" else values
        return None

    def _clean(self, text: str) -> str | None:
        """Of ``extra`` the declared fields that are no identifier, name, UID, date or code.

        A field that the declaration does not know may be any of those, so it is taken out.
        """
        extra = json.loads(text)
        kept: dict[str, Any] = {}
        for column in self._table.columns:
            is_harmless = column.source and column.sensitivity in _HARMLESS
            if is_harmless and (value := lookup(extra, column.source)) is not None:
                parent = kept.setdefault(column.source[0], {}) if len(column.source) > 1 else kept
                parent[column.source[-1]] = value
        return as_json(kept) if kept else None

    def _clean_attributes(self, text: str) -> str:
        """Each keyword of ``attributes``, null where its value may tell of a patient."""
        kept = {name: self._clean_attribute(name, value) for name, value in json.loads(text).items()}
        return as_json(kept)

    def _clean_attribute(self, keyword: str, value: Any) -> Any:
        vr = self._keywords.get(keyword)
        several = value if isinstance(value, list) else [value]
        if vr in FLOAT_VRS | INTEGER_VRS:
            return value if all(isinstance(each, int | float) for each in several) else None
        if vr == "CS":
            return value if all(isinstance(each, str) and re.fullmatch(_CODE, each) for each in several) else None
        return value if keyword.endswith("Description") and self._policy.keep_text else None


def _each_text(texts: pa.ChunkedArray, make: Callable[[str], str | None]) -> pa.ChunkedArray:
    if texts.null_count == len(texts):
        return texts
    return pa.chunked_array([pa.array([text and make(text) for text in texts.to_pylist()], pa.string())])


def _shifted(moments: pa.ChunkedArray, offsets: pa.ChunkedArray | None) -> pa.ChunkedArray:
    """Earlier by so many days, null where the patient is unknown; as they are where there are no offsets.

    Args:
        moments: Dates, or times in microseconds.
        offsets: Days, one a row.
    """
    if offsets is None:
        return moments
    number, day = (pa.int32(), 1) if pa.types.is_date(moments.type) else (pa.int64(), _DAY_MICROSECONDS)
    earlier = pc.subtract(pc.cast(moments, number), pc.multiply(pc.cast(offsets, number), pa.scalar(day, number)))
    return pc.cast(_where(earlier, pc.greater_equal(earlier, pa.scalar(_FIRST_DAY * day, number))), moments.type)


def _first_of_january(dates: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.floor_temporal(dates, unit="year"), pa.date32())


def _da(dates: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates as DICOM's DA texts, ``YYYYMMDD``."""
    return pc.replace_substring(pc.cast(dates, pa.string()), "-", "")


def _codes(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_list(values.type):
        codes = pc.match_substring_regex(pc.binary_join(values, "\\"), _CODES)
        return pa.chunked_array([_where(values.combine_chunks(), codes.combine_chunks())])
    if not pa.types.is_string(values.type):
        return values
    return _where(values, pc.match_substring_regex(values, _CODE))


def _ages(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ages in years, or as DICOM's AS texts."""
    if not pa.types.is_string(values.type):
        return pc.min_element_wise(values, pa.scalar(_OLDEST, values.type), skip_nulls=False)
    told = pc.if_else(pc.match_substring_regex(values, _BEYOND), pa.scalar(f"0{_OLDEST}Y"), values)
    return _where(told, pc.match_substring_regex(told, rf"{_AGE}|^0{_OLDEST}Y$"))


def _where(values: pa.ChunkedArray, is_kept: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(is_kept, values, pa.scalar(None, values.type))
