"""No small group can be seen, nor worked out from a total."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.report.suppression import SMALLEST, is_small, to_hide

SIZES = st.lists(st.integers(0, 40), max_size=12)


@given(SIZES, st.booleans())
def test_every_small_group_is_hidden_and_never_alone(sizes: list[int], spare_last: bool) -> None:  # noqa: FBT001
    """Hidden are all small groups, no empty one, and at least two of 11 together unless there is nothing else."""
    hidden = to_hide(sizes, spare_last=spare_last)
    assert all(place in hidden for place, size in enumerate(sizes) if 0 < size < SMALLEST)
    assert all(sizes[place] for place in hidden)
    others = [size for place, size in enumerate(sizes) if size and place not in hidden]
    if hidden and others:
        assert len(hidden) >= 2
        assert sum(sizes[place] for place in hidden) >= SMALLEST


@given(SIZES)
def test_no_more_is_hidden_than_must_be(sizes: list[int]) -> None:
    """At most one group that is large enough is hidden, and none where no group is small."""
    hidden = to_hide(sizes)
    large = [place for place in hidden if sizes[place] >= SMALLEST]
    assert len(large) <= 1
    assert bool(hidden) == any(0 < size < SMALLEST for size in sizes)


def test_the_newest_is_spared() -> None:
    """Of several candidates, not the last one is hidden beside a small group."""
    assert to_hide([5, 30, 12]) == {0, 2}
    assert to_hide([5, 30, 12], spare_last=True) == {0, 1}
    assert to_hide([5, 12], spare_last=True) == {0, 1}


@pytest.mark.parametrize(
    ("size", "of", "small"), [(0, 50, False), (10, 50, True), (11, 50, False), (45, 50, True), (50, 50, False)]
)
def test_a_group_is_small_when_it_or_the_rest_is(size: int, of: int, small: bool) -> None:  # noqa: FBT001
    """All but a few tells of the few."""
    assert is_small(size, of) is small
