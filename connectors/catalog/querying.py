"""SQL over a catalog: DuckDB on a view of the pyarrow dataset, which needs no extension of DuckDB's."""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.dataset import data_keys, open_dataset, refuse_damaged, store_failure
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError, UsageError
from ahi_catalog.connectors.retrying import retry
from ahi_catalog.schemas import IMAGE_SETS
from ahi_catalog.schemas.ddl import duckdb_views
from ahi_catalog.schemas.series import DERIVED_TABLES

VIEW: Final = IMAGE_SETS.name
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
_TRIES: Final = 3
_MOST_BYTES: Final = 4 << 30
_BATCH_ROWS: Final = 1 << 17


def run_query(catalog: Catalog, sql: str) -> pa.Table:
    """The answer to a query over the tables of a catalog, or over ``studies`` and ``patients``, made from the first.

    The connection reads nothing but these: no other file, no network; and writes nothing, to no disk. Tables that
    nothing was read for yet are empty.

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
    datasets = {table.name: open_dataset(catalog, table=table) for table in (IMAGE_SETS, *DERIVED_TABLES)}
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        for name, dataset in datasets.items():
            connection.register(name, dataset)
        # Times are shown, and cast to dates, in UTC wherever the query runs.
        for statement in ("SET TimeZone = 'UTC'", *duckdb_views(VIEW)):
            connection.execute(statement)
        connection.execute("SET python_enable_replacements = false; SET lock_configuration = true")
        try:
            [*statements] = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in _QUESTIONS:
                raise UsageError("a catalog is asked, not changed: give one SELECT")
            answer = _read(connection.sql(sql).to_arrow_reader(_BATCH_ROWS))
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise _wrong_question(error, sql, datasets) from None
        except duckdb.PermissionException:
            raise UsageError("a query reads the tables of the catalog and nothing else: no file, no network") from None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # The text of an error while it ran may quote a value; after the first batch it comes by way of Arrow.
            answer, failed, may_be_damage = None, type(error).__name__, isinstance(error, _OF_DAMAGE)
    if answer is not None:
        return answer.rename_columns(_distinct(answer.column_names))
    _refuse_what_cannot_be_read(catalog, datasets, may_be_damage=may_be_damage)
    raise AhiCatalogError(
        f"the query failed while it ran ({failed}); TRY_CAST instead of CAST shows which values do not convert"
    )


def _wrong_question(error: duckdb.Error, sql: str, datasets: Mapping[str, ds.Dataset]) -> UsageError:
    # These errors speak of the statement and of columns; no row has been read yet, but by a PIVOT, whose columns are
    # named by values.
    reason = type(error).__name__ if "pivot" in sql.lower() else str(error).partition("\n")[0]
    asked = {name: dataset for name, dataset in datasets.items() if name == VIEW or name in sql}
    columns = "; ".join(f"the columns of {name}: {', '.join(its.schema.names)}" for name, its in asked.items())
    return UsageError(f"{reason}; the views are {', '.join(datasets)}, studies and patients; {columns}")


def _refuse_what_cannot_be_read(catalog: Catalog, datasets: Mapping[str, ds.Dataset], *, may_be_damage: bool) -> None:
    """Raise what the store has met, or say which object is damaged."""
    for dataset in datasets.values():
        if (failure := store_failure(dataset)) is not None:
            raise failure
    for table in (IMAGE_SETS, *DERIVED_TABLES) if may_be_damage else ():
        refuse_damaged(catalog, data_keys(catalog, table), table)


def _distinct(names: list[str]) -> list[str]:
    """The names, those that come again numbered: JSON and data frames keep one value a name."""
    given: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        given.append(name if name not in given else next(found for found in numbered if found not in {*given, *names}))
    return given


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
