"""DDL that makes a catalog a table of Athena, Spark or DuckDB, with its views. Pure: text from the declaration.

Every name and path is quoted in the engine's own way. Athena takes Hive's grammar for tables and Trino's for
views (https://docs.aws.amazon.com/athena/latest/ug/data-types.html), one statement at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from ahi_catalog.schemas.external import ExternalTable, projection
from ahi_catalog.schemas.image_sets import IMAGE_SETS
from ahi_catalog.schemas.removals import REMOVALS
from ahi_catalog.schemas.series import SERIES
from ahi_catalog.schemas.tables import LOCAL_DATETIME, NUMBERS, TEXTS, TIMESTAMP, Column, Table
from ahi_catalog.schemas.views import VIEWS, StoragePrices, View

HIVE_TYPES: Final[dict[pa.DataType, str]] = {
    pa.string(): "string",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    TIMESTAMP: "timestamp",
    LOCAL_DATETIME: "timestamp",
    TEXTS: "array<string>",
    NUMBERS: "array<double>",
}
"""The types of Hive, Glue and Athena's DDL; there is one kind of timestamp, which reads as UTC or local time."""

SPARK_TYPES: Final = {**HIVE_TYPES, LOCAL_DATETIME: "timestamp_ntz"}
DUCKDB_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    LOCAL_DATETIME: "TIMESTAMP",
    TEXTS: "VARCHAR[]",
    NUMBERS: "DOUBLE[]",
}

BESIDE: Final = (REMOVALS, SERIES)
"""Tables that the views read beside `image_sets`; they are declared even before they hold anything."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: what it makes (a table, `partitions`, or a view), and its SQL without a `;`."""

    makes: str
    sql: str


def athena(table: ExternalTable) -> list[Statement]:
    """External tables with partition projection, and the views."""
    tables = [_athena_table(each) for each in _tables(table)]
    return [*tables, *_views(table, _bare, _double_quoted)]


def _tables(table: ExternalTable) -> list[ExternalTable]:
    """The table, and what its views need beside it."""
    return [table, *(table.beside(each) for each in BESIDE)] if table.table is IMAGE_SETS else [table]


def _athena_table(table: ExternalTable) -> Statement:
    columns = _declared(table.table.columns, HIVE_TYPES)
    keys = _declared(table.keys, HIVE_TYPES)
    properties = ",\n".join(
        f"  {_backslashed(name)} = {_backslashed(value)}"
        for name, value in {"classification": "parquet", **projection(table)}.items()
    )
    create = (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {_qualified(table, table.name, _backticked)} (\n{columns}\n)\n"
        f"COMMENT {_backslashed(_comment(table.table.doc))}\nPARTITIONED BY (\n{keys}\n)\nSTORED AS PARQUET\n"
        f"LOCATION {_backslashed(table.location + '/')}\nTBLPROPERTIES (\n{properties}\n)"
    )
    return Statement(table.table.name, create)


def spark(table: ExternalTable) -> list[Statement]:
    """Data source tables, repairs that make their partitions known (after each sync too), and the views."""

    def described(view: View) -> str:
        listed = ",\n".join(
            f"  {_backticked(column.name)} COMMENT {_backslashed(_comment(column.doc))}" for column in view.columns
        )
        return f" (\n{listed}\n)\nCOMMENT {_backslashed(_comment(view.doc))}"

    tables = [statement for each in _tables(table) for statement in _spark_table(each)]
    return [*tables, *_views(table, described, _backticked)]


def _spark_table(table: ExternalTable) -> list[Statement]:
    columns = _declared([*table.table.columns, *table.keys], SPARK_TYPES)
    name = _qualified(table, table.name, _backticked)
    # Spark 3 refuses days before 1582 and times before 1900 otherwise, since its version 2 wrote other ones.
    create = (
        f"CREATE TABLE IF NOT EXISTS {name} (\n{columns}\n)\n"
        "USING PARQUET\nOPTIONS (datetimeRebaseMode = 'CORRECTED')\n"
        f"PARTITIONED BY ({', '.join(_backticked(key.name) for key in table.keys)})\n"
        f"LOCATION {_backslashed(table.location)}\nCOMMENT {_backslashed(_comment(table.table.doc))}"
    )
    return [Statement(table.table.name, create), Statement("partitions", f"MSCK REPAIR TABLE {name}")]


def duckdb(table: ExternalTable) -> list[Statement]:
    """Views over the Parquet objects, with comments; DuckDB reads s3:// through its httpfs extension."""
    statements = [statement for each in _tables(table) for statement in _duckdb_table(each)]
    for view, statement in zip(VIEWS, _views(table, _bare, _double_quoted), strict=False):
        of = _qualified(table, table.view_name(view.name), _double_quoted)
        docs = {column.name: _comment(column.doc) for column in view.columns}
        statements += [statement, *_commented(view.name, of, view.doc, docs)]
    return statements


def _duckdb_table(table: ExternalTable) -> list[Statement]:
    pattern = "/".join([_globbed(table.location), *(f"{key.name}=*" for key in table.keys), table.table.object_name])
    name = _qualified(table, table.name, _double_quoted)
    # DuckDB takes a column's type from the first object that it reads, which may be of a version that wrote int32.
    counts = [_double_quoted(column.name) for column in table.table.columns if column.type == pa.int64()]
    casts = ", ".join(f"CAST({count} AS BIGINT) AS {count}" for count in counts)
    selected = f"* REPLACE ({casts})" if casts else "*"
    # Its hive_partitioning takes every folder like env=prod above the catalog for a column, over one of that name
    # in the objects. By these expressions it leaves objects out as well.
    keys = "".join(
        f",\n  CAST(split_part(split_part(filename, '/', {part}), '=', 2) AS {DUCKDB_TYPES[key.type]}) AS {key.name}"
        for part, key in zip(range(-1 - len(table.keys), -1), table.keys, strict=True)
    )
    select = (
        f"SELECT {selected}{keys}\nFROM read_parquet(\n  {_quote_doubled(pattern)},\n  hive_partitioning = false\n)"
    )
    doc = table.table.doc
    columns = [*table.table.columns, *table.keys]
    if table.table.name in table.empty:
        # It reads no pattern that nothing matches.
        nulls = ",\n".join(
            f"  CAST(NULL AS {DUCKDB_TYPES[column.type]}) AS {_double_quoted(column.name)}" for column in columns
        )
        select = f"SELECT\n{nulls}\nWHERE false"
        doc += " Nothing was there when this was made: make it again by the DDL of a later day."
    create = f"CREATE OR REPLACE VIEW {name} AS\n{select}"
    docs = {column.name: _comment(column.doc) for column in columns}
    return [Statement(table.table.name, create), *_commented(table.table.name, name, doc, docs)]


ENGINES: Final[dict[str, Callable[[ExternalTable], list[Statement]]]] = {
    "athena": athena,
    "spark": spark,
    "duckdb": duckdb,
}


def hive_columns(table: Table) -> list[tuple[str, str, str]]:
    """Name, Hive type and comment of each column in a table's data objects."""
    return [(column.name, HIVE_TYPES[column.type], _comment(column.doc)) for column in table.columns]


def duckdb_views(prices: StoragePrices) -> list[str]:
    """Statements that make the views in DuckDB over tables or views of its own, named as they are declared."""
    return [f"CREATE VIEW {_double_quoted(view.name)} AS\n{view.select(_double_quoted, prices)}" for view in VIEWS]


def quoted_name(name: str) -> str:
    """A name as DuckDB's and Athena's SELECT quote it."""
    return _double_quoted(name)


def _declared(columns: Iterable[Column], types: Mapping[pa.DataType, str]) -> str:
    """A list of columns with types and comments, as Hive and Spark write it."""
    return ",\n".join(
        f"  {_backticked(column.name)} {types[column.type]} COMMENT {_backslashed(_comment(column.doc))}"
        for column in columns
    )


def _views(table: ExternalTable, described: Callable[[View], str], quote: Callable[[str], str]) -> Iterator[Statement]:
    if table.table is not IMAGE_SETS:
        return
    names = {each.table.name: each.name for each in _tables(table)}

    def quoted(declared: str) -> str:
        return _qualified(table, names[declared], quote)

    for view in VIEWS:
        name = _qualified(table, table.view_name(view.name), quote)
        yield Statement(
            view.name, f"CREATE OR REPLACE VIEW {name}{described(view)} AS\n{view.select(quoted, table.prices)}"
        )


def _bare(_view: View) -> str:
    return ""


def _commented(makes: str, name: str, doc: str, columns: dict[str, str]) -> Iterator[Statement]:
    yield Statement(makes, f"COMMENT ON VIEW {name} IS {_quote_doubled(_comment(doc))}")
    for column, text in columns.items():
        yield Statement(makes, f"COMMENT ON COLUMN {name}.{_double_quoted(column)} IS {_quote_doubled(text)}")


def _qualified(table: ExternalTable, name: str, quote: Callable[[str], str]) -> str:
    return f"{quote(table.database)}.{quote(name)}" if table.database else quote(name)


def _comment(doc: str) -> str:
    """A doc as a comment: clients that split a script at each semicolon shall not cut it."""
    return doc.replace(";", ",")


def _backslashed(text: str) -> str:
    """A literal of Hive and Spark, which take a backslash before what would end it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quote_doubled(text: str) -> str:
    """A literal of standard SQL."""
    return "'" + text.replace("'", "''") + "'"


def _backticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _double_quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _globbed(path: str) -> str:
    """A path in which DuckDB takes no character for a pattern."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)
