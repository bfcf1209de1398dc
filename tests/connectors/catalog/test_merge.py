"""Merging against a dictionary."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.catalog import parquet
from connectors.catalog.merge import merge
from schemas import SCHEMA

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


def table(several: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(several, SCHEMA)


def rank(row: Row) -> tuple[int, datetime]:
    return (-1 if row["version"] is None else row["version"], row["updated_at"] or datetime.min.replace(tzinfo=UTC))


def model(state: dict[str, Row], arriving: list[Row]) -> dict[str, Row]:
    after = dict(state)
    for row in arriving:
        held = after.get(row["image_set_id"])
        if held is None or rank(row) >= rank(held):
            after[row["image_set_id"]] = row
    return after


@settings(max_examples=200, deadline=None)
@given(batches, batches, st.sets(st.sampled_from("abcdef")))
def test_a_merge_is_the_dictionarys(first: list[Row], second: list[Row], gone: set[str]) -> None:
    """One row an image set, the newest wins, ties go to the row that arrives, and the counts add up."""
    before = model({}, first)
    second = [row for row in second if row["image_set_id"] not in gone]
    held = merge(SCHEMA.empty_table(), table(first)).rows
    assert held.select(SCHEMA.names[:6]).to_pylist() == _sorted(before)
    result = merge(held, table(second), gone)
    after = model({name: row for name, row in before.items() if name not in gone}, second)
    assert result.rows.select(SCHEMA.names[:6]).to_pylist() == _sorted(after)
    arrived = {row["image_set_id"] for row in second}
    assert result.new == len(arrived - before.keys())
    assert result.updated == sum(after[name] != before[name] for name in arrived & before.keys())
    assert result.unchanged == sum(after[name] == before[name] for name in arrived & before.keys())
    assert result.removed == len(gone & before.keys())


@settings(max_examples=100, deadline=None)
@given(batches, batches)
def test_merging_again_changes_nothing(first: list[Row], second: list[Row]) -> None:
    """A merge is idempotent, and says so; so a repeated publish writes nothing."""
    once = merge(table([]), table([*first, *second])).rows
    again = merge(once, once)
    assert not again.is_change
    assert again.rows.equals(once)


@settings(max_examples=50, deadline=None)
@given(batches, st.randoms(use_true_random=False))
def test_the_bytes_are_a_function_of_the_rows(several: list[Row], random: Any) -> None:
    """Apart from ties, neither the order of arrival nor the cut into batches shows in the object."""
    unique = list({(row["image_set_id"], rank(row)): row for row in several}.values())
    whole = parquet.encode(merge(table([]), table(unique)).rows)
    random.shuffle(unique)
    middle = len(unique) // 2
    parts = merge(merge(table([]), table(unique[:middle])).rows, table(unique[middle:])).rows
    assert parquet.encode(parts) == whole
    assert parquet.decode(whole).equals(parts)


def _sorted(state: dict[str, Row]) -> list[Row]:
    names = SCHEMA.names[:6]
    ordered = sorted(state.values(), key=lambda row: (row["created_at"], row["image_set_id"]))
    return [{name: row.get(name) for name in names} for row in ordered]
