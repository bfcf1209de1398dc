"""Raw SearchImageSets pages as Arrow tables, every value kept.

Two ways lead to the same table: :mod:`schemas.fast` for pages as declared, :mod:`schemas.slow` for the rest.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas import fast, slow
from schemas.columns import COLUMNS, RECEIVED, SCHEMA
from schemas.dicom import combine, parse_dates, parse_times, unpad

_PARSED: Final = {
    "patient_birth_date": ("dicom_patient_birth_date", parse_dates),
    "study_date": ("dicom_study_date", parse_dates),
    "study_datetime": ("dicom_study_time", parse_times),
}
"""Computed columns, the raw column whose text they need, and what parses it."""


def flatten(pages: Sequence[bytes]) -> pa.Table:
    """One row an image set, in the order of the pages, in the columns of ``SCHEMA``.

    Args:
        pages: Bodies of SearchImageSets answers, JSON in UTF-8.

    Raises:
        MalformedSummaryError: A page cannot be read, or a summary lacks what no row can do without.
    """
    if not pages:
        return SCHEMA.empty_table()
    received = _read_fast(pages)
    if received is not None:
        return _compute(received)
    if len(pages) == 1:
        return _compute(slow.read_page(pages[0]))
    # Halving keeps the fast way for all pages but the odd ones.
    middle = len(pages) // 2
    return pa.concat_tables([flatten(pages[:middle]), flatten(pages[middle:])])


def _read_fast(pages: Sequence[bytes]) -> pa.Table | None:
    """The received columns of pages as declared; None where one is not. Arrow's error quotes values and ends here."""
    try:
        return fast.read_pages(pages)
    except pa.ArrowInvalid:
        return None


def _compute(received: pa.Table) -> pa.Table:
    """All columns: those received and those computed from them, in the order of the declaration."""
    parsed = {name: _parse_distinct(received[raw], parse) for name, (raw, parse) in _PARSED.items()}
    computed = parsed | {"study_datetime": combine(parsed["study_date"], parsed["study_datetime"])}
    arrays = [computed[c.name] if c.name in computed else received[c.name] for c in COLUMNS]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _parse_distinct(texts: pa.ChunkedArray, parse: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.ChunkedArray:
    """What the texts are parsed to; each distinct one once, for series of a study share their dates."""
    encoded = texts.combine_chunks().dictionary_encode()
    return parse(pa.chunked_array([encoded.dictionary])).take(encoded.indices)


def unparsable(table: pa.Table) -> dict[str, int]:
    """How many values of each column were sent but could not be held or parsed; columns without any left out.

    Args:
        table: Rows in the columns of ``SCHEMA``.
    """
    counts = Counter[str]()
    for name, (raw, parse) in _PARSED.items():
        # Where the column has a value, the text was parsed; few are left to look at.
        texts = unpad(table[raw].filter(pc.is_null(table[name])).drop_null())
        counts[name] += pc.sum(pc.and_(pc.not_equal(texts, ""), pc.is_null(parse(texts)))).as_py() or 0
    for text in table["extra"].drop_null().to_pylist():
        extra = json.loads(text)
        counts.update(column.name for column in RECEIVED if slow.lookup(extra, column.source) is not None)
    return {name: count for name, count in counts.items() if count}
