"""Merging against a dictionary."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.catalog.merge import Merge, merge, newest
from ahi_catalog.connectors.catalog.packing import Packed
from ahi_catalog.connectors.catalog.stretches import NO_ROWS, Held
from ahi_catalog.schemas import SCHEMA

T0 = datetime(2024, 1, 1, tzinfo=UTC)
Row = dict[str, Any]

rows = st.builds(
    lambda name, version, updated, tier: {
        "image_set_id": name,
        "version": version,
        # An image set keeps its createdAt.
        "created_at": T0 + timedelta(microseconds=ord(name) % 3),
        "updated_at": None if updated is None else T0 + timedelta(microseconds=updated),
        "storage_tier": tier,
    },
    st.sampled_from("abcdef"),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(0, 2),
    st.sampled_from(["x", "y", None]),
)
batches = st.lists(rows, max_size=10)
cuts = st.lists(st.integers(0, 6), max_size=3)


def table(several: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(several, SCHEMA)


def pieces(rows: pa.Table, cuts: list[int]) -> list[pa.Table]:
    """The rows, cut at some places."""
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    return [rows.slice(a, b - a) for a, b in itertools.pairwise(bounds)]


def stretches(rows: pa.Table, cuts: list[int]) -> Held:
    """The rows, cut at some places."""
    return Held(*pieces(rows, cuts))


def after(merged: Merge) -> pa.Table:
    """All rows that a merge comes to."""
    return pa.concat_tables([SCHEMA.empty_table(), *merged.rows])


def rank(row: Row) -> tuple[int, datetime]:
    return (-1 if row["version"] is None else row["version"], row["updated_at"] or datetime.min.replace(tzinfo=UTC))


def model(state: dict[str, Row], arriving: list[Row]) -> dict[str, Row]:
    result = dict(state)
    for row in arriving:
        held = result.get(row["image_set_id"])
        if held is None or rank(row) >= rank(held):
            result[row["image_set_id"]] = row
    return result


@settings(max_examples=200, deadline=None)
@given(
    batches, batches, st.sets(st.sampled_from("abcdef")), st.tuples(cuts, cuts, st.integers(1, 20), st.integers(1, 8))
)
def test_a_merge_is_the_dictionarys(
    first: list[Row], second: list[Row], gone: set[str], ways: tuple[list[int], list[int], int, int]
) -> None:
    """One row an image set, the newest wins, ties go to the row that arrives last, and the counts add up.

    So it is however the rows that are there are cut into stretches, and those that arrive into pieces, packed or not,
    and read some at a time.
    """
    at, also_at, loose, stretch = ways
    before = model({}, first)
    second = [row for row in second if row["image_set_id"] not in gone]
    held = after(merge(NO_ROWS, Packed(table(first))))
    assert held.select(SCHEMA.names[:6]).to_pylist() == _sorted(before)
    arriving = Packed(*pieces(table(second), also_at), loose=loose, stretch=stretch)
    result = merge(stretches(held, at), arriving, gone)
    expected = model({name: row for name, row in before.items() if name not in gone}, second)
    assert after(result).select(SCHEMA.names[:6]).to_pylist() == _sorted(expected)
    arrived = {row["image_set_id"] for row in second}
    assert result.new == len(arrived - before.keys())
    assert result.updated == sum(expected[name] != before[name] for name in arrived & before.keys())
    assert result.unchanged == sum(expected[name] == before[name] for name in arrived & before.keys())
    assert result.removed == len(gone & before.keys())


@settings(max_examples=100, deadline=None)
@given(batches, batches, cuts)
def test_merging_again_changes_nothing(first: list[Row], second: list[Row], at: list[int]) -> None:
    """A merge is idempotent, and says so; so a repeated publish writes nothing."""
    once = after(merge(NO_ROWS, Held(table([*first, *second]))))
    again = merge(stretches(once, at), Held(once))
    assert not again.is_change
    assert after(again).equals(once)


@settings(max_examples=100, deadline=None)
@given(batches, batches, cuts)
def test_rows_out_of_order_are_put_right(first: list[Row], second: list[Row], at: list[int]) -> None:
    """Where something else wrote the object, its rows in any order and some of them twice, the result is the same."""
    odd = table([*reversed(first), *first])
    expected = merge(Held(newest(odd)), Held(table(second)))
    result = merge(stretches(odd, at), Held(table(second)))
    assert after(result).equals(after(expected))
    assert (result.new, result.updated, result.unchanged) == (expected.new, expected.updated, expected.unchanged)
    assert result.doubled == len(odd) - len({row["image_set_id"] for row in first})
    assert result.is_change == (result.doubled > 0 or expected.is_change)


def test_an_object_in_another_order_is_written_again() -> None:
    """What something else has written in its own order is a change, though no row is; once written, it is none."""
    several = table([{"image_set_id": name, "created_at": T0} for name in "ba"])
    result = merge(Held(several), NO_ROWS)
    assert result.is_change
    assert (result.new, result.updated, result.removed, result.doubled) == (0, 0, 0, 0)
    assert not merge(Held(after(result)), NO_ROWS).is_change


def test_image_sets_that_are_gone_are_counted_not_their_rows() -> None:
    """One that stands twice, wherever the second row lies, is one image set removed."""
    for distance in (0, 5):
        times = [T0, T0 + timedelta(seconds=1), T0 + timedelta(seconds=distance)]
        several = [{"image_set_id": n, "created_at": at} for n, at in zip("aba", times, strict=True)]
        assert merge(Held(table(several)), NO_ROWS, {"a"}).removed == 1


class Noting(Held):
    """Notes which columns are read."""

    def __init__(self, *stretches: pa.Table) -> None:
        super().__init__(*stretches)
        self.columns: list[int] = []

    def read(self, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
        self.columns.append(len(names))
        yield from super().read(names)


@pytest.mark.parametrize(("name", "version", "columns"), [("c", 1, [2]), ("a", 2, [2, len(SCHEMA)])])
def test_whole_rows_are_read_only_where_some_are_met(name: str, version: int, columns: list[int]) -> None:
    """New image sets need no more than the ids and times of the others, until all is written."""
    held = table([{"image_set_id": each, "version": 1, "created_at": T0} for each in "ab"])
    existing = Noting(held)
    result = merge(existing, Held(table([{"image_set_id": name, "version": version, "created_at": T0}])))
    assert existing.columns == columns
    assert sorted(after(result)["image_set_id"].to_pylist()) == sorted({"a", "b", name})
    assert existing.columns == [*columns, len(SCHEMA)]


@settings(max_examples=50, deadline=None)
@given(batches, st.sampled_from("abcdef"), st.integers(-9, 9))
def test_an_image_set_that_moved_in_time_has_one_row(first: list[Row], name: str, by: int) -> None:
    """A later version with another createdAt takes the row's place, wherever it lies."""
    held = after(merge(NO_ROWS, Packed(table(first))))
    moved = {"image_set_id": name, "version": 9, "created_at": T0 + timedelta(microseconds=by)}
    result = after(merge(Held(*(held.slice(n, 1) for n in range(len(held)))), Held(table([moved]))))
    assert sorted(result["image_set_id"].to_pylist()) == sorted({*held["image_set_id"].to_pylist(), name})
    assert result.equals(newest(result))


class Large:
    """60,000 rows in stretches, made as they are asked for; notes how much of Arrow's memory is held."""

    def __init__(self, version: int = 1, initial: str = "0") -> None:
        self.version = version
        self.initial = initial
        self.before = pa.total_allocated_bytes()
        self.most = self.size = 0

    def read(self, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
        self.size = 0
        for number in range(60):
            ids = [f"{self.initial}{number:02d}{n:029d}" for n in range(1000)]
            versions = pa.array([self.version] * len(ids), pa.int32())
            times = [T0 + timedelta(seconds=number)] * len(ids)
            texts = {name: [each * 4 for each in ids] for name in ("study_description", "patient_name", "study_id")}
            empty = {field.name: pa.nulls(len(ids), field.type) for field in SCHEMA}
            given = {"image_set_id": ids, "created_at": times, "version": versions}
            stretch = pa.table(empty | given | texts, schema=SCHEMA)
            self.size += stretch.nbytes
            yield stretch.select(names)
            self.note()

    def note(self) -> None:
        self.most = max(self.most, pa.total_allocated_bytes() - self.before)


@pytest.mark.parametrize(("name", "rows_after"), [("x", 60_001), (f"030{7:029d}", 60_000)])
def test_a_partition_is_never_held_whole(name: str, rows_after: int) -> None:
    """However many rows there are: ids and times of all, and a few stretches, are held while one row is merged."""
    large = Large()
    arriving = table([{"image_set_id": name, "version": 1, "created_at": T0 + timedelta(seconds=30)}])
    count = 0
    for stretch in merge(large, Held(arriving)).rows:
        count += len(stretch)
        large.note()
    assert count == rows_after
    assert large.most < large.size / 5


@pytest.mark.parametrize(
    ("version", "initial", "new", "updated"), [(1, "1", 60_000, 0), (2, "0", 0, 60_000), (1, "0", 0, 0)]
)
def test_neither_side_is_ever_held_whole(version: int, initial: str, new: int, updated: int) -> None:
    """As many rows arrive as are there: new ones, changed ones, or the very same; ids, times and a few stretches are
    held."""
    large, arriving = Large(), Large(version, initial)
    result = merge(large, arriving)
    count = 0
    for stretch in result.rows:
        count += len(stretch)
        large.note()
    assert (result.new, result.updated, result.unchanged) == (new, updated, 60_000 - new - updated)
    assert count == 60_000 + new
    assert large.most < (large.size + arriving.size) / 4


@settings(max_examples=50, deadline=None)
@given(batches, st.randoms(use_true_random=False))
def test_the_bytes_are_a_function_of_the_rows(several: list[Row], random: Any) -> None:
    """Apart from ties, neither the order of arrival nor the cut into batches shows in the object."""
    unique = list({(row["image_set_id"], rank(row)): row for row in several}.values())
    whole = parquet.encode(merge(NO_ROWS, Held(table(unique))).rows)
    random.shuffle(unique)
    middle = len(unique) // 2
    first = parquet.encode(merge(NO_ROWS, Held(table(unique[:middle]))).rows)
    assert parquet.encode(merge(parquet.DataObject(first), Held(table(unique[middle:]))).rows) == whole


def _sorted(state: dict[str, Row]) -> list[Row]:
    names = SCHEMA.names[:6]
    ordered = sorted(state.values(), key=lambda row: (row["created_at"], row["image_set_id"]))
    return [{name: row.get(name) for name in names} for row in ordered]
