"""A catalog as a table of Glue. Pure: what to create, and what to change in a table that is there.

What is there stays: properties, comments, a serde's parameters, columns of the user's own. UpdateTable replaces a
table whole, so all that GetTable told is handed back
(https://docs.aws.amazon.com/glue/latest/webapi/API_UpdateTable.html).
"""

import re
from typing import Any, Final

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.schemas.ddl import HIVE_TYPES, hive_columns
from ahi_catalog.schemas.external import ExternalTable, projection

Json = dict[str, Any]

_HIVE: Final = "org.apache.hadoop.hive.ql.io.parquet"
_PARTS: Final = frozenset(
    {
        "Name",
        "Description",
        "Owner",
        "LastAccessTime",
        "LastAnalyzedTime",
        "Retention",
        "StorageDescriptor",
        "PartitionKeys",
        "ViewOriginalText",
        "ViewExpandedText",
        "TableType",
        "Parameters",
    }
)
"""What a TableInput has in common with the Table that GetTable answers, for a table that is no link and no view."""

_WIDENED: Final = {("int", "bigint")}
"""Types that an earlier version declared, and what they are now. Athena reads objects of the former as the latter
(https://docs.aws.amazon.com/athena/latest/ug/updates-changing-column-type.html)."""

_STORES: Final = "projection.datastore_id"
_DAY_OR_MONTH: Final = re.compile(r"\d{4}-\d\d(?:-\d\d)?")


def new_table(table: ExternalTable) -> Json:
    """The TableInput of a table that is not there yet."""
    return {
        "Name": table.name,
        "Description": table.table.doc,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE", "classification": "parquet", **projection(table)},
        "PartitionKeys": [{"Name": key.name, "Type": HIVE_TYPES[key.type], "Comment": key.doc} for key in table.keys],
        "StorageDescriptor": {
            "Columns": [
                {"Name": name, "Type": type_, "Comment": doc} for name, type_, doc in hive_columns(table.table)
            ],
            "Location": f"{table.location}/",
            "InputFormat": f"{_HIVE}.MapredParquetInputFormat",
            "OutputFormat": f"{_HIVE}.MapredParquetOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": f"{_HIVE}.serde.ParquetHiveSerDe",
                "Parameters": {"serialization.format": "1"},
            },
        },
    }


def brought_up_to_date(found: Json, table: ExternalTable) -> tuple[Json, list[str]]:
    """The TableInput of a table that is there, and what it changes; nothing is dropped.

    Args:
        found: The Table as GetTable answers it.
        table: What it has to be.

    Returns:
        The TableInput, and one line for each change; no line where the table is as it should be.

    Raises:
        UsageError: The table is not this catalog's.
    """
    wanted = new_table(table)
    _check_ours(found, wanted)
    changed = {name: value for name, value in found.items() if name in _PARTS}
    changes: list[str] = []
    columns = _columns(found["StorageDescriptor"]["Columns"], wanted["StorageDescriptor"]["Columns"], changes)
    changed["StorageDescriptor"] = {**found["StorageDescriptor"], "Columns": columns}
    changed["PartitionKeys"] = _columns(found["PartitionKeys"], wanted["PartitionKeys"], changes)
    changed["Parameters"] = _parameters(found.get("Parameters", {}), wanted["Parameters"], table, changes)
    if not found.get("Description"):
        changed["Description"] = wanted["Description"]
        changes.append("added the table's description")
    return changed, changes


def _check_ours(found: Json, wanted: Json) -> None:
    storage = found.get("StorageDescriptor", {})
    location = storage.get("Location", "").rstrip("/")
    if location != wanted["StorageDescriptor"]["Location"].rstrip("/"):
        raise UsageError(
            f"the table {wanted['Name']} is there and reads {location or 'no folder'}, not this catalog; "
            "give another name by `table`"
        )
    keys = [[(key["Name"], key["Type"]) for key in given.get("PartitionKeys", [])] for given in (found, wanted)]
    if keys[0] != keys[1] or storage.get("InputFormat") != wanted["StorageDescriptor"]["InputFormat"]:
        raise UsageError(
            f"the table {wanted['Name']} is there with other partition keys or another format than the catalog's; "
            "drop it (its data stays), or give another name by `table`"
        )


def _columns(found: list[Json], wanted: list[Json], changes: list[str]) -> list[Json]:
    """The columns that are there, with a comment where they had none and a wider type, then those that they lack."""
    declared = {column["Name"]: column for column in wanted}
    kept = []
    for column in found:
        own, updated = declared.get(column["Name"]), dict(column)
        if own and not column.get("Comment"):
            changes.append(f"added the comment of column {column['Name']}")
            updated["Comment"] = own["Comment"]
        if own and (column.get("Type"), own["Type"]) in _WIDENED:
            changes.append(f"widened column {column['Name']} to {own['Type']}")
            updated["Type"] = own["Type"]
        kept.append(updated)
    new = [column for column in wanted if column["Name"] not in {column["Name"] for column in found}]
    changes += [f"added column {column['Name']}" for column in new]
    return [*kept, *new]


def _parameters(
    found: dict[str, str], wanted: dict[str, str], table: ExternalTable, changes: list[str]
) -> dict[str, str]:
    """The properties that are there, with those that they lack; the projection reaches at least what is wanted."""
    values = {**wanted, **found}
    if not table.datastore_ids:
        values[f"{_STORES}.type"] = "injected"
    elif values[f"{_STORES}.type"] == "injected":
        # Asked for once, kept until the property is taken away; an enum's values would mean nothing.
        values = {name: value for name, value in values.items() if name in found or name != f"{_STORES}.values"}
    else:
        listed = [value for value in found.get(f"{_STORES}.values", "").split(",") if value]
        missing = [store for store in table.datastore_ids if store not in listed]
        values[f"{_STORES}.values"] = ",".join([*listed, *missing])
    name = f"projection.{table.partition_key}.range"
    start, _, end = values[name].partition(",")
    needed = wanted[name].partition(",")[0]
    if _DAY_OR_MONTH.fullmatch(start.strip()) and start.strip() > needed:
        values[name] = f"{needed},{end}"
    changes += [
        f"{'set' if name in found else 'added'} property {name}"
        for name in sorted(values)
        if values[name] != found.get(name)
    ]
    return values
