"""Rows as the bytes of a data object, and back. The bytes are a function of the rows."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ahi_catalog.connectors.errors import DamagedError, StateError
from ahi_catalog.connectors.storage.base import Part
from ahi_catalog.schemas import Table

ROW_GROUP_ROWS: Final = 24 * 1024
"""Few enough to be skipped when one patient is looked up: DuckDB takes a fifth less time than in 131,072."""
_PAGE_ROWS: Final = 8 * 1024
"""What DuckDB decompresses to find one patient; pages of 1,024 rows take twice the time to count by a column."""
_PAGE_BYTES: Final = 1 << 30
_COMPRESSION_LEVEL: Final = 1
"""On a million image sets of the Imaging Data Commons smaller than 3 and 6, at half the CPU."""
_FALSE_POSITIVES: Final = 0.01


def encode(table: Table, rows: pa.Table) -> bytes:
    """A Parquet object for Athena, Spark, DuckDB and Trino alike.

    Args:
        table: What the rows are of.
        rows: In the table's columns, sorted as they shall lie; how they are cut into chunks does not matter.
    """
    is_list = pa.types.is_list
    leaves = {field.name: f"{field.name}.list.element" if is_list(field.type) else field.name for field in table.schema}
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression={leaf: "none" if name in table.categories else "zstd" for name, leaf in leaves.items()},
        compression_level={leaf: _COMPRESSION_LEVEL for name, leaf in leaves.items() if name not in table.categories},
        use_dictionary=[leaf for name, leaf in leaves.items() if name not in table.unique],
        # By rows, and one dictionary for all of a row group: where pages end by size, or a dictionary does, depends on
        # how the rows are cut into chunks.
        max_rows_per_page=_PAGE_ROWS,
        data_page_size=_PAGE_BYTES,
        dictionary_pagesize_limit=_PAGE_BYTES,
        write_page_index=True,
        write_statistics=True,
        write_page_checksum=True,
        store_schema=False,
        # As many distinct values as rows is the most there can be, and the same on every run.
        bloom_filter_options={
            name: {"ndv": max(1, min(len(rows), ROW_GROUP_ROWS)), "fpp": _FALSE_POSITIVES} for name in table.looked_up
        },
    ) as writer:
        writer.write_table(rows, ROW_GROUP_ROWS)
    return sink.getvalue()


def footer_start(tail: Part) -> int:
    """Where the footer of an object begins, as its last eight bytes say: its length, and four letters."""
    length = int.from_bytes(tail.body[-8:-4], "little")
    # What is damaged may say anything; Arrow finds that out.
    return max(0, tail.size - 8 - length) if tail.body.endswith(b"PAR1") else tail.start


def decode(table: Table, body: bytes, names: Sequence[str] | None = None) -> pa.Table:
    """The rows of a data object, in the table's columns and types, whatever version wrote it.

    Args:
        table: What the object holds.
        body: Its bytes; the checksum of every page that is read is checked.
        names: Of the columns to read; None: all.

    Raises:
        DamagedError: The bytes are no Parquet object of this table.
        StateError: They were written by a later version.
    """
    schema = pa.schema([table.schema.field(name) for name in names or table.schema.names])
    with _telling_damage():
        file = _open(table, body)
        present = file.schema_arrow.names
        found = file.read([name for name in schema.names if name in present], use_threads=False)
        for name in schema.names:
            if name not in present:
                found = found.append_column(name, pa.nulls(len(found), schema.field(name).type))
        rows = found.select(schema.names).cast(schema)
        rows.validate(full=True)
    return rows


def is_of_this_version(table: Table, body: bytes) -> bool:
    """Whether a data object has the columns and types that this version writes.

    Raises:
        DamagedError: The bytes are no Parquet object of this table.
        StateError: They were written by a later version.
    """
    with _telling_damage():
        found = _open(table, body).schema_arrow
    return {field.name: field.type for field in found} == {field.name: field.type for field in table.schema}


def _open(table: Table, body: bytes) -> pq.ParquetFile:
    file = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
    found = file.schema_arrow.names
    names = set(found)
    needed = {field.name for field in table.schema if not field.nullable}
    if not needed <= names or len(names) < len(found):
        raise DamagedError("a data object is not of a catalog")
    # Columns of a later version of the schema would be lost by writing the object again.
    if unknown := names - set(table.schema.names):
        raise StateError(f"a data object has columns that this version does not know ({len(unknown)}); upgrade")
    return file


@contextmanager
def _telling_damage() -> Iterator[None]:
    try:
        yield
    except pa.ArrowMemoryError:
        # That says nothing about the object.
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise DamagedError("a data object is not a readable Parquet object of a catalog") from None
