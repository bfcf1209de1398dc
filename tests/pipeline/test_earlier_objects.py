"""A catalog with objects of an earlier version, whose counts have 32 bits, beside those of this one."""

from datetime import date, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ahi_catalog import Catalog
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.catalog.external import describe
from ahi_catalog.schemas import ddl
from tests.support.world import BORN, TODAY, World, summary

COUNTS = ("number_of_study_related_series", "number_of_study_related_instances")
INSTANCES = COUNTS[1]
MANY = 2_000_000_000
DAYS = [BORN.date() + timedelta(days=number) for number in range(3)]


def types(world: World) -> list[set[pa.DataType]]:
    """The types of the counts in each day's object."""
    return [{pq.read_schema(world.object(day)).field(name).type for name in COUNTS} for day in DAYS]


def write_as_before(world: World, day: date) -> None:
    """Write a day's object in the types of the version before."""
    rows = pq.read_table(world.object(day), partitioning=None)
    for name in COUNTS:
        rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(pa.int32()))
    pq.write_table(rows, world.object(day), store_schema=False)


@pytest.fixture
def mixed(world: World) -> World:
    """Three days, the first two of them written by the version before; each image set has 2,000,000,000 instances."""
    tags = {"NumberOfStudyRelatedInstances": MANY, "NumberOfStudyRelatedSeries": 2}
    several = [summary(f"a{number}", BORN + timedelta(hours=2 * number), **tags) for number in range(30)]
    world.service.insert(world.datastore_id, several)
    world.sync()
    for day in DAYS[:2]:
        write_as_before(world, day)
    assert types(world) == [{pa.int32()}, {pa.int32()}, {pa.int64()}]
    return world


def test_readers_add_mixed_objects_up_without_overflow(mixed: World) -> None:
    """The dataset, a query and pandas have one type of 64 bits, and so does the view that the DDL makes."""
    catalog = Catalog(str(mixed.catalog))
    found = catalog.dataset().to_table(columns=[INSTANCES])
    assert found.schema.field(INSTANCES).type == pa.int64()
    assert pc.sum(found[INSTANCES]).as_py() == 30 * MANY
    assert str(catalog.to_pandas([INSTANCES])[INSTANCES].dtype) == "Int64"
    [answer] = catalog.query(f"select sum({INSTANCES}) as total from image_sets").arrow().to_pylist()
    assert int(answer["total"]) == 30 * MANY
    with duckdb.connect() as connection:
        for statement in ddl.duckdb(describe(open_catalog(open_store(str(mixed.catalog))), "duckdb")):
            connection.execute(statement.sql)
        assert connection.execute(f"select typeof(any_value({INSTANCES})) from image_sets").fetchone() == ("BIGINT",)
        assert connection.execute("select typeof(any_value(instances)) from studies").fetchone() == ("BIGINT",)
        assert connection.execute(f"select sum({INSTANCES}) from image_sets").fetchone() == (30 * MANY,)


def test_verify_finds_no_difference_in_mixed_objects(mixed: World) -> None:
    """A narrower type is no difference between catalog and service."""
    report = mixed.verify()
    assert report.verification is not None
    assert report.verification.findings == {}


def test_what_is_published_is_written_in_this_versions_types(mixed: World) -> None:
    """A change writes its own day anew, a backfill all that it reads; every value stays."""
    mixed.service.advance(timedelta(days=1))
    mixed.service.update(mixed.datastore_id, "a0".rjust(32, "0"), {"DICOMTags": {"DICOMStudyId": "New"}})
    mixed.service.advance(timedelta(days=1))
    mixed.sync()
    assert types(mixed) == [{pa.int64()}, {pa.int32()}, {pa.int64()}]
    mixed.assert_catalog_equals_service()
    mixed.backfill(BORN, TODAY)
    assert types(mixed) == [{pa.int64()}] * 3
    mixed.assert_catalog_equals_service()
