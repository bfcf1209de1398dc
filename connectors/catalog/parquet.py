"""Rows as the bytes of a data object, and back, a stretch at a time. The bytes are a function of the rows."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ahi_catalog.connectors.catalog.stretches import whole
from ahi_catalog.connectors.errors import DamagedError, StateError
from ahi_catalog.schemas import SCHEMA

ROW_GROUP_ROWS: Final = 24 * 1024
"""Few enough to be held while they are written (8 MB), and to be skipped when one patient is looked up."""
_PAGE_ROWS: Final = 8 * 1024
"""So many rows of a column are held while they are decoded, and they are what is read at a time."""
_PAGE_BYTES: Final = 1 << 30
_COMPRESSION_LEVEL: Final = 1
"""On a million image sets of the Imaging Data Commons smaller than 3 and 6, at half the CPU."""
_FALSE_POSITIVES: Final = 0.01

_NEEDED: Final = frozenset(field.name for field in SCHEMA if not field.nullable)

LOOKED_UP: Final = ("image_set_id", "patient_id", "accession_number", "study_instance_uid", "series_instance_uid")
"""The identifiers that people look single image sets up by; each gets a Bloom filter."""

_DISTINCT: Final = ("image_set_id", "series_instance_uid")
"""Columns whose every value is another, so that a dictionary of them would only be in the way."""

_FEW_VALUES: Final = ("patient_sex", "storage_tier", "series_modality", "series_body_part")
"""Columns that people count by: as runs of a small dictionary they take next to no bytes, so they stay uncompressed."""


class DataObject:
    """The rows of a data object, in stretches of some thousand rows, as often as they are asked for.

    Every stretch may raise DamagedError as well.

    Args:
        body: Its bytes.

    Raises:
        DamagedError: The bytes are no Parquet object of a catalog.
        StateError: They were written by a later version.
    """

    def __init__(self, body: bytes) -> None:
        with _telling_damage():
            self._file = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
            found = self._file.schema_arrow.names
        names = set(found)
        if not _NEEDED.issubset(names) or len(names) < len(found):
            raise DamagedError("a data object is not of a catalog")
        # Columns of a later version of the schema would be lost by writing the object again.
        if unknown := names - set(SCHEMA.names):
            raise StateError(f"a data object has columns that this version does not know ({len(unknown)}); upgrade")
        self._present = [name for name in SCHEMA.names if name in names]

    def read(self, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
        """Some columns of SCHEMA, or all."""
        schema = pa.schema([SCHEMA.field(name) for name in names])
        batches = self._file.iter_batches(
            _PAGE_ROWS, columns=[n for n in self._present if n in schema.names], use_threads=False
        )
        while True:
            with _telling_damage():
                batch = next(batches, None)
                if batch is None:
                    return
                stretch = _completed(pa.Table.from_batches([batch]), schema)
            yield stretch


def encode(rows: Iterable[pa.Table]) -> bytes:
    """A Parquet object for Athena, Spark, DuckDB and Trino alike.

    Args:
        rows: In the columns of SCHEMA, sorted as they shall lie; how they are cut into tables does not matter.
    """
    groups = _regrouped(rows)
    first = next(groups, SCHEMA.empty_table())
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        compression={name: "none" if name in _FEW_VALUES else "zstd" for name in SCHEMA.names},
        compression_level={name: _COMPRESSION_LEVEL for name in SCHEMA.names if name not in _FEW_VALUES},
        use_dictionary=[name for name in SCHEMA.names if name not in _DISTINCT],
        # By rows, and one dictionary for all of a row group: where pages end by size, or a dictionary does, depends on
        # how the rows are cut into tables.
        max_rows_per_page=_PAGE_ROWS,
        data_page_size=_PAGE_BYTES,
        dictionary_pagesize_limit=_PAGE_BYTES,
        write_page_index=True,
        write_statistics=True,
        write_page_checksum=True,
        store_schema=False,
        # As many distinct values as rows is the most there can be, and the same on every run.
        bloom_filter_options={name: {"ndv": max(1, len(first)), "fpp": _FALSE_POSITIVES} for name in LOOKED_UP},
    ) as writer:
        writer.write_table(first, ROW_GROUP_ROWS)
        del first  # as every group, before the next one is made
        for group in groups:
            writer.write_table(group, ROW_GROUP_ROWS)
            del group
    return sink.getvalue()


def decode(body: bytes) -> pa.Table:
    """All rows of a data object, in the columns of SCHEMA.

    Raises:
        DamagedError: The bytes are no Parquet object of a catalog.
        StateError: They were written by a later version.
    """
    return whole(DataObject(body))


def _regrouped(rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, cut into the row groups that they become."""
    held: list[pa.Table] = []
    room = ROW_GROUP_ROWS
    for table in rows:
        left = table
        while len(left):
            held.append(left.slice(0, room))
            left = left.slice(room)
            room -= len(held[-1])
            if not room:
                yield pa.concat_tables(held)
                held, room = [], ROW_GROUP_ROWS
    if held:
        yield pa.concat_tables(held)


def _completed(found: pa.Table, schema: pa.Schema) -> pa.Table:
    """With nulls for the columns that an earlier version did not write yet; every value is looked at."""
    for name in schema.names:
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(len(found), schema.field(name).type))
    rows = found.select(schema.names).cast(schema)
    rows.validate(full=True)
    return rows


@contextmanager
def _telling_damage() -> Iterator[None]:
    try:
        yield
    except pa.ArrowMemoryError:
        # That says nothing about the object.
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise DamagedError("a data object is not a readable Parquet object of a catalog") from None
