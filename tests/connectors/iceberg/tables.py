"""Catalogs that change at will, and what their Iceberg tables hold."""

import io
import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table as IcebergTable

from ahi_catalog.connectors.catalog import Batch, Catalog, Partition, Unit, open_or_create, parquet, publish
from ahi_catalog.connectors.catalog.dataset import open_dataset
from ahi_catalog.connectors.iceberg.mirror import Mirrored, Run, Target, mirror
from ahi_catalog.connectors.storage import Store
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.schemas import IMAGE_SETS, Column, Sensitivity, Table
from ahi_catalog.schemas.tables import LOCAL_DATETIME, NUMBERS, TEXTS, TIMESTAMP

ID, OTHER = "0" * 32, "1" * 32
DAY = date(2024, 2, 28)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
NAMESPACE = "imaging"
WHERE = (NAMESPACE, "image_sets")
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


SECRET: dict[pa.DataType, Any] = {
    pa.string(): "Geheimnis",
    pa.int32(): 0x5EC4E7,
    pa.float64(): 3.1415926,
    pa.date32(): date(1907, 5, 3),
    LOCAL_DATETIME: datetime(1907, 5, 3, 1, 2, 3),  # noqa: DTZ001  # of no zone
    TEXTS: ["Geheimnis"],
}
"""What sensitive columns hold, by their types."""
_OPEN: dict[pa.DataType, Any] = {
    pa.string(): "offen",
    pa.int32(): 7,
    pa.int64(): 2**30,
    pa.float64(): 0.5,
    pa.bool_(): True,
    TEXTS: ["CT", None, "MR"],
    NUMBERS: [0.25, 0.75],
}


def put_rows(catalog: Catalog, table: Table, day: int, names: Iterable[str], schema: pa.Schema | None = None) -> None:
    """Put the object of a day of a table: a row a name, with a value in each column; in other types where asked."""
    first = DAY + timedelta(days=day)
    moment = datetime(first.year, first.month, first.day, 12, tzinfo=UTC)
    partition = Partition.of(ID, catalog.description.unit, moment)

    def value(column: Column, name: str) -> Any:
        if column.name in table.key:
            return f"{SECRET[pa.string()]}{name}" if column.sensitivity is not Sensitivity.NONE else name
        if column.type == TIMESTAMP:
            return moment
        return (_OPEN if column.sensitivity is Sensitivity.NONE else SECRET)[column.type]

    records = [{column.name: value(column, name) for column in table.columns} for name in names]
    body = parquet.encode(table, pa.Table.from_pylist(records, table.schema))
    if schema is not None:
        written = io.BytesIO()
        pq.write_table(pq.read_table(io.BytesIO(body)).select(schema.names).cast(schema), written)
        body = written.getvalue()
    stored = catalog.store.get(partition.key(table))
    catalog.store.put(partition.key(table), body, expected=stored.etag if stored else None)


def make_run(**asked: Any) -> Run:
    """A run of a new id, begun at NOW."""
    return Run(**{"run_id": uuid.uuid4().hex[:8], "started": NOW, "clock": lambda: NOW, "summary": {}, **asked})


def target_of(catalog: IcebergCatalog, table: Table = IMAGE_SETS) -> Target:
    """The mirror of a table."""
    return Target(catalog=catalog, identifier=(NAMESPACE, table.name), table=table)


def run_mirror(catalog: Catalog, target: IcebergCatalog, table: Table = IMAGE_SETS, **asked: Any) -> Mirrored:
    """Mirror a table that the catalog has."""
    done = mirror(catalog, target_of(target, table), make_run(**asked))
    assert done is not None
    return done


def rows_of(found: pa.Table, table: Table = IMAGE_SETS) -> list[dict[str, Any]]:
    """Rows in an order of their own, without the column that only the catalog's paths have."""
    names = sorted({"datastore_id", *table.schema.names})
    return sorted(found.select(names).to_pylist(), key=lambda row: (row["image_set_id"], str(row)))


def assert_equal(catalog: Catalog, found: IcebergTable, table: Table = IMAGE_SETS) -> None:
    """The Iceberg table, read by PyIceberg, has the rows of the catalog and no others, value by value."""
    assert rows_of(found.scan().to_arrow(), table) == rows_of(open_dataset(catalog, table=table).to_table(), table)


def write_as_others(found: IcebergTable, *, replacing: int, path: str | None = None) -> None:
    """Commit a data file that no mirror made, in place of so many that one did; one that is there, where asked."""
    held = [task.file for task in found.scan().plan_files()]
    if path is None:
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
