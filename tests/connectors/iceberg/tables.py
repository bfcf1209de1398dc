"""Catalogs that change at will, and what their Iceberg tables hold."""

import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table as IcebergTable

from ahi_catalog.connectors.catalog import Batch, Catalog, Partition, Unit, open_or_create, publish
from ahi_catalog.connectors.catalog.dataset import open_dataset
from ahi_catalog.connectors.iceberg.mirror import Mirrored, Run, Target, mirror
from ahi_catalog.connectors.storage import Store
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.schemas import IMAGE_SETS, Table

ID, OTHER = "0" * 32, "1" * 32
DAY = date(2024, 2, 28)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
WHERE = ("imaging", "image_sets")
SECRETS = {
    "patient_id": "Geheim-ID",
    "patient_name": "Geheim^Name",
    "study_instance_uid": "1.2.3.999999",
    "study_description": "Geheimtext",
    "accession_number": "Geheimzahl",
    "dicom_study_date": "19991231",
}


def make_catalog(store: Store, unit: Unit = Unit.DAY) -> Catalog:
    """An empty catalog."""
    return open_or_create(store, unit)


def put(catalog: Catalog, day: int, names: Iterable[str], *, version: int = 1, datastore_id: str = ID) -> None:
    """Publish rows of a day, counted from DAY; every image set that the day has and the names lack is removed."""
    first = DAY + timedelta(days=day)
    moment = datetime(first.year, first.month, first.day, 12, tzinfo=UTC)
    records = [
        {"image_set_id": name, "version": version, "created_at": moment, "series_number": day, **SECRETS}
        for name in names
    ]
    partition = Partition.of(datastore_id, catalog.description.unit, moment)
    rows = pa.Table.from_pylist(records, IMAGE_SETS.schema)
    batch = Batch(table=IMAGE_SETS, partition=partition, rows=rows, scanned=Coverage([partition.window]))
    publish(catalog.store, batch, lambda missing: missing)


def make_run(**asked: Any) -> Run:
    """A run of a new id, begun at NOW."""
    return Run(**{"run_id": uuid.uuid4().hex[:8], "started": NOW, "summary": {}, **asked})


def run_mirror(catalog: Catalog, target: IcebergCatalog, table: Table = IMAGE_SETS, **asked: Any) -> Mirrored:
    """Mirror the catalog."""
    return mirror(catalog, Target(catalog=target, identifier=WHERE, table=table), make_run(**asked))


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Rows in an order of their own, without the column that only the catalog's paths have."""
    names = sorted({"datastore_id", *IMAGE_SETS.schema.names})
    return sorted(table.select(names).to_pylist(), key=lambda row: (row["image_set_id"], str(row)))


def assert_equal(catalog: Catalog, found: IcebergTable) -> None:
    """The Iceberg table, read by PyIceberg, has the rows of the catalog and no others, value by value."""
    assert rows_of(found.scan().to_arrow()) == rows_of(open_dataset(catalog).to_table())


def write_as_others(found: IcebergTable, *, replacing: int) -> None:
    """Commit a data file that no mirror made, in place of so many that one did."""
    held = [task.file for task in found.scan().plan_files()]
    path = f"{found.location()}/data/00000-0-others.parquet"
    with found.io.new_input(held[0].file_path).open() as copied, found.io.new_output(path).create() as written:
        written.write(copied.read())
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=held[0].partition,
        record_count=held[0].record_count,
        file_size_in_bytes=held[0].file_size_in_bytes,
        spec_id=held[0].spec_id,
    )
    with found.transaction() as change, change.update_snapshot().overwrite() as update:
        for each in held[:replacing]:
            update.delete_data_file(each)
        update.append_data_file(file)
