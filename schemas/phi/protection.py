"""A PHI policy applied to rows: Arrow in, Arrow out, the same for the same rows and key. Pure."""

import json
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.schemas.decoding.lenient import lookup
from ahi_catalog.schemas.dicom import parse_times
from ahi_catalog.schemas.phi.policy import Action, PhiPolicy, Policy, action, harmless_sources
from ahi_catalog.schemas.phi.pseudonyms import PhiKey, day_offsets, hashes, uids
from ahi_catalog.schemas.tables import Column, Table

_FIRST_DAY: Final = -719_162
"""The first of January of the year 1, in days since 1970: a date column holds none before it."""
_DAY_MICROSECONDS: Final = 86_400_000_000
_CODE: Final = r"^[A-Za-z0-9 _]{0,16}[ \x00]*$"
"""A code string (DICOM PS3.5 section 6.2, CS), lower case too, since real files have it."""


class Protect(Protocol):
    """Makes rows of a table into rows of the same columns that may be stored."""

    def __call__(self, rows: pa.Table) -> pa.Table: ...


def protection(table: Table, policy: PhiPolicy, key: PhiKey | None) -> Protect:
    """What a catalog's policy makes of rows.

    Image set id, version and the service's own times stay: merging and partitioning need them.

    Args:
        table: What the rows are of; each column's sensitivity says what becomes of it.
        policy: The catalog's.
        key: Of its pseudonyms; with `pseudonymize` only.

    Raises:
        ValueError: The key is missing, or another than the policy's.
    """
    if (key.check if key else None) != policy.key_check:
        raise ValueError("the key is not the policy's")
    if policy.policy is Policy.KEEP:
        return lambda rows: rows
    return _Protection(table, policy, key)


class _Protection:
    def __init__(self, table: Table, policy: PhiPolicy, key: PhiKey | None) -> None:
        self._table = table
        self._policy = policy
        self._harmless = harmless_sources(table)
        self._keys = {c.name: key.derive(c.name) for c in table.columns} if key else {}
        self._offset_key = key.derive("day offset") if key and policy.shift_dates else None

    def __call__(self, rows: pa.Table) -> pa.Table:
        offsets = day_offsets(rows["patient_id"], self._offset_key) if self._offset_key else None
        study_date = _shifted(rows["study_date"], offsets, pa.int32(), 1)
        moved = {
            "study_date": study_date,
            "study_datetime": _shifted(rows["study_datetime"], offsets, pa.int64(), _DAY_MICROSECONDS),
            # The raw text is made of the parsed date, so that it can tell no more than that.
            "dicom_study_date": _da(study_date),
            "dicom_study_time": _where(rows["dicom_study_time"], pc.is_valid(parse_times(rows["dicom_study_time"]))),
        }
        year = _first_of_january(rows["patient_birth_date"])
        years = {"patient_birth_date": year, "dicom_patient_birth_date": _da(year)}

        computed = moved | years

        def protected(column: Column) -> pa.ChunkedArray:
            values = rows[column.name]
            does = action(self._policy.policy, column)
            if does in (Action.DATE, Action.YEAR):
                return computed[column.name]
            if does is Action.KEEP:
                return values
            made = self._make(column.name, does, values)
            return pa.chunked_array([pa.nulls(len(rows), column.type)]) if made is None else made

        return pa.Table.from_arrays([protected(column) for column in self._table.columns], schema=self._table.schema)

    def _make(self, name: str, does: Action, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """What an action makes of a column on its own; None: nothing is left."""
        if does is Action.HASH:
            return hashes(values, self._keys[name])
        if does is Action.UID:
            return uids(values, self._keys[name])
        if does is Action.CODE:
            return _codes(values)
        if does is Action.TEXT and self._policy.keep_text:
            return self._cleaned(values) if name == "extra" else values
        return None

    def _cleaned(self, texts: pa.ChunkedArray) -> pa.ChunkedArray:
        """Of ``extra`` the declared fields that are no identifier, name, UID, date or code.

        A field that the declaration does not know may be any of those, so it is taken out.
        """
        if texts.null_count == len(texts):
            return texts
        return pa.chunked_array([pa.array([text and self._clean(text) for text in texts.to_pylist()], pa.string())])

    def _clean(self, text: str) -> str | None:
        extra = json.loads(text)
        kept: dict[str, Any] = {}
        for column in self._table.columns:
            if column.source in self._harmless and (value := lookup(extra, column.source)) is not None:
                parent = kept.setdefault(column.source[0], {}) if len(column.source) > 1 else kept
                parent[column.source[-1]] = value
        return json.dumps(kept, sort_keys=True, separators=(",", ":")) if kept else None


def _shifted(
    moments: pa.ChunkedArray, offsets: pa.ChunkedArray | None, number: pa.DataType, day: int
) -> pa.ChunkedArray:
    """Earlier by so many days, null where the patient is unknown; as they are where there are no offsets.

    Args:
        moments: Dates or times.
        offsets: Days, one a row.
        number: The integer type of the moments' width.
        day: A day in the moments' unit.
    """
    if offsets is None:
        return moments
    earlier = pc.subtract(pc.cast(moments, number), pc.multiply(pc.cast(offsets, number), pa.scalar(day, number)))
    return pc.cast(_where(earlier, pc.greater_equal(earlier, pa.scalar(_FIRST_DAY * day, number))), moments.type)


def _first_of_january(dates: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.floor_temporal(dates, unit="year"), pa.date32())


def _da(dates: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates as DICOM's DA texts, ``YYYYMMDD``."""
    return pc.replace_substring(pc.cast(dates, pa.string()), "-", "")


def _codes(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(values.type):
        return values
    return _where(values, pc.match_substring_regex(values, _CODE))


def _where(values: pa.ChunkedArray, is_kept: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(is_kept, values, pa.scalar(None, values.type))
