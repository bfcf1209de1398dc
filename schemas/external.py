"""The catalog as a table of another engine: where it lies, its partition keys, and Athena's partition projection.

Projection: https://docs.aws.amazon.com/athena/latest/ug/partition-projection-supported-types.html
"""

from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Literal

import pyarrow as pa

from ahi_catalog.schemas.tables import Column, Table
from ahi_catalog.schemas.views import US_EAST, StoragePrices

PartitionKey = Literal["created_date", "created_month"]


_DATASTORE_ID: Final = Column(name="datastore_id", type=pa.string(), source=(), doc="The data store, 32 of [0-9a-z].")
_CREATED: Final[dict[PartitionKey, Column]] = {
    "created_date": Column(name="created_date", type=pa.date32(), source=(), doc="The day of created_at, in UTC."),
    "created_month": Column(
        name="created_month", type=pa.string(), source=(), doc="The month of created_at in UTC, as yyyy-MM."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalTable:
    """What another engine has to know of a table of a catalog.

    Attributes:
        table: The declaration.
        name: What the engine calls the table.
        location: The folder of the data objects, as the engine writes it, without a slash at its end.
        partition_key: ``created_date`` for a catalog of days, ``created_month`` for one of months.
        datastore_ids: The data stores that a query without one reads; empty: each query has to name one
            (Athena's `injected`).
        first_day: No image set of the catalog was created before it, in UTC.
        database: The database to name in front of the table; empty: the session's own.
        empty: Names of the catalog's tables that have no object yet.
        prices: What the view `storage` reckons with.
    """

    table: Table
    name: str
    location: str
    partition_key: PartitionKey
    datastore_ids: tuple[str, ...]
    first_day: date
    database: str = ""
    empty: frozenset[str] = frozenset()
    prices: StoragePrices = US_EAST

    @property
    def keys(self) -> tuple[Column, Column]:
        """The partition keys, from the outside in."""
        return partition_keys(self.partition_key)

    def beside(self, table: Table) -> "ExternalTable":
        """Another table of the same catalog."""
        folder = self.location.rpartition("/")[0]
        return replace(self, table=table, name=self.view_name(table.name), location=f"{folder}/{table.name}")

    def view_name(self, view: str) -> str:
        """What a view or table beside this one is called: its name, after this one's where that is not the usual."""
        return view if self.name == self.table.name else f"{self.name}_{view}"


def partition_keys(key: PartitionKey) -> tuple[Column, Column]:
    """The partition keys of a catalog, from the outside in: in the path of a data object, not in the object itself."""
    return _DATASTORE_ID, _CREATED[key]


def projection(table: ExternalTable) -> dict[str, str]:
    """The table properties by which Athena works out the partitions, without a crawler.

    The range begins with the first day (or its month) and ends NOW, which Athena takes in UTC: no image set is
    created later than that.
    """
    key = table.partition_key
    monthly = key == "created_month"
    stores = (
        {
            "projection.datastore_id.type": "enum",
            "projection.datastore_id.values": ",".join(sorted(table.datastore_ids)),
        }
        if table.datastore_ids
        else {"projection.datastore_id.type": "injected"}
    )
    return {
        "projection.enabled": "true",
        **stores,
        f"projection.{key}.type": "date",
        f"projection.{key}.format": "yyyy-MM" if monthly else "yyyy-MM-dd",
        f"projection.{key}.range": f"{table.first_day.isoformat()[: 7 if monthly else 10]},NOW",
        f"projection.{key}.interval": "1",
        f"projection.{key}.interval.unit": "MONTHS" if monthly else "DAYS",
    }
