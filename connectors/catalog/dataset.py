"""The catalog as pyarrow reads it: a hive-partitioned dataset, locally or on S3, without any extension."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.layout import Unit, parse_partition
from ahi_catalog.connectors.catalog.publishing import read_object
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.storage import LocalStore
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
    filesystem, root = _filesystem(catalog), _root(catalog)
    return ds.dataset(
        sorted(f"{root}/{key}" for key in keys),
        schema=pa.schema([*table.schema, *partition_fields]),
        format="parquet",
        filesystem=filesystem,
        partitioning=ds.partitioning(pa.schema(partition_fields), flavor="hive"),
        partition_base_dir=f"{root}/{table.folder}",
    )


def data_keys(catalog: Catalog, table: Table = IMAGE_SETS) -> list[str]:
    """The keys of all data objects of a table."""
    return [entry.key for entry in catalog.store.entries(table.folder) if parse_partition(table, entry.key)]


def refuse_damaged(catalog: Catalog, keys: Sequence[str]) -> None:
    """Say which object it is, where a reading failed because one is damaged; a reader's own error does not.

    Raises:
        DamagedError: A data object is no Parquet object of a catalog.
        StoreError: One cannot be got.
    """
    dataset = open_dataset(catalog, keys)
    if _rows_of(dataset) is None:
        for fragment in dataset.get_fragments():
            if _rows_of(fragment) is None:
                # Read as a run would, which knows damage from a lack of rights or of a network.
                key = _key_of(catalog, fragment)
                read_object(IMAGE_SETS, key, catalog.store.get(key))


def count_rows(catalog: Catalog, keys: Sequence[str]) -> tuple[int, list[str]]:
    """How many rows data objects hold, by their footers, and the keys of those that have no readable one."""
    dataset = open_dataset(catalog, keys)
    total = _rows_of(dataset)
    if total is not None:
        return total, []
    # One at a time only now: it takes a request each.
    counts = {_key_of(catalog, fragment): _rows_of(fragment) for fragment in dataset.get_fragments()}
    unreadable = sorted(key for key, rows in counts.items() if rows is None)
    return sum(rows or 0 for rows in counts.values()), unreadable


def _rows_of(objects: ds.Dataset | ds.Fragment) -> int | None:
    """The rows of one object or of several; None where a footer cannot be read."""
    try:
        rows: int = objects.count_rows()
    except (pa.ArrowException, OSError):
        return None
    return rows


def _key_of(catalog: Catalog, fragment: ds.Fragment) -> str:
    key: str = fragment.path.removeprefix(f"{_root(catalog)}/")
    return key


def _root(catalog: Catalog) -> str:
    """The folder of a catalog, or its bucket and prefix, as Arrow names it."""
    return catalog.store.url.removeprefix("s3://")


def _filesystem(catalog: Catalog) -> pyarrow.fs.FileSystem:
    store = catalog.store
    if isinstance(store, LocalStore):
        return pyarrow.fs.LocalFileSystem()
    if not store.url.startswith("s3://"):
        raise UsageError("a catalog in memory has no files to read")
    return pyarrow.fs.S3FileSystem(**_s3_options())


def _s3_options() -> dict[str, Any]:
    """What boto3 would use, for Arrow's own S3 client: credentials, region, endpoint.

    Arrow cannot say whose bucket it expects (`S3FileSystem` knows no such header); the listing just before, which
    names the objects to read, has.
    """
    # A third of a second that local catalogs do without.

    from ahi_catalog.connectors import aws  # noqa: PLC0415

    session = aws.current_session()
    client = aws.make_client("s3")
    options: dict[str, Any] = {"region": client.meta.region_name}
    if aws.has_custom_endpoint(client):
        scheme, _, host = client.meta.endpoint_url.partition("://")
        options |= {"endpoint_override": host, "scheme": scheme}
    credentials = session.get_credentials()
    if credentials is None:
        raise UsageError("no usable AWS credentials for S3: set AWS_PROFILE or AWS_ACCESS_KEY_ID")
    frozen = credentials.get_frozen_credentials()
    options |= {"access_key": frozen.access_key, "secret_key": frozen.secret_key, "session_token": frozen.token}
    return options
