"""A catalog as another engine's table: its location, its data stores, its first day."""

from datetime import UTC, date
from typing import Final

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.dataset import data_keys
from ahi_catalog.connectors.errors import Remedy, UsageError
from ahi_catalog.schemas import IMAGE_SETS
from ahi_catalog.schemas.ddl import BESIDE
from ahi_catalog.schemas.external import ExternalTable
from ahi_catalog.schemas.views import US_EAST, StoragePrices

_S3: Final = "s3://"


def describe(
    catalog: Catalog,
    engine: str,
    *,
    injected: bool = False,
    database: str = "",
    name: str = "",
    prices: StoragePrices = US_EAST,
) -> ExternalTable:
    """What an engine has to know of the table `image_sets` of a catalog.

    Args:
        catalog: The catalog.
        engine: ``athena`` (which reads S3 only), ``spark`` (which writes S3 as ``s3a://``) or ``duckdb``.
        injected: Leave the data stores open: each query in Athena has to name one.
        database: To name in front of the table.
        name: What the engine calls the table; empty: as it is declared.
        prices: What the view `storage` reckons with.

    Raises:
        UsageError: The catalog holds nothing yet, or lies where the engine cannot read it.
        StateError: A checkpoint is damaged.
    """
    # A data store whose first sync has published nothing yet has no first day; it comes with the next call.
    first_days = {store: day for store in catalog.datastore_ids() if (day := _first_day(catalog, store))}
    if not first_days:
        raise UsageError(f"the catalog at {catalog.store.url} holds nothing yet", remedy=Remedy.SYNC)
    return ExternalTable(
        table=IMAGE_SETS,
        name=name or IMAGE_SETS.name,
        location=_location(f"{catalog.store.url}/{IMAGE_SETS.name}", engine),
        partition_key=catalog.description.unit.column,
        datastore_ids=() if injected else tuple(first_days),
        first_day=min(first_days.values()),
        database=database,
        empty=frozenset(each.name for each in BESIDE if not data_keys(catalog, each)),
        prices=prices,
    )


def further(catalog: Catalog, first: ExternalTable) -> list[ExternalTable]:
    """The tables that there are beside `image_sets` and those that its views need anyway.

    Args:
        catalog: The catalog.
        first: Its table `image_sets`, after which they are named where that has a name of its own.
    """
    return [first.beside(each) for each in catalog.tables() if each not in {IMAGE_SETS, *BESIDE}]


def _first_day(catalog: Catalog, datastore_id: str) -> date | None:
    """The day that coverage begins, or the first partition's where that is older still."""
    checkpoint = catalog.checkpoint(datastore_id)
    days = [window.start.astimezone(UTC).date() for window in checkpoint.coverage] if checkpoint else []
    days += [partition.first_day for partition in catalog.partitions(datastore_id)]
    return min(days, default=None)


def _location(folder: str, engine: str) -> str:
    if folder.startswith(_S3):
        return folder.replace(_S3, "s3a://", 1) if engine == "spark" else folder
    if engine == "athena":
        raise UsageError("Athena reads S3 only: give a catalog at s3://bucket/prefix, or ask for spark or duckdb")
    return f"file:{folder}" if engine == "spark" else folder
