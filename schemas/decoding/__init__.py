"""Pages of SearchImageSets as Arrow tables, every value kept.

Two decoders make the same table: `strict` reads pages that are exactly as declared, `lenient` reads the rest.
Dates and times of DICOM are parsed in :mod:`ahi_catalog.schemas.dicom`.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.schemas.decoding import lenient, strict
from ahi_catalog.schemas.decoding.answer import Answer, Rows
from ahi_catalog.schemas.dicom import combine, parse_dates, parse_times, unpad
from ahi_catalog.schemas.image_sets import IMAGE_SETS, RECEIVED, TAGS

_PARSED: Final = {
    "patient_birth_date": ("dicom_patient_birth_date", parse_dates),
    "study_date": ("dicom_study_date", parse_dates),
    "study_datetime": ("dicom_study_time", parse_times),
}
"""Computed columns, the raw column whose text they need, and what parses it."""

UNPARSABLE: Final = frozenset({*_PARSED, *(column.name for column in RECEIVED)})
"""Columns that may be unable to hold what was sent."""

QUALITY_COLUMNS: Final = [*_PARSED, *(raw for raw, _ in _PARSED.values()), "extra"]
"""What `unparsable` looks at."""

_FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
"""What a field of the API is called; any other text may be anything, and is not repeated."""
_OTHER_NAME: Final = "(a name of another form)"


def read(body: bytes) -> Answer:
    """What an answer of SearchImageSets says.

    Args:
        body: JSON in UTF-8, as received.

    Raises:
        MalformedSummaryError: It cannot be read, or a summary lacks what no row can do without.
    """
    try:
        return strict.read(body)
    except (ValueError, RecursionError):
        pass  # The error may quote values, and ends here.
    return lenient.read(body)


def flatten(pages: Iterable[Rows]) -> pa.Table:
    """One row an image set, in the order of the pages, in the columns of `image_sets`.

    Args:
        pages: The rows of answers that `read` has read.
    """
    tables: list[pa.Table] = []
    for is_table, alike in itertools.groupby(pages, lambda rows: isinstance(rows, pa.Table)):
        found = list(alike)
        tables += found if is_table else [strict.to_table(list(itertools.chain.from_iterable(found)))]
    return _compute(pa.concat_tables(tables)) if tables else IMAGE_SETS.schema.empty_table()


def _compute(received: pa.Table) -> pa.Table:
    """All columns: those received and those computed from them, in the order of the declaration."""
    parsed = {name: _parse_distinct(received[raw], parse) for name, (raw, parse) in _PARSED.items()}
    computed = parsed | {"study_datetime": combine(parsed["study_date"], parsed["study_datetime"])}
    arrays = [computed[c.name] if c.name in computed else received[c.name] for c in IMAGE_SETS.columns]
    return pa.Table.from_arrays(arrays, schema=IMAGE_SETS.schema)


def _parse_distinct(texts: pa.ChunkedArray, parse: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.ChunkedArray:
    """What the texts are parsed to; each distinct one once, for series of a study share their dates."""
    encoded = texts.combine_chunks().dictionary_encode()
    return parse(pa.chunked_array([encoded.dictionary])).take(encoded.indices)


def unparsable(table: pa.Table) -> dict[str, int]:
    """How many values of each column were sent but could not be held or parsed; columns without any left out.

    Args:
        table: Rows of `image_sets`, `QUALITY_COLUMNS` of them at least.
    """
    counts = Counter[str]()
    for name, (raw, parse) in _PARSED.items():
        # Where the column has a value, the text was parsed; few are left to look at, mostly none.
        if len(texts := table[raw].filter(pc.is_null(table[name])).drop_null()):
            texts = unpad(texts)
            counts[name] += pc.sum(pc.and_(pc.not_equal(texts, ""), pc.is_null(parse(texts)))).as_py()
    for text in table["extra"].drop_null().to_pylist():
        extra = json.loads(text)
        counts.update(column.name for column in RECEIVED if lenient.lookup(extra, column.source) is not None)
    return {name: count for name, count in counts.items() if count}


def unknown_fields(table: pa.Table) -> dict[str, int]:
    """In how many rows the service sent which field that the declaration does not know.

    Args:
        table: Rows of `image_sets`, before a PHI policy has taken from ``extra``.

    Returns:
        Counts by the field's name (``DICOMTags.DICOMKVP``), without those that are none.
    """
    counts = Counter[str]()
    known = {column.source for column in RECEIVED}
    for text in table["extra"].drop_null().to_pylist():
        extra = json.loads(text)
        tags = extra.pop(TAGS, None)
        paths = [(name,) for name in extra] + ([(TAGS, name) for name in tags] if isinstance(tags, dict) else [])
        # Several names of another form are told once a row.
        counts.update({".".join(map(_told, path)) for path in paths if path not in known})
    return dict(counts)


def _told(name: str) -> str:
    return name if _FIELD_NAME.fullmatch(name) else _OTHER_NAME
