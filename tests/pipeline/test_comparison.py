"""Comparing a partition with a scan, against dictionaries; tidying what stands twice."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import Partition, Unit
from ahi_catalog.connectors.windows import SECOND, Coverage, Window
from ahi_catalog.pipeline.verify.comparison import compare
from ahi_catalog.pipeline.verify.inspection import belonging, tidy
from ahi_catalog.schemas import IMAGE_SETS

PARTITION = Partition("0" * 32, Unit.DAY, date(2024, 2, 29))
MIDNIGHT = PARTITION.window.start
NAMES = "abcdef"
Row = dict[str, Any]


def created(name: str) -> datetime:
    """Of an image set: one a second, in the order of their names."""
    return MIDNIGHT + SECOND * NAMES.index(name)


rows = st.builds(
    lambda name, version, updated, patient, tier: {
        "image_set_id": name,
        "version": version,
        "created_at": created(name),
        "updated_at": None if updated is None else MIDNIGHT + timedelta(hours=updated),
        "patient_name": patient,
        "storage_tier": tier,
    },
    st.sampled_from(NAMES),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(0, 3),
    st.sampled_from(["x", "y", None]),
    st.sampled_from(["FREQUENT_ACCESS", None]),
)
partitions = st.dictionaries(st.sampled_from(NAMES), rows).map(
    lambda several: {name: row | {"image_set_id": name, "created_at": created(name)} for name, row in several.items()}
)


def table(several: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(several, IMAGE_SETS.schema)


def rank(row: Row) -> tuple[int, datetime]:
    return (-1 if row["version"] is None else row["version"], row["updated_at"] or datetime.min.replace(tzinfo=UTC))


@settings(max_examples=300, deadline=None)
@given(partitions, partitions, st.integers(0, 6), st.integers(0, 4))
def test_every_difference_is_told_once_and_by_its_name(
    held: dict[str, Row], found: dict[str, Row], scanned_seconds: int, followed_hours: int
) -> None:
    """Missing, stale, altered, ahead, unlisted and pending rows are those of a slow comparison, value by value.

    A row that belongs to another day is not looked at.
    """
    scanned = Coverage([Window(MIDNIGHT, MIDNIGHT + SECOND * scanned_seconds)] if scanned_seconds else ())
    followed_to = MIDNIGHT + timedelta(hours=followed_hours)
    stray = {"image_set_id": "a", "version": 9, "created_at": MIDNIGHT - SECOND}
    existing = belonging(IMAGE_SETS, table([stray, *held.values()]), PARTITION)
    result = compare(IMAGE_SETS, existing, table(list(found.values())), scanned, followed_to)
    both = held.keys() & found.keys()
    behind = {name for name in both if rank(found[name]) > rank(held[name])}
    due = {name for name in behind if (found[name]["updated_at"] or created(name)) < followed_to}
    equal = {name for name in both if rank(found[name]) == rank(held[name])}
    assert set(result.missing) == found.keys() - held.keys()
    assert set(result.stale) == due
    assert result.pending == len(behind - due)
    assert set(result.altered) == {n for n in equal if found[n]["patient_name"] != held[n]["patient_name"]}
    assert result.ahead == {n: held[n]["version"] or 0 for n in both if rank(found[n]) < rank(held[n])}
    assert set(result.unlisted) == {name for name in held.keys() - found.keys() if NAMES.index(name) < scanned_seconds}


@settings(max_examples=100, deadline=None)
@given(st.lists(rows, max_size=10), st.lists(st.sampled_from(NAMES), max_size=4))
def test_tidying_leaves_one_row_an_image_set_of_the_partition(several: list[Row], strays: list[str]) -> None:
    """Rows of another day go, of several rows the newest stays, and tidying again changes nothing."""
    elsewhere = [
        {"image_set_id": name, "created_at": MIDNIGHT + timedelta(days=sign)}
        for name, sign in zip(strays, (-1, 1, -2, 2), strict=False)
    ]
    tidied = tidy(IMAGE_SETS, table([*several, *elsewhere]), PARTITION)
    assert sorted(tidied["image_set_id"].to_pylist()) == sorted({row["image_set_id"] for row in several})
    best = {
        row["image_set_id"]: max(rank(r) for r in several if r["image_set_id"] == row["image_set_id"])
        for row in several
    }
    assert {row["image_set_id"]: rank(row) for row in tidied.to_pylist()} == best
    assert tidy(IMAGE_SETS, tidied, PARTITION).equals(tidied)


def test_a_row_on_the_partitions_bounds_belongs_to_one_side() -> None:
    """The first moment of the day is in, the last microsecond is in, the next midnight is out."""
    bounds = [MIDNIGHT, PARTITION.window.end - timedelta(microseconds=1), PARTITION.window.end]
    several = [{"image_set_id": name, "created_at": at} for name, at in zip(NAMES, bounds, strict=False)]
    assert tidy(IMAGE_SETS, table(several), PARTITION)["image_set_id"].to_pylist() == ["a", "b"]
