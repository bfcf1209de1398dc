"""SQL over a catalog: DuckDB on views of pyarrow datasets, which need no extension of DuckDB's."""

import difflib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import duckdb
import pyarrow as pa

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.dataset import data_keys, open_dataset, refuse_damaged, store_failure
from ahi_catalog.connectors.catalog.runs import RUNS, runs_table
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError, QueryError, UsageError
from ahi_catalog.connectors.retrying import retry
from ahi_catalog.schemas import IMAGE_SETS, REMOVALS, SERIES, Table
from ahi_catalog.schemas.ddl import duckdb_views, quoted_name
from ahi_catalog.schemas.series import DERIVED_TABLES
from ahi_catalog.schemas.views import CHANGES, PATIENTS, STORAGE, STUDIES, US_EAST, VIEWS, StoragePrices

_RUNS: Final = "runs"
_TABLES: Final = (IMAGE_SETS, REMOVALS, *DERIVED_TABLES)
NAMES: Final = (IMAGE_SETS.name, *(view.name for view in VIEWS), *(table.name for table in _TABLES[1:]), _RUNS)
"""What a query may ask: the tables, the views over them, and the run reports."""
_COLUMNS: Final[dict[str, set[str]]] = {
    **{table.name: {*table.schema.names, "created_date", "created_month"} for table in _TABLES},
    **{view.name: {column.name for column in view.columns} for view in VIEWS},
    _RUNS: {*RUNS.names},
}
"""By table or view."""
_READ_BY: Final = {REMOVALS: (CHANGES,), SERIES: (STUDIES, PATIENTS, STORAGE)}
"""Views over tables beside `image_sets`."""
# DuckDB makes several statements of a PIVOT, and calls them MULTI.
_QUESTIONS: Final = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI})


_CLOSED: Final[dict[str, Any]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    # Nothing spills: DuckDB would put rows into `.tmp` in the current folder.
    "temp_directory": "",
}
_UNREAD: Final = "reading the stream registered as"
"""What DuckDB says where objects could not be read; its classes of errors tell of values that do not convert, too."""
_AS_TEXT: Final = frozenset(
    {"bignum", "bit", "enum", "geometry", "interval", "null", "time with time zone", "type"}
    | {"uhugeint", "union", "variant"}
)
"""Types of DuckDB's that are handed out as DuckDB writes them: Arrow, or who reads it, has none such."""
_VALUE: Final = re.compile(r"(\w+\s*|(try_)?cast\s*\(\s*)?'([^']|'')*'(\s+as\s.*\)|::\w+)?|\$\w+", re.IGNORECASE)
"""A value in a query: quoted, with a type or without, or a parameter."""
_KIND: Final = re.compile(r"\b(date|timestamp|time|interval|uuid)\b|\b(U?INT\d+|U?HUGEINT|DOUBLE|FLOAT|DECIMAL)\b")
_TRIES: Final = 3
_MOST_BYTES: Final = 4 << 30
_BATCH_ROWS: Final = 1 << 17


def run_query(
    catalog: Catalog,
    sql: str,
    params: Mapping[str, Any] | None = None,
    *,
    prices: StoragePrices = US_EAST,
    keys: Sequence[str] | None = None,
) -> pa.Table:
    """The answer to a query over the tables and views in `NAMES`.

    The connection reads nothing but these: no other file, no network; and writes nothing, to no disk. Whole
    numbers of 128 bits, as DuckDB's sum() gives, are int64 where all of a column fit, else decimals; intervals, enums
    and other types that few readers of Arrow know are text, as DuckDB writes them. Tables that nothing was read for
    yet are empty.

    Args:
        catalog: The catalog.
        sql: One statement in DuckDB's SQL.
        params: Values for the names that stand in it as ``$name``.
        prices: What the view `storage` reckons with.
        keys: Of the data objects of `image_sets`; None: all there are.

    Raises:
        QueryError: The statement is no valid SQL, or names what there is not.
        UsageError: It is no question, its parameters are others, or the answer is more than 4 GiB.
        DamagedError: A data object is damaged.
        StoreError: One cannot be got, or runs replace objects all the time.
        AhiCatalogError: It failed while it ran.
    """
    # An object that a run has replaced meanwhile is read as it is now, and with it all others.
    return retry(
        partial(_run, catalog, sql, dict(params or {}), prices, keys), ConflictError, tries=_TRIES, backoff=lambda _: 0
    )


def _run(
    catalog: Catalog, sql: str, params: dict[str, Any], prices: StoragePrices, keys: Sequence[str] | None
) -> pa.Table:
    # What a query does not name costs it no request.
    keys_of = {table: keys if table is IMAGE_SETS else None if _is_asked(table, sql) else [] for table in _TABLES}
    datasets = {table: open_dataset(catalog, listed, table) for table, listed in keys_of.items()}
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        for table, dataset in datasets.items():
            connection.register(table.name, dataset)
        connection.register(_RUNS, runs_table(catalog) if _has_word(sql, _RUNS) else RUNS.empty_table())
        # Times are shown, and cast to dates, in UTC wherever the query runs.
        for statement in ("SET TimeZone = 'UTC'", *duckdb_views(prices)):
            connection.execute(statement)
        connection.execute("SET errors_as_json = true; SET python_enable_replacements = false")
        connection.execute("SET lock_configuration = true")
        try:
            _check(connection.extract_statements(sql), params)
            answer = _read(_plain(connection.sql(sql, params=params or None)).to_arrow_reader(_BATCH_ROWS))
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise _told(connection, sql, params, error) from None
        except duckdb.PermissionException:
            raise UsageError(f"a query reads {', '.join(NAMES)} and nothing else: no file, no network") from None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # The text of an error while it ran may quote a value; after the first batch it comes by way of Arrow.
            answer, failed, may_be_damage = None, type(error).__name__, _UNREAD in str(error)
            wrong: AhiCatalogError | None = _wrong_value(sql, error)
    if answer is not None:
        return _with_int64(answer.rename_columns(_distinct(answer.column_names)))
    for table, dataset in datasets.items():
        wrong = wrong or store_failure(dataset)
        if may_be_damage and not wrong:
            refuse_damaged(catalog, data_keys(catalog, table), table)
    raise wrong or AhiCatalogError(
        f"the query failed while it ran ({failed}); TRY_CAST instead of CAST shows which values do not convert"
    )


def _is_asked(table: Table, sql: str) -> bool:
    """Whether a query may read a table, by its name or by that of a view over it."""
    return _has_word(sql, table.name, *(view.name for view in _READ_BY.get(table, ())))


def _has_word(sql: str, *words: str) -> bool:
    return re.search(rf"\b({'|'.join(words)})\b", sql, re.IGNORECASE) is not None


def _check(statements: list[duckdb.Statement], params: Mapping[str, Any]) -> None:
    """Let through one question, with the parameters that it has.

    Raises:
        UsageError: It is something else.
    """
    if len(statements) != 1 or statements[0].type not in _QUESTIONS:
        raise UsageError("a catalog is asked, not changed: give one SELECT")
    needed = statements[0].named_parameters
    if missing := sorted(needed - params.keys()):
        raise UsageError(f"the query has a parameter without a value: ${missing[0]}")
    if unknown := sorted(params.keys() - needed):
        raise UsageError(f"there is no ${unknown[0]} in the query, which has a value")


def _told(connection: duckdb.DuckDBPyConnection, sql: str, params: dict[str, Any], error: duckdb.Error) -> QueryError:
    """What DuckDB says of a statement before it has read a row, with its place, and names like one that is not there.

    A PIVOT is the exception: its columns are named by values.
    """
    if "pivot" in sql.lower():
        return QueryError(f"{type(error).__name__} in a query with a PIVOT", None)
    found, ahead = _details(error), 0
    if not found and not isinstance(error, duckdb.ParserException):
        # A relation's errors have no place. The statement is not run for it.
        with suppress(duckdb.Error):
            try:
                connection.execute(f"EXPLAIN {sql}", params or None)
            except type(error) as again:
                found, ahead = _details(again), len("EXPLAIN ")
    reason = str(found.get("exception_message", error)).partition("\n")[0].removesuffix("!")
    is_table = found.get("type") == "Table"
    name = str(found.get("name", "")).lower()
    names = {*NAMES} if is_table else {*NAMES}.union(*_COLUMNS.values())
    if not is_table and (holders := [table for table, columns in _COLUMNS.items() if name in columns]):
        reason += f"; it is a column of {', '.join(holders)}"
    elif near := difflib.get_close_matches(name, names, cutoff=0.7):
        reason += f"; did you mean {' or '.join(near)}?"
    elif is_table:
        reason += f"; there are {', '.join(NAMES)}"
    position = found.get("position")
    return QueryError(reason, _place(sql, int(position) - ahead) if position else None)


def _place(sql: str, position: int) -> int:
    """The place of a character, where DuckDB counts bytes."""
    return len(sql.encode()[:position].decode(errors="ignore"))


def _wrong_value(sql: str, error: Exception) -> QueryError | None:
    """That a value in the query itself is not what it is compared with or cast to; None where it is one of a column."""
    found = _details(error) if isinstance(error, duckdb.ConversionException) else {}
    start, length = json.loads(found.get("location", "[0,0]"))
    if not _VALUE.fullmatch(sql.encode()[start : start + length].decode(errors="ignore")):
        return None
    kind = _KIND.search(found["exception_message"])
    return QueryError(f"this is no {(kind[1] or 'number') if kind else 'such value'}", _place(sql, start))


def _details(error: duckdb.Error) -> dict[str, Any]:
    """The parts of an error of DuckDB's that comes as JSON; none where it comes as text."""
    with suppress(ValueError):
        found: dict[str, Any] = json.loads(str(error).partition(": ")[2])
        return found
    return {}


def _distinct(names: list[str]) -> list[str]:
    """The names, those that come again numbered: JSON and data frames keep one value a name."""
    given: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        given.append(name if name not in given else next(found for found in numbered if found not in {*given, *names}))
    return given


def _plain(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """The relation with columns, and parts of columns, that few readers of Arrow know cast to text."""
    types = [_plain_type(kind) for kind in relation.types]
    if types == list(map(str, relation.types)):
        return relation
    # By position, since names may come twice.
    columns = zip(relation.columns, types, strict=True)
    return relation.project(
        ", ".join(f"CAST(#{at} AS {to}) AS {quoted_name(name)}" for at, (name, to) in enumerate(columns, 1))
    )


def _plain_type(kind: Any, *, is_key: bool = False) -> str:
    """The type in DuckDB's words of what is handed out for a type; a map's key has no parts, so that it can be one."""
    is_nested = kind.id in ("list", "array", "map", "struct", "tuple")
    if kind.id in _AS_TEXT or (is_nested and (is_key or not kind.children)):  # Parquet has no structure without fields
        return "VARCHAR"
    if not is_nested:
        return str(kind)
    (_, first), *_ = children = kind.children
    match kind.id:
        case "list":
            return f"{_plain_type(first)}[]"
        case "array":
            return f"{_plain_type(first)}[{children[1][1]}]"
        case "map":
            return f"MAP({_plain_type(first, is_key=True)}, {_plain_type(children[1][1])})"
    parts = (f"{quoted_name(name) if name else ''} {_plain_type(part)}" for name, part in children)
    return f"{kind.id}({', '.join(parts)})"


def _with_int64(answer: pa.Table) -> pa.Table:
    """Whole numbers of 38 digits, which few readers know as numbers, as int64 in each column where all of them fit."""
    for index, field in enumerate(answer.schema):
        try:
            # An error of Arrow's would quote a value.
            answer = answer.set_column(index, field.name, answer[index].cast(_int64_for(field.type)))
        except pa.ArrowInvalid:
            continue
    return answer


def _int64_for(kind: pa.DataType) -> pa.DataType:
    if kind == pa.decimal128(38, 0):
        return pa.int64()
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_part(kind.value_field), kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
    if pa.types.is_map(kind):
        return pa.map_(_part(kind.key_field), _part(kind.item_field))
    if pa.types.is_struct(kind):
        return pa.struct(map(_part, kind.fields))
    return kind


def _part(field: pa.Field) -> pa.Field:
    return field.with_type(_int64_for(field.type))


def _read(batches: pa.RecordBatchReader) -> pa.Table:
    """The batches as one table, as long as memory holds them: DuckDB's own limit does not count what it hands out."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size > _MOST_BYTES:
            raise UsageError(f"the answer is larger than {_MOST_BYTES >> 30} GiB: ask for fewer rows or columns")
    return pa.Table.from_batches(held, batches.schema)
