"""Taking rows out of tables."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.connectors.rows import pick


@given(st.lists(st.lists(st.sampled_from([True, False, None]), max_size=6), max_size=4))
def test_rows_are_picked_as_by_a_filter(picked: list[list[bool | None]]) -> None:
    """Side by side or scattered, in one chunk or in several, with nulls in the mask: as Arrow's filter does."""
    mask = pa.chunked_array(picked, pa.bool_())
    rows = pa.table({"number": pa.chunked_array([list(range(len(part))) for part in picked], pa.int64())})
    assert pick(rows, mask).equals(rows.filter(mask))


def test_rows_side_by_side_are_not_copied() -> None:
    """The most part of a sorted table is a slice of it."""
    rows = pa.table({"number": pa.array(range(1_000))})
    before = pa.total_allocated_bytes()
    part = pick(rows, pa.array([100 <= number < 700 for number in range(1_000)]))
    assert part["number"].to_pylist() == list(range(100, 700))
    assert pa.total_allocated_bytes() - before < part.nbytes
