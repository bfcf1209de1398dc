"""A declared table in Iceberg's terms: its columns, partitions, order and properties.

One table holds all data stores, and its files are copied byte for byte: ``datastore_id`` is an identity partition that
no file holds, and a name mapping finds the columns.
"""

from typing import Any, Final

import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import TableProperties
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform, MonthTransform, Transform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from ahi_catalog.connectors.catalog.layout import Partition, Unit
from ahi_catalog.connectors.errors import StateError
from ahi_catalog.schemas import Sensitivity, Table
from ahi_catalog.schemas.tables import LOCAL_DATETIME, TIMESTAMP

DATASTORE: Final = "datastore_id"
"""A column that no file holds: readers take the values of an identity partition from the table's metadata, as they do
for the tables of Hive (https://iceberg.apache.org/spec/#column-projection)."""
_TYPES: Final[dict[pa.DataType, IcebergType]] = {
    pa.bool_(): BooleanType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float64(): DoubleType(),
    pa.string(): StringType(),
    pa.date32(): DateType(),
    TIMESTAMP: TimestamptzType(),
    LOCAL_DATETIME: TimestampType(),
}
_WIDENED: Final = ("int", "long")
_EPOCH: Final = {Unit.DAY: 719_163, Unit.MONTH: 1970 * 12 + 1}
"""The `Partition.ordinal` of 1970-01-01, from which Iceberg counts days and months."""
_PROPERTIES: Final = {
    TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
    TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: "5",
    TableProperties.MANIFEST_MERGE_ENABLED: "true",
    TableProperties.MANIFEST_MIN_MERGE_COUNT: "2",
    # Two mirrors that add the first file of a partition would both commit at the isolation `snapshot`.
    TableProperties.WRITE_DELETE_ISOLATION_LEVEL: "serializable",
    # No bounds, which are values of patients', and no counts, which would be most of a manifest.
    TableProperties.DEFAULT_WRITE_METRICS_MODE: "none",
}


def make_schema(table: Table) -> Schema:
    """The columns, their comments and the identifier fields; what creates a table numbers them anew, in this order."""
    declared = [
        (column.name, _type(column.type, len(table.columns) + 2 + number), not column.nullable, column.doc)
        for number, column in enumerate(table.columns)
    ]
    declared.append((DATASTORE, StringType(), False, "The data store, 32 of [0-9a-z]."))
    fields = [
        NestedField(field_id=number, name=name, field_type=kind, required=required, doc=doc)
        for number, (name, kind, required, doc) in enumerate(declared, 1)
    ]
    # What identifies a row may not be null, as UIDs are where the PHI policy is `drop`.
    identifiers = [field for field in fields if field.name in table.key]
    are_given = all(field.required for field in identifiers)
    return Schema(*fields, identifier_field_ids=[field.field_id for field in identifiers if are_given])


def _type(declared: pa.DataType, element_id: int) -> IcebergType:
    if pa.types.is_list(declared):
        return ListType(element_id=element_id, element=_TYPES[declared.value_type], element_required=False)
    return _TYPES[declared]


def make_spec(table: Table, unit: Unit, schema: Schema) -> PartitionSpec:
    """Partitions by data store, and by day or month of when the image set was created."""
    span: Transform[Any, Any] = DayTransform() if unit is Unit.DAY else MonthTransform()
    return PartitionSpec(
        PartitionField(schema.find_field(DATASTORE).field_id, 1000, IdentityTransform(), DATASTORE),
        PartitionField(schema.find_field(table.created).field_id, 1001, span, unit.column),
    )


def make_order(table: Table, schema: Schema) -> SortOrder:
    """The order of rows in a data object."""
    return SortOrder(*(SortField(schema.find_field(name).field_id, IdentityTransform()) for name in table.order))


def make_properties(table: Table) -> dict[str, str]:
    """What readers and writers are told: bounds of columns that tell nothing of patients, and of no others."""
    metrics = TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX
    open_columns = [column.name for column in table.columns if column.sensitivity is Sensitivity.NONE]
    return _PROPERTIES | {f"{metrics}.{name}": "truncate(16)" for name in open_columns}


def partition_value(partition: Partition) -> Record:
    """The partition as data files are told to be in it."""
    return Record(partition.datastore_id, partition.ordinal - _EPOCH[partition.unit])


def bring_up_to_date(found: IcebergTable, table: Table, unit: Unit) -> None:
    """Add columns that a table lacks, by name, and what else follows from the declaration.

    Raises:
        StateError: The table has columns, types or partitions that do not come from the declaration.
    """
    wanted, known = make_schema(table), {field.name: field for field in found.schema().fields}
    name = ".".join(found.name())
    if unexpected := known.keys() - set(wanted.column_names):
        raise StateError(
            f"the Iceberg table {name} has columns that {table.name} does not have: {', '.join(sorted(unexpected))}; "
            "a column of ours is never renamed: upgrade ahi-catalog, or drop the table to have it made anew, or give "
            "another namespace if it is none of ours"
        )
    types = {
        field.name: (str(known[field.name].field_type), str(field.field_type))
        for field in wanted.fields
        if field.name in known
    }
    changed = {column for column, (before, after) in types.items() if before != after}
    if any(types[column] != _WIDENED for column in changed):
        raise StateError(
            f"the Iceberg table {name} has other types than {table.name} in {', '.join(sorted(changed))}; "
            "drop it to have it made anew, or give another namespace if it is none of ours"
        )
    missing = [field for field in wanted.fields if field.name not in known]
    if missing or changed:
        with found.update_schema() as update:
            for field in missing:
                update.add_column(field.name, field.field_type, field.doc)
            for column in changed:
                update.update_column(column, field_type=LongType())
    # As it is written down, so that readers whose files have no field ids find columns by their names.
    properties = make_properties(table)
    if TableProperties.DEFAULT_NAME_MAPPING not in found.properties:
        properties[TableProperties.DEFAULT_NAME_MAPPING] = found.schema().name_mapping.model_dump_json()
    if not properties.items() <= found.properties.items():
        with found.transaction() as change:
            change.set_properties(properties)
    if _fields(found.spec()) != _fields(make_spec(table, unit, found.schema())):
        raise StateError(
            f"the Iceberg table {name} is not partitioned by {DATASTORE} and {unit.column}, as the catalog is; "
            "drop it to have it made anew"
        )


def _fields(spec: PartitionSpec) -> list[tuple[int, str]]:
    return [(field.source_id, str(field.transform)) for field in spec.fields]
