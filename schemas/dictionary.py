"""The data dictionary, as Markdown, from the declaration. Pure.

``make docs`` writes it to docs/data-dictionary.md; a test keeps the two the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa

from ahi_catalog.schemas.ddl import DUCKDB_TYPES, HIVE_TYPES, SPARK_TYPES
from ahi_catalog.schemas.external import partition_keys
from ahi_catalog.schemas.image_sets import IMAGE_SETS
from ahi_catalog.schemas.removals import REMOVALS
from ahi_catalog.schemas.series import DERIVED_TABLES
from ahi_catalog.schemas.tables import LOCAL_DATETIME, NUMBERS, TEXTS, TIMESTAMP, Sensitivity, Table
from ahi_catalog.schemas.views import VIEWS

PANDAS_TYPES: Final = {
    pa.string(): "str",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.float64(): "float64",
    pa.bool_(): "boolean",
    pa.date32(): "datetime64[ms]",
    TIMESTAMP: "datetime64[us, UTC]",
    LOCAL_DATETIME: "datetime64[us]",
    TEXTS: "object",
    NUMBERS: "object",
}
_SENSITIVITIES: Final = {
    Sensitivity.NONE: "tells nothing about a patient",
    Sensitivity.IDENTIFIER: "names a patient, a study or an order in the hospital's own systems",
    Sensitivity.NAME: "a person's name",
    Sensitivity.UID: "a DICOM UID, which leads back to the study",
    Sensitivity.BIRTH: "a date of birth",
    Sensitivity.DATE: "a date or time of a person's life",
    Sensitivity.TEXT: "free text, which may hold anything",
    Sensitivity.CODE: "a coded value, telling only together with others",
    Sensitivity.AGE: "an age; of few people is it above 89",
    Sensitivity.ATTRIBUTES: "attributes of any kind, told apart by their value representation",
}


TABLES: Final = (IMAGE_SETS, REMOVALS, *DERIVED_TABLES)
"""The tables that the page describes."""


def render() -> str:
    """The page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Data dictionary"
    yield ""
    yield "<!-- Made by `make docs` from the tables and views that schemas/ declares; change those. -->"
    yield ""
    for table in TABLES:
        yield from _table_section(table)
    for view in VIEWS:
        yield f"## {view.name}"
        yield ""
        yield f"A view. {view.doc}"
        yield ""
        yield from _rendered(("column", "what it is"), [(f"`{column.name}`", column.doc) for column in view.columns])
        yield ""
    yield "## Types"
    yield ""
    yield from _rendered(
        ("type", "Athena", "Spark", "DuckDB", "pandas"),
        [
            (_arrow(kind), HIVE_TYPES[kind], SPARK_TYPES[kind], DUCKDB_TYPES[kind], PANDAS_TYPES[kind])
            for kind in HIVE_TYPES
        ],
    )
    yield ""
    yield "Times are in UTC to the microsecond; Athena shows milliseconds. A local time has no zone: it is the"
    yield "modality's clock."
    yield ""
    yield "## Sensitivity"
    yield ""
    yield from _rendered(("sensitivity", "the column is"), [(str(kind), _SENSITIVITIES[kind]) for kind in Sensitivity])
    yield ""


def _table_section(table: Table) -> Iterator[str]:
    yield f"## {table.name}"
    yield ""
    yield f"{table.doc} An absent field is null; an empty text stays one."
    yield ""
    columns = [
        (
            f"`{column.name}`",
            _arrow(column.type) + ("" if column.nullable else ", not null"),
            f"`{'.'.join(column.source)}`" if column.source else "computed",
            str(column.sensitivity),
            column.doc,
        )
        for column in table.columns
    ]
    day, month = partition_keys("created_date"), partition_keys("created_month")
    keys = [(f"`{key.name}`", _arrow(key.type), "the path", "none", key.doc) for key in (*day, month[1])]
    yield from _rendered(("column", "type", "from", "sensitivity", "what it is"), [*columns, *keys])
    yield ""
    yield "A catalog has either `created_date` or `created_month`, fixed when it is created (`partition`)."
    yield ""


def _arrow(kind: pa.DataType) -> str:
    names = {
        TIMESTAMP: "time in UTC",
        LOCAL_DATETIME: "local time",
        pa.date32(): "date",
        pa.bool_(): "bool",
        TEXTS: "list of string",
        NUMBERS: "list of double",
    }
    return names.get(kind, str(kind))


def _rendered(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"
