"""Merging against a dictionary."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.catalog.merge import count_keys, is_in_order, merge, newest, renew, without
from ahi_catalog.schemas import IMAGE_SETS, SERIES, Column

T0 = datetime(2024, 1, 1, tzinfo=UTC)
Row = dict[str, Any]
NAMES = IMAGE_SETS.schema.names[:6]

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
NO_ROWS = IMAGE_SETS.schema.empty_table()


def table(several: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(several, IMAGE_SETS.schema)


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
@given(batches, batches, st.sets(st.sampled_from("abcdef")))
def test_a_merge_is_the_dictionarys(first: list[Row], second: list[Row], deleted: set[str]) -> None:
    """One row an image set, the newest wins, ties go to the row that arrives last, and the counts add up."""
    before = model({}, first)
    second = [row for row in second if row["image_set_id"] not in deleted]
    existing = merge(IMAGE_SETS, NO_ROWS, table(first)).rows
    assert existing.select(NAMES).to_pylist() == _sorted(before)
    result = merge(IMAGE_SETS, existing, table(second), deleted)
    expected = model({name: row for name, row in before.items() if name not in deleted}, second)
    assert result.rows.select(NAMES).to_pylist() == _sorted(expected)
    arrived = {row["image_set_id"] for row in second}
    assert result.new == len(arrived - before.keys())
    assert result.updated == sum(expected[name] != before[name] for name in arrived & before.keys())
    assert result.unchanged == sum(expected[name] == before[name] for name in arrived & before.keys())
    assert result.removed == len(deleted & before.keys())
    assert result.is_change == (not result.rows.equals(existing))


@settings(max_examples=100, deadline=None)
@given(batches, batches)
def test_merging_again_changes_nothing(first: list[Row], second: list[Row]) -> None:
    """A merge is idempotent, and says so; so a repeated publish writes nothing."""
    once = merge(IMAGE_SETS, NO_ROWS, table([*first, *second])).rows
    again = merge(IMAGE_SETS, once, once)
    assert not again.is_change
    assert again.rows.equals(once)


@settings(max_examples=100, deadline=None)
@given(batches, batches)
def test_a_merge_sorts_rows_and_drops_duplicates(first: list[Row], second: list[Row]) -> None:
    """Where something else wrote the object, its rows in any order and some of them twice, the result is the same."""
    odd = table([*reversed(first), *first])
    expected = merge(IMAGE_SETS, newest(IMAGE_SETS, odd), table(second))
    result = merge(IMAGE_SETS, odd, table(second))
    assert result.rows.equals(expected.rows)
    assert (result.new, result.updated, result.unchanged) == (expected.new, expected.updated, expected.unchanged)
    assert result.duplicate == len(odd) - len({row["image_set_id"] for row in first})
    assert result.is_change == (result.duplicate > 0 or expected.is_change)


def test_an_object_in_another_order_is_a_change() -> None:
    """What something else has written in its own order is a change, though no row is; once written, it is none."""
    result = merge(IMAGE_SETS, table([{"image_set_id": name, "created_at": T0} for name in "ba"]), NO_ROWS)
    assert result.is_change
    assert (result.new, result.updated, result.removed, result.duplicate) == (0, 0, 0, 0)
    assert not merge(IMAGE_SETS, result.rows, NO_ROWS).is_change


def test_removed_counts_image_sets_not_rows() -> None:
    """A deleted one that stands twice, wherever the second row lies, is one image set removed."""
    for distance in (0, 5):
        times = [T0, T0 + timedelta(seconds=1), T0 + timedelta(seconds=distance)]
        several = [{"image_set_id": n, "created_at": at} for n, at in zip("aba", times, strict=True)]
        assert merge(IMAGE_SETS, table(several), NO_ROWS, {"a"}).removed == 1


@settings(max_examples=50, deadline=None)
@given(batches, st.sampled_from("abcdef"), st.integers(-9, 9))
def test_an_image_set_that_moved_in_time_has_one_row(first: list[Row], name: str, by: int) -> None:
    """A later version with another createdAt takes the row's place, wherever it lies."""
    existing = merge(IMAGE_SETS, NO_ROWS, table(first)).rows
    moved = {"image_set_id": name, "version": 9, "created_at": T0 + timedelta(microseconds=by)}
    result = merge(IMAGE_SETS, existing, table([moved])).rows
    assert sorted(result["image_set_id"].to_pylist()) == sorted({*existing["image_set_id"].to_pylist(), name})
    assert result.equals(newest(IMAGE_SETS, result))


def test_without_leaves_out_rows_by_their_image_set() -> None:
    """Of the ids named, none is left; ids that are not there matter nothing."""
    several = table([{"image_set_id": name, "created_at": T0} for name in "abcdef"])
    assert without(several, {"a", "f", "z"})["image_set_id"].to_pylist() == list("bcde")
    assert without(several, ()).equals(several)


def test_a_key_of_two_columns_tells_rows_apart() -> None:
    """A table whose rows are parts of image sets merges by both columns; a deleted image set takes all its rows."""
    columns = [column for column in IMAGE_SETS.columns if column.name in {"image_set_id", "version", "created_at"}]
    part = Column(name="part", type=pa.string(), source=(), doc="A part.", nullable=False)
    parts = replace(
        IMAGE_SETS, name="parts", columns=(*columns, part), key=("image_set_id", "part"), version=("version",)
    )

    def rows_of(*several: tuple[str, str, int]) -> pa.Table:
        rows = [{"image_set_id": owner, "part": name, "version": v, "created_at": T0} for owner, name, v in several]
        return pa.Table.from_pylist(rows, parts.schema)

    existing = rows_of(("a", "1", 1), ("a", "2", 1), ("b", "1", 1), ("b", "2", 1))
    result = merge(parts, existing, rows_of(("a", "1", 2), ("a", "3", 2)), {"b"})
    found = result.rows.select(["image_set_id", "part", "version"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [("a", "1", 2), ("a", "2", 1), ("a", "3", 2)]
    assert (result.new, result.updated, result.unchanged, result.removed) == (1, 1, 0, 2)


@settings(max_examples=50, deadline=None)
@given(batches, st.randoms(use_true_random=False))
def test_the_bytes_are_a_function_of_the_rows(several: list[Row], random: Any) -> None:
    """Apart from ties, neither the order of arrival nor the cut into batches shows in the object."""
    unique = list({(row["image_set_id"], rank(row)): row for row in several}.values())
    whole = parquet.encode(IMAGE_SETS, merge(IMAGE_SETS, NO_ROWS, table(unique)).rows)
    random.shuffle(unique)
    middle = len(unique) // 2
    first = parquet.encode(IMAGE_SETS, merge(IMAGE_SETS, NO_ROWS, table(unique[:middle])).rows)
    existing = parquet.decode(IMAGE_SETS, first)
    assert parquet.encode(IMAGE_SETS, merge(IMAGE_SETS, existing, table(unique[middle:])).rows) == whole


def _sorted(state: dict[str, Row]) -> list[Row]:
    ordered = sorted(state.values(), key=lambda row: (row["created_at"], row["image_set_id"]))
    return [{name: row.get(name) for name in NAMES} for row in ordered]


series_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 2), st.sampled_from([None, "1.2", "1.3"])), unique=True, max_size=8
)


def series_table(found: list[tuple[int, int, str | None]]) -> pa.Table:
    rows = [
        {
            "image_set_id": f"a{number}",
            "image_set_version": version,
            "created_at": datetime(2024, 1, 1, number, tzinfo=UTC),
            "series_instance_uid": uid,
            "image_type": [str(version)],
        }
        for number, version, uid in found
    ]
    return pa.Table.from_pylist(rows, SERIES.schema)


@settings(deadline=None)
@given(series_rows, series_rows, st.dictionaries(st.integers(0, 3), st.integers(1, 2)))
def test_renewing_keeps_all_rows_of_the_current_versions_and_no_other(
    existing: list[tuple[int, int, str | None]],
    arriving: list[tuple[int, int, str | None]],
    current: dict[int, int],
) -> None:
    """Rows of an image set replace all that were there of it; what is gone or of another version is dropped."""
    versions = set(current.items())
    origins = pa.chunked_array([[f"a{number}\0{version}" for number, version in versions]], pa.string())
    fresh = [row for row in arriving if row[:2] in versions]
    kept = [row for row in existing if row[:2] in versions and row[0] not in {row[0] for row in fresh}]
    merged = renew(SERIES, series_table(existing), series_table(arriving), origins)
    by_text = sorted(map(str, merged.rows.to_pylist()))
    assert by_text == sorted(map(str, series_table(kept + fresh).to_pylist()))
    assert is_in_order(SERIES, merged.rows) or None in {uid for *_, uid in existing + arriving}
    again = renew(SERIES, merged.rows, series_table(arriving), origins)
    assert not again.is_change
    assert again.rows.equals(merged.rows)


def test_rows_without_a_key_are_nobodys_duplicates() -> None:
    """As a PHI policy leaves them that drops UIDs: none is taken for another's, and they are sorted all the same."""
    names = ["b", "a", "a"]
    found = pa.Table.from_pylist([{"image_set_id": name, "created_at": T0} for name in names], SERIES.schema)
    assert count_keys(SERIES, found) == 3
    assert newest(SERIES, found)["image_set_id"].to_pylist() == ["a", "a", "b"]
    doubled = pa.concat_tables(
        [
            found,
            pa.Table.from_pylist(
                [{"image_set_id": "c", "created_at": T0, "series_instance_uid": "1"}] * 2, SERIES.schema
            ),
        ]
    )
    assert newest(SERIES, doubled)["image_set_id"].to_pylist() == ["a", "a", "b", "c"]
