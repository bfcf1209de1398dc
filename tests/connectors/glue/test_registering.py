"""Registering in Glue: what is made, what a second call changes, what of the user's stays."""

from dataclasses import replace
from datetime import date
from typing import Any

import boto3
import botocore.exceptions
import pytest

from ahi_catalog.connectors.errors import AhiCatalogError, UsageError
from ahi_catalog.connectors.glue import register
from ahi_catalog.schemas import IMAGE_SETS
from ahi_catalog.schemas.external import ExternalTable

ONE, TWO = "a" * 32, "b" * 32
TABLE = ExternalTable(
    table=IMAGE_SETS,
    name=IMAGE_SETS.name,
    location="s3://bucket/imaging/image_sets",
    partition_key="created_date",
    datastore_ids=(ONE,),
    first_day=date(2024, 1, 1),
    database="imaging",
)


def read(glue: Any) -> dict[str, Any]:
    found: dict[str, Any] = glue.get_table(DatabaseName="imaging", Name="image_sets")["Table"]
    return found


def test_the_first_call_makes_the_database_and_the_table(glue: Any, calls: list[str]) -> None:
    """Both are made; the table has each column with its comment, and the projection."""
    done = register(glue, TABLE)
    assert done.changes == ["created database imaging", "created table image_sets"]
    assert calls == ["GetTable", "CreateTable", "CreateDatabase", "CreateTable"]
    found = read(glue)
    assert [c["Name"] for c in found["StorageDescriptor"]["Columns"]] == [column.name for column in IMAGE_SETS.columns]
    assert all(c["Comment"] for c in found["StorageDescriptor"]["Columns"])
    assert [(key["Name"], key["Type"]) for key in found["PartitionKeys"]] == [
        ("datastore_id", "string"),
        ("created_date", "date"),
    ]
    assert found["StorageDescriptor"]["Location"] == "s3://bucket/imaging/image_sets/"
    assert found["Parameters"]["projection.created_date.range"] == "2024-01-01,NOW"


def test_a_second_call_reads_once_and_changes_nothing(glue: Any, calls: list[str]) -> None:
    """It is one GetTable, and says so by having no changes."""
    register(glue, TABLE)
    before = read(glue)
    calls.clear()
    assert register(glue, TABLE).changes == []
    assert calls == ["GetTable"]
    assert read(glue) == before


def test_a_table_joins_a_database_that_is_there(glue: Any, calls: list[str]) -> None:
    """A database of the user's is left as it is."""
    boto3.Session().client("glue").create_database(DatabaseInput={"Name": "imaging", "Description": "ours"})
    calls.clear()
    assert register(glue, TABLE).changes == ["created table image_sets"]
    assert calls == ["GetTable", "CreateTable"]
    assert boto3.Session().client("glue").get_database(Name="imaging")["Database"]["Description"] == "ours"


def test_what_the_user_changed_stays_and_what_is_new_is_added(glue: Any) -> None:
    """Properties, comments, columns, owner, serde and LF tags stay; a new data store, day and column come."""
    register(glue, TABLE)
    plain = boto3.Session().client("glue")
    table = read(glue)
    [dropped, *columns] = table["StorageDescriptor"]["Columns"]
    columns[0]["Comment"] = "our own words"
    columns.append({"Name": "ours", "Type": "string", "Comment": "a column of the user's"})
    serde = {**table["StorageDescriptor"]["SerdeInfo"], "Parameters": {"parquet.mergeSchema": "false"}}
    plain.update_table(
        DatabaseName="imaging",
        TableInput={
            "Name": "image_sets",
            "Owner": "radiology",
            "Description": "our description",
            "Retention": 7,
            "TableType": "EXTERNAL_TABLE",
            "PartitionKeys": table["PartitionKeys"],
            "StorageDescriptor": {
                **table["StorageDescriptor"],
                "Columns": columns,
                "SerdeInfo": serde,
                "Parameters": {"CrawlerSchemaSerializerVersion": "1.0"},
            },
            "Parameters": {
                **table["Parameters"],
                "cost-centre": "4711",
                "projection.created_date.range": "2024-02-01,NOW+1DAYS",
                "projection.created_date.interval": "1",
            },
        },
    )
    lake = boto3.Session().client("lakeformation")
    lake.create_lf_tag(TagKey="phi", TagValues=["yes"])
    resource = {"Table": {"DatabaseName": "imaging", "Name": "image_sets"}}
    lake.add_lf_tags_to_resource(Resource=resource, LFTags=[{"TagKey": "phi", "TagValues": ["yes"]}])
    tags = lake.get_resource_lf_tags(Resource=resource)["LFTagsOnTable"]

    done = register(glue, replace(TABLE, datastore_ids=(ONE, TWO), first_day=date(2023, 12, 1)))
    assert done.changes == [
        f"added column {dropped['Name']}",
        "set property projection.created_date.range",
        "set property projection.datastore_id.values",
    ]
    found = read(glue)
    assert found["StorageDescriptor"]["Columns"] == [*columns, dropped]
    assert found["StorageDescriptor"]["SerdeInfo"] == serde
    assert found["StorageDescriptor"]["Parameters"] == {"CrawlerSchemaSerializerVersion": "1.0"}
    assert (found["Owner"], found["Description"], found["Retention"]) == ("radiology", "our description", 7)
    assert found["Parameters"]["cost-centre"] == "4711"
    assert found["Parameters"]["projection.created_date.range"] == "2023-12-01,NOW+1DAYS"
    assert found["Parameters"]["projection.datastore_id.values"] == f"{ONE},{TWO}"
    assert lake.get_resource_lf_tags(Resource=resource)["LFTagsOnTable"] == tags
    assert tags
    assert register(glue, TABLE).changes == []


def test_counts_of_an_earlier_version_are_widened(glue: Any) -> None:
    """Columns that were int and are bigint now become so, once; a type of the user's own stays."""
    register(glue, TABLE)
    table = read(glue)
    columns = table["StorageDescriptor"]["Columns"]
    counts = [column for column in columns if column["Name"].startswith("number_of_study_related")]
    assert [column["Type"] for column in counts] == ["bigint", "bigint"]
    counts[0]["Type"] = "int"
    counts[1]["Type"] = "string"
    parts = ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters", "Description")
    boto3.Session().client("glue").update_table(
        DatabaseName="imaging", TableInput={name: table[name] for name in parts}
    )
    assert register(glue, TABLE).changes == ["widened column number_of_study_related_series to bigint"]
    after = {column["Name"]: column for column in read(glue)["StorageDescriptor"]["Columns"]}
    assert after["number_of_study_related_series"] == {**counts[0], "Type": "bigint"}
    assert after["number_of_study_related_instances"]["Type"] == "string"
    assert register(glue, TABLE).changes == []


def test_a_table_of_something_else_is_left_alone(glue: Any) -> None:
    """A table that reads another folder, or has other partition keys, is refused and stays as it was."""
    register(glue, TABLE)
    before = read(glue)
    with pytest.raises(UsageError, match="reads s3://bucket/imaging/image_sets, not this catalog"):
        register(glue, replace(TABLE, location="s3://bucket/other/image_sets"))
    with pytest.raises(UsageError, match="other partition keys"):
        register(glue, replace(TABLE, partition_key="created_month"))
    with pytest.raises(UsageError, match="Athena knows no capitals"):
        register(glue, replace(TABLE, name="Image Sets"))
    assert read(glue) == before


def test_a_refusal_names_the_permission(glue: Any) -> None:
    """Access denied is one line with the action to allow."""

    def deny(**_: Any) -> None:
        raise botocore.exceptions.ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetTable")

    glue.meta.events.register("before-send.glue.GetTable", deny)
    with pytest.raises(AhiCatalogError, match="allow glue:GetTable"):
        register(glue, TABLE)


def test_an_update_in_between_is_read_again(glue: Any) -> None:
    """A conflict with another process ends with both changes in the table."""
    register(glue, TABLE)
    conflicts = [1]

    def conflict(**_: Any) -> None:
        if conflicts:
            conflicts.pop()
            other = read(boto3.Session().client("glue"))
            other_input = {name: other[name] for name in ("Name", "StorageDescriptor", "PartitionKeys", "TableType")}
            parameters = {**other["Parameters"], "cost-centre": "4711"}
            boto3.Session().client("glue").update_table(
                DatabaseName="imaging", TableInput={**other_input, "Parameters": parameters}
            )
            raise botocore.exceptions.ClientError({"Error": {"Code": "ConcurrentModificationException"}}, "UpdateTable")

    glue.meta.events.register("before-send.glue.UpdateTable", conflict)
    register(glue, replace(TABLE, datastore_ids=(ONE, TWO)))
    found = read(glue)["Parameters"]
    assert found["cost-centre"] == "4711"
    assert found["projection.datastore_id.values"] == f"{ONE},{TWO}"
