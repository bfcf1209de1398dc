"""The buffer against a model, over any sequence of scans and takings."""

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import Batch, Partition, Unit
from ahi_catalog.connectors.catalog.layout import partitions
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.buffer import Buffer
from ahi_catalog.schemas import IMAGE_SETS

ID = "0" * 32
START = datetime(2024, 2, 25, tzinfo=UTC)
HOURS = 20 * 24
WHOLE = Window(START, START + timedelta(hours=HOURS))

bounds = st.lists(st.integers(1, HOURS - 1), unique=True, max_size=12).map(lambda cuts: [0, *sorted(cuts), HOURS])
hours = st.lists(st.integers(0, HOURS - 1), max_size=40)
presents = st.sets(st.integers(0, HOURS - 1), max_size=6)


def at(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def rows_at(numbered: list[tuple[int, int]]) -> pa.Table:
    rows = [{"image_set_id": f"{number}", "created_at": at(hour)} for number, hour in numbered]
    return pa.Table.from_pylist(rows, IMAGE_SETS.schema)


def names(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.rows["image_set_id"].to_pylist()]


@settings(max_examples=80, deadline=None)
@given(
    bounds, hours, presents, st.sampled_from(Unit), st.tuples(st.integers(1, 5_000), st.randoms(use_true_random=False))
)
def test_no_row_and_no_scanned_second_is_lost(
    cuts: list[int], creations: list[int], present: set[int], unit: Unit, ways: tuple[int, Random]
) -> None:
    """Over scans in any order, with overflow and completion between, all comes out once and in its place."""
    buffer = Buffer(IMAGE_SETS, ID, unit, {Partition.of(ID, unit, at(hour)) for hour in present})
    waiting = [Window(at(a), at(b)) for a, b in itertools.pairwise(cuts)]
    limit, random = ways
    random.shuffle(waiting)
    batches: list[Batch] = []
    pieces: list[Window] = []
    while waiting:
        scanned = waiting.pop()
        inside = [(n, hour) for n, hour in enumerate(creations) if scanned.start <= at(hour) < scanned.end]
        empty = buffer.add(rows_at(inside), scanned)
        assert not [hour for _, hour in inside if any(piece.start <= at(hour) < piece.end for piece in empty)]
        pieces += empty
        complete = list(buffer.pop_complete(scanned, waiting))
        assert not any(batch.partition.window.overlaps(window) for batch in complete for window in waiting)
        batches += complete
        was_held = buffer.bytes
        overflow = list(buffer.pop_largest(limit))
        assert bool(overflow) == (was_held > limit)
        assert buffer.bytes <= limit
        batches += overflow
    batches += buffer.pop_all()
    assert buffer.bytes == 0
    assert Counter(names(batches)) == Counter(f"{number}" for number in range(len(creations)))
    for batch in batches:
        window = batch.partition.window
        assert all(window.start <= moment < window.end for moment in batch.rows["created_at"].to_pylist())
        assert not batch.scanned.minus([window])
    pieces += [window for batch in batches for window in batch.scanned]
    assert sum(piece.seconds for piece in pieces) == WHOLE.seconds
    assert Coverage(pieces) == Coverage([WHOLE])


@settings(max_examples=60, deadline=None)
@given(presents, st.sampled_from(Unit))
def test_only_partitions_that_are_there_hear_of_an_empty_scan(present: set[int], unit: Unit) -> None:
    """Where a scan finds nothing, objects that exist get a batch without rows; the rest is done at once."""
    there = {Partition.of(ID, unit, at(hour)) for hour in present}
    buffer = Buffer(IMAGE_SETS, ID, unit, there)
    empty = buffer.add(IMAGE_SETS.schema.empty_table(), WHOLE)
    batches = list(buffer.pop_complete(WHOLE, []))
    assert {batch.partition for batch in batches} == there
    assert not any(len(batch.rows) for batch in batches)
    assert len(empty) + len(there) == len(list(partitions(ID, unit, WHOLE)))


@settings(max_examples=60, deadline=None)
@given(hours, st.sampled_from(Unit))
def test_rows_that_prove_nothing_cover_nothing(creations: list[int], unit: Unit) -> None:
    """Rows without a scanned range, those of followed changes, are kept but prove no range."""
    buffer = Buffer(IMAGE_SETS, ID, unit, ())
    assert buffer.add(rows_at(list(enumerate(creations))), None) == []
    assert (buffer.bytes > 0) == bool(creations)
    batches = list(buffer.pop_all())
    assert Counter(names(batches)) == Counter(f"{number}" for number in range(len(creations)))
    assert not any(batch.scanned for batch in batches)


@settings(max_examples=60, deadline=None)
@given(hours, st.integers(1, 20_000))
def test_pop_largest_takes_the_largest_and_frees_half(creations: list[int], limit: int) -> None:
    """At the limit nothing goes; above it the largest partitions go until half is free."""
    buffer = Buffer(IMAGE_SETS, ID, Unit.DAY, ())
    buffer.add(rows_at(list(enumerate(creations))), None)
    waiting = buffer.bytes
    taken = [batch.bytes for batch in buffer.pop_largest(limit)]
    kept = [batch.bytes for batch in buffer.pop_all()]
    assert sum(taken) + sum(kept) == waiting
    if waiting <= limit:
        assert not taken
    else:
        assert sum(kept) <= limit // 2
        assert taken == sorted(taken, reverse=True)
        assert min(taken) >= max(kept, default=0)


def test_small_pieces_wait_as_few() -> None:
    """Many scans of few rows each take no more memory than their rows do, and none is lost."""
    buffer = Buffer(IMAGE_SETS, ID, Unit.DAY, ())
    before = pa.total_allocated_bytes()
    for number in range(2_000):
        buffer.add(rows_at([(number, 5)]), None)
    held = pa.total_allocated_bytes() - before
    assert held < 4 * buffer.bytes
    [batch] = buffer.pop_all()
    assert len(batch.rows) == 2_000
    assert batch.rows["image_set_id"].num_chunks < 20


def test_a_partition_is_complete_when_nothing_is_outstanding() -> None:
    """As long as a window of its day is waiting, a partition is held back."""
    buffer = Buffer(IMAGE_SETS, ID, Unit.DAY, ())
    morning, evening = Window(START, at(12)), Window(at(12), at(24))
    buffer.add(rows_at([(1, 5)]), morning)
    assert not list(buffer.pop_complete(morning, [evening]))
    buffer.add(rows_at([(2, 20)]), evening)
    [batch] = buffer.pop_complete(evening, [])
    assert batch.partition.window == Window(START, at(24))
    assert len(batch.rows) == 2
