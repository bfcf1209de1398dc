"""Finding rows by their time, and taking rows out of tables."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.connectors.rows import lies_in, pick
from ahi_catalog.connectors.windows import Window

EPOCH = datetime(2024, 2, 28, 23, 59, 30, tzinfo=UTC)


def at(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)


@given(st.lists(st.lists(st.sampled_from([True, False, None]), max_size=6), max_size=4))
def test_rows_are_picked_as_by_a_filter(picked: list[list[bool | None]]) -> None:
    """Side by side or scattered, in one chunk or in several, with nulls in the mask: as Arrow's filter does."""
    mask = pa.chunked_array(picked, pa.bool_())
    rows = pa.table({"number": pa.chunked_array([list(range(len(part))) for part in picked], pa.int64())})
    assert pick(rows, mask).equals(rows.filter(mask))


@given(
    st.lists(st.lists(st.none() | st.integers(-2, 40), max_size=8), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6),
)
def test_a_moment_lies_in_windows_as_by_comparison(
    moments: list[list[int | None]], spans: list[tuple[int, int]]
) -> None:
    """Windows in any order, that overlap, touch or repeat; bounds and nulls among the moments."""
    windows = [Window(at(start), at(start + length)) for start, length in spans]
    chunks = [[None if moment is None else at(moment) for moment in chunk] for chunk in moments]
    found = lies_in(pa.chunked_array(chunks, pa.timestamp("us", "UTC")), windows)
    assert found.to_pylist() == [
        moment is not None and any(window.start <= moment < window.end for window in windows)
        for chunk in chunks
        for moment in chunk
    ]


def test_rows_side_by_side_are_not_copied() -> None:
    """The most part of a sorted table is a slice of it."""
    rows = pa.table({"number": pa.array(range(1_000))})
    before = pa.total_allocated_bytes()
    part = pick(rows, pa.array([100 <= number < 700 for number in range(1_000)]))
    assert part["number"].to_pylist() == list(range(100, 700))
    assert pa.total_allocated_bytes() - before < part.nbytes
