"""The catalog as pyarrow reads it: a hive-partitioned dataset, locally or on S3."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.dataset as ds

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.layout import Partition, Unit, parse_partition, partition_rows, table_prefix
from ahi_catalog.connectors.catalog.publishing import read_object
from ahi_catalog.connectors.catalog.remote import RemoteDataset, removed
from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.connectors.storage.base import RangeStore
from ahi_catalog.schemas import IMAGE_SETS, Table


def open_dataset(catalog: Catalog, keys: Sequence[str] | None = None, table: Table = IMAGE_SETS) -> ds.Dataset:
    """A table of a catalog; lazy, with filters and columns pushed down to the objects.

    Args:
        catalog: The catalog.
        keys: Of the data objects to read; None: all there are.
        table: The declaration.

    The columns are those of the table, whatever version wrote an object, and the partition keys: ``datastore_id``, and
    ``created_date`` (a date) or ``created_month`` (text).
    """
    unit = catalog.description.unit
    key_type = pa.date32() if unit is Unit.DAY else pa.string()
    partition_fields = [pa.field("datastore_id", pa.string()), pa.field(unit.column, key_type)]
    if keys is None:
        keys = data_keys(catalog, table)
    schema = pa.schema([*table.schema, *partition_fields])
    partitioning = ds.partitioning(pa.schema(partition_fields), flavor="hive")
    store = catalog.store
    if isinstance(store, RangeStore):
        return RemoteDataset(store, sorted(keys), schema, partitioning)
    return ds.dataset(
        sorted(f"{store.url}/{key}" for key in keys),
        schema=schema,
        format="parquet",
        partitioning=partitioning,
        partition_base_dir=f"{store.url}/{table.folder}",
    )


def store_failure(dataset: ds.Dataset) -> AhiCatalogError | None:
    """The first error of the store while a dataset was read, whatever an engine made of it; None: there was none."""
    return dataset.failure if isinstance(dataset, RemoteDataset) else None


def data_keys(catalog: Catalog, table: Table = IMAGE_SETS, datastore_id: str | None = None) -> list[str]:
    """The keys of all data objects of a table, or of one data store's."""
    prefix = table_prefix(table, datastore_id) if datastore_id else table.folder
    return [entry.key for entry in catalog.store.entries(prefix) if parse_partition(table, entry.key)]


@contextmanager
def open_image_sets(catalog: Catalog, datastore_id: str) -> Iterator[ds.Dataset]:
    """The image sets of a data store as a dataset; where reading it fails inside, what is wrong is told.

    Raises:
        DamagedError: A data object is no Parquet object of a catalog.
        StoreError: One cannot be got.
    """
    keys = [partition.key(IMAGE_SETS) for partition in catalog.partitions(datastore_id)]
    dataset = open_dataset(catalog, keys)
    try:
        yield dataset
    except (pa.ArrowException, OSError):
        if failure := store_failure(dataset):
            raise failure from None
        refuse_damaged(catalog, keys)
        raise


def find_image_sets(catalog: Catalog, datastore_id: str, image_set_ids: Collection[str]) -> dict[Partition, list[str]]:
    """In which partitions image sets have a row; reads footers, Bloom filters and little else.

    Raises:
        DamagedError: A data object is no Parquet object of a catalog.
        StoreError: One cannot be got.
    """
    columns, wanted = [IMAGE_SETS.created, "image_set_id"], ds.field("image_set_id").isin(sorted(image_set_ids))
    with open_image_sets(catalog, datastore_id) as dataset:
        rows = dataset.scanner(columns=columns, filter=wanted).to_table()
    found = partition_rows(IMAGE_SETS, datastore_id, catalog.description.unit, rows)
    return {partition: part["image_set_id"].to_pylist() for partition, part in found}


def refuse_damaged(catalog: Catalog, keys: Sequence[str], table: Table = IMAGE_SETS) -> None:
    """Say which object it is, where a reading failed because one is damaged; a reader's own error does not.

    Raises:
        DamagedError: A data object is no Parquet object of a catalog.
        StoreError: One cannot be got.
    """
    unreadable = count_rows(catalog, keys, table)[1]
    # Where every footer can be read, the damage is between them.
    for key in unreadable or keys:
        # Read as a run would, which knows damage from a lack of rights or of a network.
        read_object(table, key, catalog.store.get(key))


def count_rows(catalog: Catalog, keys: Sequence[str], table: Table = IMAGE_SETS) -> tuple[int, list[str]]:
    """How many rows data objects hold, by their footers, and the keys of those that have no readable one.

    Raises:
        ConflictError: One is gone since it was listed.
        StoreError: One cannot be got.
    """
    total = _rows_of(catalog, keys, table)
    if total is not None:
        return total, []
    # One at a time only now: it takes a request each.
    counts = {key: _rows_of(catalog, [key], table) for key in keys}
    unreadable = sorted(key for key, rows in counts.items() if rows is None)
    for key in unreadable:
        # What may not be read, or is gone, is not damaged: the store tells.
        if catalog.store.get(key) is None:
            raise removed(key)
    return sum(rows or 0 for rows in counts.values()), unreadable


def _rows_of(catalog: Catalog, keys: Sequence[str], table: Table) -> int | None:
    """The rows of data objects; None where a footer cannot be read."""
    try:
        rows: int = open_dataset(catalog, keys, table).count_rows()
    except (pa.ArrowException, OSError):
        return None
    return rows
