"""SQL over a catalog: DuckDB on a view of the pyarrow dataset, which needs no extension of DuckDB's."""

import itertools
from functools import partial
from typing import Any, Final

import duckdb
import pyarrow as pa

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.dataset import data_keys, open_dataset, refuse_damaged, store_failure
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError, UsageError
from ahi_catalog.connectors.retrying import retry
from ahi_catalog.schemas.ddl import duckdb_views, quoted_name

VIEW: Final = "image_sets"
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
_OF_DAMAGE: Final = (duckdb.InvalidInputException, duckdb.IOException, pa.ArrowException, OSError)
"""What a damaged object is read as: not a value that does not convert."""
_AS_TEXT: Final = frozenset(
    {"bignum", "bit", "enum", "geometry", "interval", "null", "time with time zone", "type"}
    | {"uhugeint", "union", "variant"}
)
"""Types of DuckDB's that are handed out as DuckDB writes them: Arrow, or who reads it, has none such."""
_TRIES: Final = 3
_MOST_BYTES: Final = 4 << 30
_BATCH_ROWS: Final = 1 << 17


def run_query(catalog: Catalog, sql: str) -> pa.Table:
    """The answer to a query over the view ``image_sets``, or over ``studies`` and ``patients``, made from it.

    The connection reads nothing but that view: no other file, no network; and writes nothing, to no disk. Whole
    numbers of 128 bits, as DuckDB's sum() gives, are int64 where all of a column fit, else decimals; intervals, enums
    and other types that few readers of Arrow know are text, as DuckDB writes them.

    Args:
        catalog: The catalog.
        sql: One statement in DuckDB's SQL.

    Raises:
        UsageError: The statement is no valid SQL, names what there is not, or asks for more than 4 GiB.
        DamagedError: A data object is damaged.
        StoreError: One cannot be got, or runs replace objects all the time.
        AhiCatalogError: It failed while it ran.
    """
    # An object that a run has replaced meanwhile is read as it is now, and with it all others.
    return retry(partial(_run, catalog, sql), ConflictError, tries=_TRIES, backoff=lambda _: 0)


def _run(catalog: Catalog, sql: str) -> pa.Table:
    dataset = open_dataset(catalog)
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        connection.register(VIEW, dataset)
        # Times are shown, and cast to dates, in UTC wherever the query runs.
        for statement in ("SET TimeZone = 'UTC'", *duckdb_views(VIEW)):
            connection.execute(statement)
        connection.execute("SET python_enable_replacements = false; SET lock_configuration = true")
        try:
            [*statements] = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in _QUESTIONS:
                raise UsageError("a catalog is asked, not changed: give one SELECT")
            answer = _read(_plain(connection.sql(sql)).to_arrow_reader(_BATCH_ROWS))
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            # These speak of the statement and of columns; no row has been read yet, but by a PIVOT, whose columns
            # are named by values.
            reason = type(error).__name__ if "pivot" in sql.lower() else str(error).partition("\n")[0]
            raise UsageError(
                f"{reason}; the views are {VIEW}, studies and patients; "
                f"the columns of {VIEW}: {', '.join(dataset.schema.names)}"
            ) from None
        except duckdb.PermissionException:
            raise UsageError(f"a query reads the view {VIEW} and nothing else: no file, no network") from None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # The text of an error while it ran may quote a value; after the first batch it comes by way of Arrow.
            answer, failed, may_be_damage = None, type(error).__name__, isinstance(error, _OF_DAMAGE)
    if answer is not None:
        return _with_int64(answer.rename_columns(_distinct(answer.column_names)))
    if (failure := store_failure(dataset)) is not None:
        raise failure
    if may_be_damage:
        refuse_damaged(catalog, data_keys(catalog))
    raise AhiCatalogError(
        f"the query failed while it ran ({failed}); TRY_CAST instead of CAST shows which values do not convert"
    )


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
