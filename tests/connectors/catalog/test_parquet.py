"""Data objects: bytes that follow from the rows alone, read back by ours and by plain readers."""

import io
import itertools
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog.parquet import ROW_GROUP_ROWS, decode, encode, is_of_this_version
from ahi_catalog.connectors.errors import DamagedError, StateError
from ahi_catalog.schemas import IMAGE_SETS

UTC_MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # the strategy adds the zone
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(max_size=8) | st.sampled_from(["", "\0", "Tester^Tilda=山田^太郎"]),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", tz="UTC"): UTC_MOMENTS,
}
rows = st.fixed_dictionaries(
    {
        column.name: st.none() | VALUES[column.type] if column.nullable else VALUES[column.type]
        for column in IMAGE_SETS.columns
    }
)
tables = st.lists(rows, max_size=8).map(lambda several: pa.Table.from_pylist(several, IMAGE_SETS.schema))

ROW = {
    "image_set_id": "a" * 32,
    "created_at": datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=UTC),
    "patient_name": "Tester^Tilda",
    "study_date": date(1850, 1, 1),
    "series_number": 4,
}
ONE = pa.Table.from_pylist([ROW], IMAGE_SETS.schema)
MANY = pa.Table.from_pylist(
    [
        ROW
        | {"image_set_id": f"{n:032d}", "study_instance_uid": f"{n:060d}", "series_number": n, "is_primary": n % 3 > 0}
        for n in range(35_000)
    ],
    IMAGE_SETS.schema,
)
"""More than a row group, with more distinct text in a column than Arrow keeps in a dictionary of its own accord."""


@cache
def many_body() -> bytes:
    """MANY as a data object."""
    return encode(IMAGE_SETS, MANY)


def written(table: pa.Table) -> bytes:
    """The table as plain Parquet, not through our writer."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@settings(max_examples=60, deadline=None)
@given(tables)
def test_rows_are_read_back_as_they_were(table: pa.Table) -> None:
    """Every value, null and empty text comes back, through ours and through plain pyarrow."""
    body = encode(IMAGE_SETS, table)
    assert decode(IMAGE_SETS, body).equals(table)
    assert decode(IMAGE_SETS, body).schema.equals(IMAGE_SETS.schema)
    assert pq.read_table(io.BytesIO(body)).to_pylist() == table.to_pylist()


@settings(max_examples=60, deadline=None)
@given(tables, st.lists(st.integers(0, 8), max_size=3))
def test_the_bytes_do_not_depend_on_chunks(table: pa.Table, cuts: list[int]) -> None:
    """The same rows in other chunks, or as a slice of more rows, give the same bytes."""
    bounds = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    parts = [table.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    chunked = pa.concat_tables(parts)
    sliced = pa.concat_tables([ONE, table, ONE]).slice(1, len(table))
    assert encode(IMAGE_SETS, chunked) == encode(IMAGE_SETS, sliced) == encode(IMAGE_SETS, table)


def test_row_groups_are_full_however_the_rows_are_cut() -> None:
    """Chunks that end anywhere give the same row groups and bytes, and some columns are read without the others."""
    table = pa.concat_tables([MANY] * 3)
    body = encode(IMAGE_SETS, pa.concat_tables([table.slice(0, 5), table.slice(5, 70_000), table.slice(70_005)]))
    metadata = pq.ParquetFile(io.BytesIO(body)).metadata
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    full, rest = divmod(len(table), ROW_GROUP_ROWS)
    assert sizes == [ROW_GROUP_ROWS] * full + [rest]
    assert body == encode(IMAGE_SETS, table.combine_chunks())
    assert decode(IMAGE_SETS, body).equals(table)
    names = ["created_at", "series_number"]
    assert decode(IMAGE_SETS, body, names).equals(table.select(names))


@pytest.mark.parametrize("group", [0, 1])
@pytest.mark.parametrize("name", IMAGE_SETS.schema.names)
def test_damage_in_the_middle_is_told(name: str, group: int) -> None:
    """One flipped bit of any column, in the last page of a row group, is an error, which quotes nothing."""
    body = bytearray(many_body())
    number = IMAGE_SETS.schema.get_field_index(name)
    chunk = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(group).column(number)
    start = chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
    body[start + chunk.total_compressed_size - 1] ^= 1
    with pytest.raises(DamagedError) as caught:
        decode(IMAGE_SETS, bytes(body))
    assert "Tester" not in str(caught.value)


COUNTS = ("number_of_study_related_series", "number_of_study_related_instances")


def narrow(table: pa.Table) -> pa.Table:
    """The rows as the version before wrote them, whose counts were of 32 bits."""
    for name in COUNTS:
        index = table.column_names.index(name)
        table = table.set_column(index, name, table[name].cast(pa.int32()))
    return table


def test_counts_of_32_bits_are_read_as_64() -> None:
    """What the version before wrote has its values in this version's types, and is not of this version."""
    table = pa.Table.from_pylist([ROW | dict.fromkeys(COUNTS, 2**31 - 1), ROW], IMAGE_SETS.schema)
    found = decode(IMAGE_SETS, written(narrow(table)))
    assert found.schema.equals(IMAGE_SETS.schema)
    assert found.equals(table)
    assert not is_of_this_version(IMAGE_SETS, written(narrow(table)))
    assert is_of_this_version(IMAGE_SETS, encode(IMAGE_SETS, found))


def test_what_people_add_up_is_of_64_bits() -> None:
    """Polars adds 32 bits up in 32 bits and overflows in silence: counts have 64, here and for a plain reader."""
    table = pa.Table.from_pylist([ROW | dict.fromkeys(COUNTS, 2**31 - 1)] * 3, IMAGE_SETS.schema)
    plain = pq.read_table(io.BytesIO(encode(IMAGE_SETS, table)))
    assert {plain.schema.field(name).type for name in COUNTS} == {pa.int64()}
    assert [pc.sum(plain[name]).as_py() for name in COUNTS] == [3 * (2**31 - 1)] * 2


def test_lookup_columns_carry_bloom_filters_and_all_a_page_index() -> None:
    """What engines skip by is there: Bloom filters exactly on the identifiers, a page index and statistics."""
    table = pa.Table.from_pylist(
        [dict.fromkeys(IMAGE_SETS.looked_up, f"{number}") | {"created_at": ROW["created_at"]} for number in range(100)],
        IMAGE_SETS.schema,
    )
    group = pq.ParquetFile(io.BytesIO(encode(IMAGE_SETS, table))).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.path_in_schema for column in columns if column.bloom_filter_offset is not None} == set(
        IMAGE_SETS.looked_up
    )
    assert all(column.has_offset_index and column.has_column_index for column in columns)
    assert all(column.is_stats_set for column in columns)
    plain = {column.path_in_schema for column in columns if column.compression == "UNCOMPRESSED"}
    assert plain == {"patient_sex", "storage_tier", "series_modality", "series_body_part"}
    assert {column.compression for column in columns if column.path_in_schema not in plain} == {"ZSTD"}


def test_pandas_reads_the_same_values() -> None:
    """Moments keep their microseconds and zone, days before 1970 stay days, nulls stay nulls."""
    frame = pd.read_parquet(io.BytesIO(encode(IMAGE_SETS, ONE)))
    assert list(frame.columns) == IMAGE_SETS.schema.names
    [record] = frame.to_dict("records")
    assert record["created_at"] == pd.Timestamp(ROW["created_at"])
    assert (record["patient_name"], record["study_date"]) == ("Tester^Tilda", date(1850, 1, 1))
    assert pd.isna(record["patient_id"])


def test_an_object_of_an_earlier_version_gets_its_columns() -> None:
    """Columns that were not written yet are null, and the others keep their values and order."""
    earlier = ONE.select(["created_at", "image_set_id", "patient_name"])
    assert decode(IMAGE_SETS, written(earlier)).to_pylist() == [
        dict.fromkeys(IMAGE_SETS.schema.names) | {name: ROW[name] for name in earlier.column_names}
    ]


def test_an_object_of_a_later_version_is_refused() -> None:
    """Its columns would be lost by writing it again; the error tells to upgrade and quotes no value."""
    later = ONE.append_column("new_column", pa.array(["Tester^Later"]))
    with pytest.raises(StateError, match="upgrade") as caught:
        decode(IMAGE_SETS, written(later))
    assert "Tester" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PAR1",
        b"not parquet Tester^Tilda",
        encode(IMAGE_SETS, ONE)[:-1],
        encode(IMAGE_SETS, ONE)[4:],
        written(ONE.drop_columns(["image_set_id"])),
        written(ONE.append_column("extra", pa.array(["Tester^Tilda"]))),
        written(ONE.drop_columns(["created_at"])),
        written(ONE.set_column(IMAGE_SETS.schema.get_field_index("version"), "version", pa.array(["Tester^Tilda"]))),
        written(ONE.set_column(IMAGE_SETS.schema.get_field_index("version"), "version", pa.array([2**40]))),
    ],
    ids=[
        "empty",
        "magic",
        "text",
        "tail",
        "head",
        "no id",
        "a name twice",
        "no creation",
        "text for number",
        "number too big",
    ],
)
def test_a_damaged_object_is_refused_without_a_value(body: bytes) -> None:
    """Bytes that are no data object raise the one error, whose text quotes nothing of them."""
    with pytest.raises(StateError) as caught:
        decode(IMAGE_SETS, body)
    assert "Tester" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(encode(IMAGE_SETS, ONE)) - 1))
def test_a_cut_object_is_never_half_read(length: int) -> None:
    """An object that was not written to its end is refused, wherever it was cut."""
    with pytest.raises(StateError):
        decode(IMAGE_SETS, encode(IMAGE_SETS, ONE)[:length])


def test_a_null_where_none_can_be_is_refused() -> None:
    """A row without its identity is no row of a catalog."""
    nullable = pa.schema([field.with_nullable(nullable=True) for field in IMAGE_SETS.schema])
    moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=1)
    with pytest.raises(StateError):
        decode(IMAGE_SETS, written(pa.Table.from_pylist([{"created_at": moment}], nullable)))
