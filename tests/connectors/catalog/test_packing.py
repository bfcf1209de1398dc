"""Rows that wait, packed: they come back, in the order of their time, and weigh what merging them takes."""

import itertools
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog.packing import STRETCH_ROWS, WORTH_PACKING, Packed
from ahi_catalog.connectors.catalog.stretches import ORDER, lie_in_order, whole
from ahi_catalog.schemas import SCHEMA

T0 = datetime(2024, 2, 29, tzinfo=UTC)


def rows(numbers: range | list[int]) -> pa.Table:
    """Image sets, one a second."""
    several = [
        {
            "image_set_id": f"{number:032d}",
            "created_at": T0 + timedelta(seconds=number),
            "study_instance_uid": f"1.2.826.0.1.3680043.8.498.{number // 4:040d}",
            "series_number": number % 7 or None,
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(several, SCHEMA)


pieces = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(pieces, st.integers(1, 12), st.integers(1, 40), st.randoms(use_true_random=False))
def test_rows_come_back_in_the_order_of_their_time(sizes: list[int], loose: int, stretch: int, random: Random) -> None:
    """Whatever order ranges of time arrive in, and however many of their rows are packed; as often as asked."""
    bounds = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    arriving = [rows(range(a, b)) for a, b in itertools.pairwise(bounds)]
    random.shuffle(arriving)
    packed = Packed(*arriving, loose=loose, stretch=stretch)
    assert len(packed) == sum(sizes)
    for _ in range(2):
        assert whole(packed).equals(rows(range(sum(sizes))))
        assert max(map(len, packed.read()), default=0) <= stretch
    assert whole(packed, ["series_number", "created_at"]).equals(
        rows(range(sum(sizes))).select(["series_number", "created_at"])
    )
    assert packed.weight <= len(packed)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True), max_size=6),
    st.integers(1, 12),
    st.integers(1, 40),
)
def test_rows_of_any_order_all_come_back(batches: list[list[int]], loose: int, stretch: int) -> None:
    """Rows that lie in no order, or arrive twice, are all there; only what is in order weighs less."""
    packed = Packed(*map(rows, batches), loose=loose, stretch=stretch)
    found = whole(packed)
    assert sorted(found["image_set_id"].to_pylist()) == sorted(f"{n:032d}" for batch in batches for n in batch)
    if packed.weight < len(packed):
        assert lie_in_order(found.select(ORDER))


def test_later_rows_come_later_where_their_times_overlap() -> None:
    """Of one image set the row that arrives last is read last, which decides between equals."""
    first, second = rows([1, 5]), rows([5, 9])
    assert whole(Packed(second, first))["image_set_id"].to_pylist() == [f"{n:032d}" for n in (5, 9, 1, 5)]


def test_rows_that_wait_in_order_take_little() -> None:
    """Packed rows take less than a third of the memory, and are read a stretch at a time."""
    before = pa.total_allocated_bytes()
    packed = Packed()
    for start in range(0, 4 * WORTH_PACKING, 1024):
        packed.add(rows(range(start, start + 1024)))
    held = pa.total_allocated_bytes() - before
    assert packed.weight == len(packed) // 5
    size, most = 0, 0
    for stretch in packed.read():
        size += stretch.nbytes
        most = max(most, len(stretch))
    assert held < size / 3
    assert most == STRETCH_ROWS


@pytest.mark.parametrize(("size", "weight"), [(1, 1.0), (50, 1.0), (300, 0.4), (4 * WORTH_PACKING, 0.2)])
def test_pieces_of_any_size_weigh_what_they_take_and_are_read_a_stretch_at_a_time(size: int, weight: float) -> None:
    """Few rows at once, as out of order from many windows, stay as they are; those of one dense second do not."""
    count = size * max(4, 9_000 // size)
    arriving = [rows(range(start, start + size)) for start in range(0, count, size)]
    Random(0).shuffle(arriving)
    plain = sum(table.nbytes for table in arriving)
    held = pa.total_allocated_bytes()
    packed = Packed()
    while arriving:
        packed.add(arriving.pop())
    grown = pa.total_allocated_bytes() - held
    assert packed.weight <= weight * count
    assert grown <= 0 if weight == 1 else grown < -plain / 2
    assert max(map(len, packed.read())) <= STRETCH_ROWS
    expected = rows(range(count)).select(["image_set_id"])
    assert whole(packed, ["image_set_id"]).combine_chunks().equals(expected.combine_chunks())


def test_rows_that_overlap_weigh_as_much_as_they_are() -> None:
    """Who merges them has to hold them, packed or not."""
    packed = Packed(rows(range(8)), rows(range(20, 28)), loose=4, stretch=4)
    assert packed.weight == 16 // 5
    packed.add(rows(range(4, 24)))
    assert packed.weight == len(packed) == 36


def test_few_rows_are_left_as_they_are() -> None:
    """Few rows are not worth packing: they weigh what they are."""
    assert Packed(rows(range(100))).weight == 100
