"""Rows as the bytes of a data object, and back. The bytes are a function of the rows."""

import io
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.errors import DamagedError, StateError
from schemas import SCHEMA

ROW_GROUP_ROWS: Final = 128 * 1024
_COMPRESSION_LEVEL: Final = 1
"""On a million image sets of the Imaging Data Commons smaller than 3 and 6, at half the CPU."""
_FALSE_POSITIVES: Final = 0.01

_NEEDED: Final = frozenset(field.name for field in SCHEMA if not field.nullable)

LOOKED_UP: Final = ("image_set_id", "patient_id", "accession_number", "study_instance_uid", "series_instance_uid")
"""The identifiers that people look single image sets up by; each gets a Bloom filter."""

_DISTINCT: Final = ("image_set_id", "series_instance_uid")
"""Columns whose every value is another, so that a dictionary of them would only be in the way."""


def encode(rows: pa.Table) -> bytes:
    """A Parquet object for Athena, Spark, DuckDB and Trino alike.

    Args:
        rows: In the columns of SCHEMA, sorted as they shall lie.
    """
    rows = rows.combine_chunks()
    sink = io.BytesIO()
    # As many distinct values as rows is the most there can be, and the same on every run.
    values = max(1, min(len(rows), ROW_GROUP_ROWS))
    pq.write_table(
        rows,
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=[name for name in SCHEMA.names if name not in _DISTINCT],
        write_page_index=True,
        write_statistics=True,
        store_schema=False,
        bloom_filter_options={name: {"ndv": values, "fpp": _FALSE_POSITIVES} for name in LOOKED_UP},
    )
    return sink.getvalue()


def decode(body: bytes) -> pa.Table:
    """The rows of a data object, in the columns of SCHEMA.

    Raises:
        DamagedError: The bytes are no Parquet object of a catalog.
        StateError: They were written by a later version.
    """
    try:
        table = pq.read_table(pa.BufferReader(body))
        if not _NEEDED.issubset(table.column_names):
            raise DamagedError("a data object is not of a catalog")
        # Columns of a later version of the schema would be lost by writing the object again.
        if unknown := set(table.column_names) - set(SCHEMA.names):
            raise StateError(f"a data object has columns that this version does not know ({len(unknown)}); upgrade")
        absent = [name for name in SCHEMA.names if name not in table.column_names]
        for name in absent:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
        rows = table.select(SCHEMA.names).cast(SCHEMA)
        rows.validate(full=True)
    except pa.ArrowMemoryError:
        # That says nothing about the object.
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise DamagedError("a data object is not a readable Parquet object of a catalog") from None
    return rows
