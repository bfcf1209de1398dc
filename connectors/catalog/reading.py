"""A catalog in a notebook: lazy, read-only, with filters and columns pushed down to the Parquet objects."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import pyarrow.dataset as ds

from ahi_catalog.connectors.catalog import Unit, open_catalog, open_store
from ahi_catalog.connectors.catalog.catalog import Catalog as _Catalog
from ahi_catalog.connectors.catalog.dataset import open_dataset
from ahi_catalog.connectors.catalog.summary import Summary, summarize
from ahi_catalog.connectors.errors import UsageError, missing_extra
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.schemas import IMAGE_SETS
from ahi_catalog.schemas.ddl import quoted_name
from ahi_catalog.schemas.series import DERIVED_TABLES

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_NOT_FOR_PANDAS: Final = (
    "the answer holds a time that pandas cannot, such as 24:00:00 or one before the year 1: cast it to text, "
    "or take `.arrow()`"
)


class Answer:
    """The answer to a query: computed when it is first asked for, then kept.

    Args:
        catalog: What is asked.
        sql: The query.
        params: Values for its ``$name``.
    """

    def __init__(self, catalog: _Catalog, sql: str, params: Mapping[str, Any] | None = None) -> None:
        self._catalog = catalog
        self._sql = sql
        self._params = params

    def arrow(self) -> pa.Table:
        """The answer as an Arrow table.

        Raises:
            UsageError: The statement is no valid SQL, or names what there is not.
            AhiCatalogError: It failed while it ran.
        """
        return self._table

    def df(self) -> "pd.DataFrame":
        """The answer as a pandas DataFrame.

        Whole numbers and booleans stay what they are beside nulls (pandas' nullable types), decimals become float64;
        dates become datetime64, times in UTC stay aware.

        Raises:
            UsageError: The statement is no valid SQL, or names what there is not; pandas is not installed, or has no
                such value.
            AhiCatalogError: It failed while it ran.
        """
        return _to_pandas(self._table)

    def pl(self) -> "pl.DataFrame":
        """The answer as a Polars DataFrame.

        Raises:
            UsageError: The statement is no valid SQL, or names what there is not; or Polars is not installed.
            AhiCatalogError: It failed while it ran.
        """
        try:
            import polars as pl  # noqa: PLC0415 - the user's own
        except ImportError:
            raise UsageError("Polars is not installed: pip install polars") from None
        return pl.DataFrame(self._table)

    @cached_property
    def _table(self) -> pa.Table:
        # DuckDB takes a moment to import; a dataset does without. Its connection lives as long as the query runs.
        from ahi_catalog.connectors.catalog.querying import run_query  # noqa: PLC0415

        return run_query(self._catalog, self._sql, self._params)

    def __repr__(self) -> str:
        """Whether it was computed, and its size; neither rows nor the query's text, which may name a patient."""
        if "_table" not in self.__dict__:
            return f"<Answer from {self._catalog.store.url}, not asked for yet: .df(), .pl() or .arrow()>"
        return f"<Answer from {self._catalog.store.url}: {len(self._table):,} rows, {self._table.num_columns} columns>"


class Catalog:
    """A catalog to read.

    Opening reads one small file. Everything else is read when it is asked for, as it lies then: a catalog that is
    synced meanwhile shows its new rows in the next call. Credentials, region and endpoint are boto3's own.

    Args:
        url: ``s3://bucket/prefix`` or a local folder, as text or as a Path.
        allow_http: Let rows travel in the clear from an endpoint that is not https, in a network that you trust.

    Raises:
        UsageError: There is no catalog.
        StoreError: The store refuses, or cannot be reached.
    """

    def __init__(self, url: str | PathLike[str], *, allow_http: bool = False) -> None:
        self._catalog = open_catalog(open_store(fspath(url), S3Access(allow_http=allow_http)))

    @property
    def url(self) -> str:
        """Where it lies."""
        return self._catalog.store.url

    @property
    def partition(self) -> Unit:
        """The span of createdAt in one data object: ``day`` or ``month``."""
        return self._catalog.description.unit

    def dataset(self, table: Literal["image_sets", "series", "instances"] = "image_sets") -> ds.Dataset:
        """A table as a pyarrow dataset: lazy, partitioned by ``datastore_id`` and the day or month.

        Hand it to Polars, Dask or DuckDB, or read it with ``.to_table(columns=…, filter=…)``.
        """
        return open_dataset(self._catalog, table={each.name: each for each in (IMAGE_SETS, *DERIVED_TABLES)}[table])

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
        """A query over the tables and views of the data dictionary, and ``runs``; runs when its answer is asked for.

        It reads those and nothing else: no file, no network but the catalog's own.

        Args:
            sql: One SELECT in DuckDB's SQL.
            params: Values for the names that stand in it as ``$name``.
        """
        return Answer(self._catalog, sql, params)

    def to_pandas(self, columns: Sequence[str] | None = None, where: str | None = None) -> "pd.DataFrame":
        """Image sets as a pandas DataFrame (types: see :meth:`Answer.df`).

        Args:
            columns: Which columns, in that order; None: all.
            where: A condition in SQL, such as ``"series_modality = 'CT' and created_date >= '2026-05-01'"``; None:
                every row. Only the partitions, columns and row groups that it needs are read.

        Raises:
            UsageError: A column that there is not, or no valid condition; or pandas is not installed.
        """
        listed = "*" if columns is None else ", ".join(map(quoted_name, columns))
        # The condition ends before the bracket, even where it ends in a comment.
        condition = f" WHERE (\n{where}\n)" if where else ""
        return self.query(f"SELECT {listed} FROM {IMAGE_SETS.name}{condition}").df()  # noqa: S608 - read-only, and the user's own

    def status(self, *, runs: int = 5) -> list[Summary]:
        """Watermark, coverage, gaps, rows and bytes of each data store.

        Args:
            runs: How many of the newest run reports, at most.
        """
        return [summarize(self._catalog, found, runs=runs) for found in self._catalog.datastore_ids()]

    def __repr__(self) -> str:
        """Where it lies and how it is partitioned."""
        return f"Catalog({self.url!r}, partition={str(self.partition)!r})"


def _to_pandas(table: pa.Table) -> "pd.DataFrame":
    try:
        import pandas as pd  # noqa: PLC0415 - an extra
    except ImportError:
        raise missing_extra("a pandas DataFrame", "pandas") from None
    nullable = {
        pa.bool_(): pd.BooleanDtype(),
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
    }
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            table = table.set_column(index, field.name, table[index].cast(pa.float64()))
    try:
        return table.to_pandas(types_mapper=nullable.get, date_as_object=False, maps_as_pydicts="lossy")
    except (ValueError, OverflowError):
        # Its text may quote the value.
        raise UsageError(_NOT_FOR_PANDAS) from None
