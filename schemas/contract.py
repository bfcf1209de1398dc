"""A catalog's tables as an Open Data Contract (ODCS 3.1, https://bitol.io/open-data-contract-standard). Pure.

Columns are classified as the catalog's PHI policy leaves them: who reads it wants to know what is in this catalog.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa

from ahi_catalog.schemas.ddl import HIVE_TYPES
from ahi_catalog.schemas.external import PartitionKey, partition_keys
from ahi_catalog.schemas.phi.policy import Action, PhiPolicy, action
from ahi_catalog.schemas.tables import LOCAL_DATETIME, TIMESTAMP, Column, Sensitivity, Table

_LOGICAL: Final = {
    pa.string(): "string",
    pa.int32(): "integer",
    pa.int64(): "integer",
    pa.float64(): "number",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    TIMESTAMP: "timestamp",
    LOCAL_DATETIME: "timestamp",
}
_CLASSES: Final = {
    Sensitivity.NONE: "internal",
    Sensitivity.DATE: "confidential",
    Sensitivity.CODE: "confidential",
}
_RESTRICTED: Final = "restricted"
_PSEUDONYMS: Final = frozenset({Action.HASH, Action.UID, Action.YEAR})
_PURPOSE: Final = (
    "Which image sets an AWS HealthImaging data store holds: one row each, as its search tells of them. "
    "Every image set created before the watermark has its row."
)


def contract(
    tables: Iterable[Table], *, catalog_id: str, location: str, key: PartitionKey, phi: PhiPolicy, max_lag: timedelta
) -> dict[str, Any]:
    """The contract, as JSON and YAML have it.

    Args:
        tables: Declarations.
        catalog_id: Tells the catalog from others; empty: its location does.
        location: Of the catalog: ``s3://bucket/prefix``, or a folder.
        key: The second of the partition keys.
        phi: What is done with patients' data, by which columns are classified.
        max_lag: How old the watermark may be.
    """
    declared = list(tables)
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": f"urn:ahi-catalog:{catalog_id or location}",
        "name": "ahi-catalog",
        "version": "1.0.0",
        "status": "active",
        "description": {
            "purpose": _PURPOSE,
            "limitations": f"PHI policy: {phi}. What is younger than the settle time is not promised yet.",
        },
        "servers": [_server(table, location, key) for table in declared],
        "schema": [_schema(table, key, phi) for table in declared],
        "slaProperties": [
            {
                "property": "latency",
                "value": math.ceil(max_lag / timedelta(minutes=1)),
                "unit": "minutes",
                "element": ",".join(f"{table.name}.{table.created}" for table in declared),
                "description": "From an image set's creation until its row can be read.",
            }
        ],
    }


def _server(table: Table, location: str, key: PartitionKey) -> dict[str, Any]:
    objects = f"{location}/{table.folder}datastore_id=*/{key}=*/{table.object_name}"
    if location.startswith("s3://"):
        return {"server": table.name, "type": "s3", "location": objects, "format": "parquet"}
    return {"server": table.name, "type": "local", "path": objects, "format": "parquet"}


def _schema(table: Table, key: PartitionKey, phi: PhiPolicy) -> dict[str, Any]:
    return {
        "name": table.name,
        "physicalName": table.name,
        "physicalType": "table",
        "logicalType": "object",
        "description": table.doc,
        "dataGranularityDescription": f"One row for each {', '.join(table.key)}",
        "properties": [*_columns(table, phi), *_keys(key)],
        "quality": [
            _check("duplicateValues", "No key stands twice.", {"properties": list(table.key)}),
        ],
    }


def _columns(table: Table, phi: PhiPolicy) -> Iterator[dict[str, Any]]:
    for column in table.columns:
        done = action(phi.policy, column)
        told: dict[str, Any] = {
            "name": column.name,
            **_type(column.type),
            "description": column.doc,
            "required": not column.nullable,
            "classification": _classification(column, done, keeps_text=phi.keep_text),
        }
        if column.name in table.key:
            told |= {"primaryKey": True, "primaryKeyPosition": table.key.index(column.name) + 1}
        if sources := table.sources(column):
            told["transformSourceObjects"] = sources
        if done is not Action.KEEP:
            told["transformLogic"] = str(done)
        if not column.nullable:
            told["quality"] = [_check("nullValues", "Every row has it.")]
        yield told | {"customProperties": [{"property": "sensitivity", "value": str(column.sensitivity)}]}


def _keys(key: PartitionKey) -> Iterator[dict[str, Any]]:
    for position, each in enumerate(partition_keys(key), 1):
        yield {
            "name": each.name,
            **_type(each.type),
            "description": each.doc,
            "required": True,
            "classification": _CLASSES[Sensitivity.NONE],
            "partitioned": True,
            "partitionKeyPosition": position,
        }


def _type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"logicalType": "array", "physicalType": HIVE_TYPES[kind], "items": _type(kind.value_type)}
    return {"logicalType": _LOGICAL[kind], "physicalType": HIVE_TYPES[kind]}


def _classification(column: Column, done: Action, *, keeps_text: bool) -> str:
    """What the column can tell, as it is in the catalog."""
    if done is Action.NULL or (done is Action.TEXT and not keeps_text):
        return _CLASSES[Sensitivity.NONE]
    if done in _PSEUDONYMS:
        return _CLASSES[Sensitivity.CODE]
    return _CLASSES.get(column.sensitivity, _RESTRICTED)


def _check(metric: str, description: str, arguments: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    told = {"type": "library", "metric": metric, "mustBe": 0, "description": description}
    return told | ({"arguments": arguments} if arguments else {})
