"""Each table of a catalog has a mirror of its own: lists, types, partitions, comments; and none tells of a patient."""

import struct
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.types import ListType

from ahi_catalog.connectors.iceberg import form
from ahi_catalog.connectors.iceberg.mirror import Mirrored, mirror
from ahi_catalog.pipeline.iceberg import TABLES
from ahi_catalog.schemas import INSTANCES, REMOVALS, SERIES, Sensitivity, Table
from tests.connectors.iceberg.conftest import Ends
from tests.connectors.iceberg.tables import (
    DAY,
    SECRET,
    assert_equal,
    make_run,
    put,
    put_rows,
    rows_of,
    run_mirror,
    target_of,
)

OTHERS = (SERIES, INSTANCES, REMOVALS)
EPOCH = date(1970, 1, 1)


@pytest.mark.parametrize("table", OTHERS, ids=lambda table: table.name)
def test_a_table_follows_the_catalogs(ends: Ends, table: Table) -> None:
    """Before the catalog has it there is none; then it has its rows, and after a removal the rows that are left."""
    put(ends.catalog, 0, ["a"])
    assert mirror(ends.catalog, target_of(ends.target, table), make_run()) is None
    assert not ends.target.table_exists(target_of(ends.target, table).identifier)
    put_rows(ends.catalog, table, 0, ["a", "b"])
    put_rows(ends.catalog, table, 1, ["c"])
    assert run_mirror(ends.catalog, ends.target, table).added == 2
    assert_equal(ends.catalog, ends.read(table.name), table)
    put_rows(ends.catalog, table, 0, ["a"])
    put_rows(ends.catalog, table, 1, [])
    assert run_mirror(ends.catalog, ends.target, table).replaced == 2
    assert_equal(ends.catalog, ends.read(table.name), table)
    assert run_mirror(ends.catalog, ends.target, table) == Mirrored()


def test_a_table_that_the_catalog_lost_is_emptied(sqlite: Ends) -> None:
    """A catalog made anew, of which no metadata was read, has no series, and neither has the mirror."""
    put_rows(sqlite.catalog, SERIES, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target, SERIES)
    sqlite.catalog.store = type(sqlite.catalog.store)()
    assert run_mirror(sqlite.catalog, sqlite.target, SERIES).removed == 1
    assert sqlite.read("series").scan().count() == 0


@pytest.mark.parametrize("table", OTHERS, ids=lambda table: table.name)
def test_the_form_follows_the_declaration(sqlite: Ends, table: Table) -> None:
    """Columns, comments, lists with ids of their own, partitions, order, and an identifier where it is never null."""
    put_rows(sqlite.catalog, table, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target, table)
    found = sqlite.read(table.name)
    schema = found.schema()
    assert {field.name: field.doc for field in schema.fields} == {
        **{column.name: column.doc for column in table.columns},
        "datastore_id": "The data store, 32 of [0-9a-z].",
    }
    lists = {
        field.name: field.field_type.element_id for field in schema.fields if isinstance(field.field_type, ListType)
    }
    assert set(lists) == {column.name for column in table.columns if pa.types.is_list(column.type)}
    ids = [field.field_id for field in schema.fields] + list(lists.values())
    assert len(set(ids)) == len(ids)
    assert schema.identifier_field_names() == ({"image_set_id"} if table is REMOVALS else set())
    assert [str(field.transform) for field in found.spec().fields] == ["identity", "day"]
    assert [schema.find_column_name(field.source_id) for field in found.sort_order().fields] == list(table.order)
    assert found.properties["comment"] == table.doc
    [task] = found.scan().plan_files()
    assert task.file.partition[1] == (DAY - EPOCH).days


@pytest.mark.parametrize("table", OTHERS, ids=lambda table: table.name)
def test_polars_reads_them_too(ends: Ends, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another reader finds lists, too, by their names."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    put_rows(ends.catalog, table, 0, ["a", "b"])
    run_mirror(ends.catalog, ends.target, table)
    found = ends.read(table.name)
    read = pl.scan_iceberg(found, reader_override="native", storage_options=ends.storage_options).collect().to_arrow()
    expected = found.scan().to_arrow()
    assert rows_of(read.cast(expected.schema), table) == rows_of(expected, table)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_byte_of_metadata_tells_of_a_patient(
    sqlite: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    """Neither bounds nor anything else of sensitive columns is in any metadata file; data files do have the rows."""
    monkeypatch.setitem(form._PROPERTIES, "write.avro.compression-codec", "null")
    put_rows(sqlite.catalog, table, 0, ["a" * 32])
    run_mirror(sqlite.catalog, sqlite.target, table)
    metadata = b"".join(path.read_bytes() for path in (tmp_path / "tables").rglob("metadata/*"))
    data = b"".join(path.read_bytes() for path in (tmp_path / "tables").rglob("*.parquet"))
    assert b"a" * 16 in metadata
    told = {
        pa.string(): SECRET[pa.string()].encode(),
        pa.int32(): struct.pack("<i", SECRET[pa.int32()]),
        pa.float64(): struct.pack("<d", SECRET[pa.float64()]),
        pa.date32(): struct.pack("<i", (SECRET[pa.date32()] - EPOCH).days),
    }
    for kind in {column.type for column in table.columns if column.sensitivity is not Sensitivity.NONE} & set(told):
        assert told[kind] in data
        assert told[kind] not in metadata
    assert not [path for path in (tmp_path / "tables").rglob("*") if path.stat().st_mode & 0o077]


def test_a_new_list_arrives_by_its_name(sqlite: Ends) -> None:
    """A table made by an earlier version gets the column, its element numbered; older files have null there."""
    earlier = replace(SERIES, columns=tuple(c for c in SERIES.columns if c.name != "image_type"))
    target_of(sqlite.target, earlier).create(sqlite.catalog.description.unit)
    put_rows(sqlite.catalog, SERIES, 0, ["a"])
    put_rows(sqlite.catalog, SERIES, 1, ["b"], schema=earlier.schema)
    run_mirror(sqlite.catalog, sqlite.target, SERIES)
    found = sqlite.read("series")
    assert_equal(sqlite.catalog, found, SERIES)
    assert None in found.scan().to_arrow()["image_type"].to_pylist()


def test_counts_of_32_bits_are_read_beside_those_of_64(sqlite: Ends) -> None:
    """An object of an earlier version stays as it is; readers widen it."""
    narrow = pa.schema(
        [field.with_type(pa.int32()) if field.type == pa.int64() else field for field in INSTANCES.schema]
    )
    put_rows(sqlite.catalog, INSTANCES, 0, ["a"])
    put_rows(sqlite.catalog, INSTANCES, 1, ["b"], schema=narrow)
    run_mirror(sqlite.catalog, sqlite.target, INSTANCES)
    assert_equal(sqlite.catalog, sqlite.read("instances"), INSTANCES)
