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
from ahi_catalog.schemas.ddl import duckdb_views

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
_TRIES: Final = 3
_MOST_BYTES: Final = 4 << 30
_BATCH_ROWS: Final = 1 << 17


def run_query(catalog: Catalog, sql: str) -> pa.Table:
    """The answer to a query over the view ``image_sets``, or over ``studies`` and ``patients``, made from it.

    The connection reads nothing but that view: no other file, no network; and writes nothing, to no disk.

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
            answer = _read(connection.sql(sql).to_arrow_reader(_BATCH_ROWS))
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
        return answer.rename_columns(_distinct(answer.column_names))
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
