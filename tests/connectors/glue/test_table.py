"""Bringing a table up to date, whatever a user made of it: nothing is lost, and once is enough."""

from datetime import date
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.glue.table import brought_up_to_date, new_table
from ahi_catalog.schemas import IMAGE_SETS
from ahi_catalog.schemas.external import ExternalTable

IDS = ["a" * 32, "b" * 32, "c" * 32]
names = st.text("abcdefghij.-", min_size=1, max_size=8)
tables = st.builds(
    ExternalTable,
    table=st.just(IMAGE_SETS),
    name=st.just(IMAGE_SETS.name),
    location=st.just("s3://bucket/imaging/image_sets"),
    partition_key=st.just("created_date"),
    datastore_ids=st.lists(st.sampled_from(IDS), unique=True).map(tuple),
    first_day=st.dates(date(2020, 1, 1), date(2030, 1, 1)),
    database=st.just("imaging"),
)


@st.composite
def found_tables(draw: st.DrawFn) -> dict[str, Any]:
    """A table of this catalog as GetTable answers it, after a user has worked on it."""
    made = new_table(draw(tables))
    columns = [column for column in made["StorageDescriptor"]["Columns"] if draw(st.booleans())]
    for column in columns:
        if draw(st.booleans()):
            column["Comment"] = draw(st.sampled_from(["", "ours"]))
    made["StorageDescriptor"]["Columns"] = [*columns, {"Name": "ours", "Type": "string"}]
    kept = {name: value for name, value in made["Parameters"].items() if draw(st.booleans())}
    made["Parameters"] = kept | draw(st.dictionaries(names, names, max_size=4))
    if draw(st.booleans()):
        made["Parameters"]["projection.created_date.range"] = draw(
            st.sampled_from(["NOW-3YEARS,NOW", "2025-01-01,2031-01-01", "2019-01-01, NOW+2DAYS"])
        )
    return {**made, "Owner": "us", "Retention": 3, "CreateTime": 1, "VersionId": "4", "DatabaseName": "imaging"}


@settings(deadline=None)
@given(found=found_tables(), table=tables)
def test_nothing_of_the_users_is_lost_and_once_is_enough(found: dict[str, Any], table: ExternalTable) -> None:
    """Every property, column and comment is still there; a second pass over the result changes nothing."""
    changed, changes = brought_up_to_date(found, table)
    extended = {"projection.created_date.range", "projection.datastore_id.values", "projection.datastore_id.type"}
    for name, value in found["Parameters"].items():
        assert changed["Parameters"][name] == value or name in extended
    after = {column["Name"]: column for column in changed["StorageDescriptor"]["Columns"]}
    for column in found["StorageDescriptor"]["Columns"]:
        assert after[column["Name"]]["Type"] == column["Type"]
        assert after[column["Name"]].get("Comment") == (column.get("Comment") or after[column["Name"]].get("Comment"))
    assert (changed["Owner"], changed["Retention"]) == ("us", 3)
    assert not {"CreateTime", "VersionId", "DatabaseName"} & changed.keys()
    assert bool(changes) == (changed != {n: v for n, v in found.items() if n in changed})
    assert brought_up_to_date(changed, table) == (changed, [])


@settings(deadline=None)
@given(found=found_tables(), table=tables)
def test_the_projection_reaches_what_the_catalog_holds(found: dict[str, Any], table: ExternalTable) -> None:
    """Every data store is listed unless each query names its own, and the range begins early enough."""
    properties = brought_up_to_date(found, table)[0]["Parameters"]
    kind = properties["projection.datastore_id.type"]
    if not table.datastore_ids:
        assert kind == "injected"
    elif kind == "enum":
        assert set(table.datastore_ids) <= set(properties["projection.datastore_id.values"].split(","))
        before = found["Parameters"].get("projection.datastore_id.values", "")
        assert properties["projection.datastore_id.values"].startswith(before)
    start = properties["projection.created_date.range"].split(",")[0]
    assert start.startswith("NOW") or start <= table.first_day.isoformat()
