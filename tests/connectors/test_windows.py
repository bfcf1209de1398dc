"""Windows and coverage against sets of whole seconds."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.windows import Coverage, Window, format_time, parse_time

EPOCH = datetime(2024, 2, 28, 23, 59, 30, tzinfo=UTC)


def window(start: int, length: int) -> Window:
    return Window(EPOCH + timedelta(seconds=start), EPOCH + timedelta(seconds=start + length))


windows = st.builds(window, st.integers(0, 60), st.integers(1, 12))
coverages = st.lists(windows, max_size=8)


def seconds(several: list[Window] | Coverage) -> set[datetime]:
    return {w.start + timedelta(seconds=i) for w in several for i in range(w.seconds)}


@settings(max_examples=200, deadline=None)
@given(coverages, coverages, windows)
def test_coverage_is_a_set_of_seconds(left: list[Window], right: list[Window], bounds: Window) -> None:
    """Union, difference, intersection and a part before a moment are those of sets; windows stay sorted and apart."""
    a, b = Coverage(left), Coverage(right)
    for found, expected in (
        (a.union(b), seconds(left) | seconds(right)),
        (a.minus(b), seconds(left) - seconds(right)),
        (a.within(bounds), seconds(left) & seconds([bounds])),
        (a.before(bounds.start), {second for second in seconds(left) if second < bounds.start}),
    ):
        assert seconds(found) == expected
        assert all(x.end < y.start for x, y in itertools.pairwise(found.windows))


def test_a_coverage_may_have_many_holes() -> None:
    """Ten years of days of which each second one is lost leave the others."""
    days = [Window(EPOCH + timedelta(days=day), EPOCH + timedelta(days=day + 1)) for day in range(3_650)]
    assert Coverage(days).minus(days[1::2]).windows == tuple(days[::2])
    assert Coverage(days[::2]).minus(Coverage(days)) == Coverage()


@settings(max_examples=100, deadline=None)
@given(coverages, coverages)
def test_unions_commute_and_repeat_without_effect(left: list[Window], right: list[Window]) -> None:
    """Whatever the order in which runs extend it, coverage comes out the same."""
    assert Coverage(left).union(right) == Coverage(right).union(left) == Coverage(left).union(right).union(left)


@settings(max_examples=100, deadline=None)
@given(windows, st.integers(1, 20))
def test_a_split_window_is_the_window(whole: Window, parts: int) -> None:
    """The parts follow one another from the start to the end, and are no more than asked for."""
    pieces = whole.split(parts)
    assert len(pieces) == min(parts, whole.seconds)
    assert (pieces[0].start, pieces[-1].end) == (whole.start, whole.end)
    assert all(a.end == b.start for a, b in itertools.pairwise(pieces))


def test_the_watermark_ends_the_first_stretch() -> None:
    """What lies behind a gap does not move it."""
    assert Coverage([window(0, 5), window(5, 5), window(20, 5)]).watermark == EPOCH + timedelta(seconds=10)
    assert Coverage().watermark is None


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (EPOCH, EPOCH),
        (EPOCH, EPOCH - timedelta(seconds=1)),
        (EPOCH, EPOCH + timedelta(microseconds=1)),
        (EPOCH.replace(tzinfo=None), EPOCH.replace(tzinfo=None) + timedelta(seconds=1)),
    ],
)
def test_no_window_is_empty_naive_or_between_seconds(start: datetime, end: datetime) -> None:
    """Bounds that make no window are refused."""
    with pytest.raises(ValueError, match="window"):
        Window(start, end)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0)))
def test_a_time_is_read_back_as_it_was(moment: datetime) -> None:
    """Every whole second from year 1 to 9999; a window is written so, too."""
    assert parse_time(format_time(moment)) == moment
    assume(moment > datetime.min.replace(tzinfo=UTC))
    assert str(Window(moment - timedelta(seconds=1), moment)).endswith(f"..{format_time(moment)}")
