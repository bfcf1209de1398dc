"""What a declaration of a table is made of: columns, a key, a version. Every table of the catalog is one `Table`.

Merging, publishing, verifying, the DDL, the data dictionary, the PHI policy and the registration in Glue take the
declaration. :mod:`ahi_catalog.schemas.image_sets` declares the first table.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import pyarrow as pa

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
LOCAL_DATETIME: Final = pa.timestamp("us")
TEXTS: Final = pa.list_(pa.string())
NUMBERS: Final = pa.list_(pa.float64())

EARLIEST: Final = -62_135_596_800
"""Epoch seconds of the first second of year 1. Python and Athena know no moment before it, or after the year 9999."""
LATEST: Final = 253_402_300_799
"""Epoch seconds of the last second of year 9999."""


class Sensitivity(StrEnum):
    """What a column can tell about a patient; anything but ``NONE`` is marked `sensitive` in the API."""

    NONE = "none"
    IDENTIFIER = "identifier"
    NAME = "name"
    UID = "uid"
    BIRTH = "birth"
    DATE = "date"
    TEXT = "text"
    CODE = "code"
    AGE = "age"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: The service's field name, ``DICOM`` dropped, in snake case; ``dicom_*`` for untouched text
            that a parsed column stands beside.
        type: The Arrow type, one that Athena, Spark, DuckDB and Trino all read. What people add up is int64, for
            Polars sums int32 in int32.
        source: Path of the field in what the service sends, from the outside in; empty for a column that is computed.
        made_of: Names of the columns that a computed one is made of; empty where that is the whole row.
        sensitivity: What the column can tell about a patient; the PHI policy acts by it.
        doc: One line for the data dictionary.
        nullable: False only where a row without the value cannot be.
    """

    name: str
    type: pa.DataType
    source: tuple[str, ...]
    sensitivity: Sensitivity = Sensitivity.NONE
    doc: str
    nullable: bool = True
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The declaration of a table.

    Attributes:
        name: Of the table, of its folder in the catalog, and in other engines.
        doc: What a row is, in one line.
        columns: In their order.
        key: Names of the text columns that tell rows apart: one row a key.
        version: Names of the integer and time columns by which the newer of two rows of a key is told; null is the
            oldest.
        created: Name of the time column that says in which partition a row belongs.
        volatile: Names of columns that may change without a new version.
        object_name: What the data object in the folder of each partition is called.
        looked_up: Names of identifiers that single rows are looked up by; each gets a Bloom filter.
        unique: Names of columns whose values hardly repeat; they get no dictionary.
        categories: Names of columns that people count by; they stay uncompressed, since runs of a small dictionary
            take next to no bytes.
        schema: The Arrow schema of a data object; the partition keys are in its path only.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    version: tuple[str, ...]
    created: str
    volatile: frozenset[str] = frozenset()
    object_name: str
    looked_up: tuple[str, ...]
    unique: tuple[str, ...]
    categories: tuple[str, ...] = ()
    schema: pa.Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        schema = pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])
        object.__setattr__(self, "schema", schema)

    @property
    def folder(self) -> str:
        """The folder of the table in a catalog, with a slash at its end."""
        return f"{self.name}/"

    def sources(self, column: Column) -> list[str]:
        """The fields of the service that a column is made of, as ``DICOMTags.DICOMPatientId``; none: of all."""
        received = {each.name: each for each in self.columns if each.source}
        return [".".join(received[name].source) for name in (column.made_of or (column.name,)) if name in received]

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the columns that the rows of a data object are sorted by."""
        return (self.created, *self.key)
