"""The schedule, without a service."""

import bisect
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.healthimaging.scan import Rest
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.scan_scheduler import Schedule

START = datetime(2020, 2, 28, tzinfo=UTC)
ID = "0" * 32
SECOND = timedelta(seconds=1)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


class FakeScans:
    """Scans under way that are as far as they are said to be; those named go on to the end whatever they are told."""

    def __init__(self, *, deaf: Collection[Window] = ()) -> None:
        self.known: dict[Window, Rest] = {}
        self.shortened: dict[Window, datetime] = {}
        self._deaf = deaf

    def rests(self) -> dict[Window, Rest]:
        return self.known

    def shorten(self, window: Window, end: datetime) -> bool:
        if window in self._deaf:
            return False
        self.shortened[window] = end
        return True


def simulate(times: list[int], length: int, workers: int, budget_rows: int) -> tuple[list[Window], int]:
    """Run a schedule over rows at sorted seconds; the proven windows, and the scans made."""
    schedule = Schedule([Window(START, at(length))], workers, FakeScans())
    under_way: list[Window] = []
    proven: list[Window] = []
    scans = 0
    while not schedule.is_done:
        while (window := schedule.take()) is not None:
            under_way.append(window)
        window = under_way.pop(0)
        scans += 1
        first = bisect.bisect_left(times, int((window.start - START).total_seconds()))
        last = bisect.bisect_left(times, int((window.end - START).total_seconds()))
        end = window.end
        if last - first > budget_rows:
            reached = at(times[first + budget_rows])
            end = reached if reached > window.start else window.start + SECOND
        proven.append(Window(window.start, end))
        schedule.finish(window, Window(end, window.end) if end < window.end else None)
    return proven, scans


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 50_000) | st.integers(30_000, 30_060), max_size=300),
    st.integers(1, 8),
    st.integers(1, 20),
)
def test_every_second_is_scanned_exactly_once(times: list[int], workers: int, budget: int) -> None:
    """Whatever the bursts, the scans end, and their ranges make up the window without overlap."""
    proven, _ = simulate(sorted(times), 50_001, workers, budget)
    assert sum(window.seconds for window in proven) == 50_001
    assert Coverage(proven) == Coverage([Window(START, at(50_001))])


def test_ten_years_of_nothing_cost_a_scan_a_worker() -> None:
    """An empty decade is not cut into more windows than there are workers."""
    _, scans = simulate([], 10 * 365 * 86_400, 8, 2_000)
    assert scans == 8


def test_a_dense_hour_in_a_decade_costs_little_more_than_its_rows() -> None:
    """A hundred thousand rows in one hour take at most a few scans beyond rows by budget."""
    times = sorted(50_000_000 + number * 3_600 // 100_000 for number in range(100_000))
    _, scans = simulate(times, 10 * 365 * 86_400, 8, 2_000)
    assert scans < 3 * 100_000 / 2_000


def test_a_window_that_proves_nothing_is_split() -> None:
    """Where order fails and the budget is spent, only shorter windows help."""
    schedule = Schedule([Window(START, at(100))], 4, FakeScans())
    window = schedule.take()
    assert window is not None
    schedule.finish(window, window)
    assert Coverage(schedule.outstanding) == Coverage([window])
    assert len(schedule.outstanding) == 4


def test_no_more_scans_are_under_way_than_the_quota_has_room_for() -> None:
    """What waits goes on waiting, in its order and uncut; but one scan is always under way."""
    scans = FakeScans()
    whole = Window(START, at(4 * 86_400))
    schedule = Schedule([whole], 4, scans)
    first = schedule.take(has_room=False)
    assert first == Window(START, at(86_400))
    assert (schedule.take(has_room=False), schedule.is_short) == (None, True)
    second = schedule.take(has_room=True)
    assert second == Window(at(86_400), at(2 * 86_400))
    scans.known = {first: Rest(Window(at(100), first.end), SECOND)}
    assert schedule.take(has_room=True) == Window(at(2 * 86_400), at(3 * 86_400))
    assert schedule.take(has_room=False) is None
    assert not scans.shortened
    assert Coverage(schedule.outstanding) == Coverage([whole])


def test_what_scans_out_of_reach_hand_back_is_cut_for_workers_with_nothing_to_do() -> None:
    """On a cluster no scan under way can be shortened; the parts of a cut are not cut again before rows are found."""
    schedule = Schedule([Window(START, at(86_400))], 4, None)
    first = schedule.take()
    assert first is not None
    assert not schedule.is_short
    remainder = Window(at(100), first.end)
    schedule.finish(first, remainder, SECOND)
    near, far = schedule.take(), schedule.take()
    assert near is not None
    assert far is not None
    assert (near.start, near.end, far.end) == (remainder.start, far.start, remainder.end)
    assert schedule.take() is None


def test_the_fullest_scan_gives_up_the_far_part_to_a_worker_with_nothing_to_do() -> None:
    """By the pages that it has still to read, not by seconds; it goes on with the near part, and ends it as given."""
    scans = FakeScans()
    long, full = Window(START, at(90_000)), Window(at(90_000), at(100_000))
    schedule = Schedule([long, full], 3, scans)
    assert {schedule.take(), schedule.take(), schedule.take()} == {long, full, None}
    assert schedule.idle == 1
    scans.known = {
        long: Rest(Window(at(10_000), long.end), 100 * SECOND),
        full: Rest(Window(at(90_100), full.end), SECOND),
    }
    far = schedule.take()
    assert far is not None
    assert scans.shortened == {full: far.start}
    assert at(90_100) < far.start < far.end == full.end
    assert schedule.idle == 0
    assert Coverage(schedule.outstanding) == Coverage([Window(START, at(100_000))])
    assert sorted(schedule.outstanding) == [long, Window(full.start, far.start), far]
    schedule.finish(full, None, SECOND)
    schedule.finish(far, None)
    assert schedule.outstanding == [long]


def test_a_scan_is_left_alone_where_a_cut_is_not_worth_it_or_comes_too_late() -> None:
    """A rest of few pages, one of a second that goes on, the quota without room, and a scan that has got ahead."""
    whole = Window(START, at(100_000))
    for rest, deaf, has_room in [
        (Rest(Window(at(99_700), whole.end), 100 * SECOND), (), True),
        (Rest(Window(at(99_999), whole.end), SECOND / 1000), (), True),
        (Rest(Window(at(100), whole.end), SECOND), (), False),
        (Rest(Window(at(100), whole.end), SECOND), (whole,), True),
    ]:
        scans = FakeScans(deaf=deaf)
        schedule = Schedule([whole], 2, scans)
        assert schedule.take() == whole
        scans.known = {whole: rest}
        assert schedule.take(has_room=has_room) is None
        assert (schedule.outstanding, scans.shortened) == ([whole], {})


def test_what_others_are_scanning_is_no_concern_of_a_schedule() -> None:
    """A scan that it has not given out, or whose end it knows already, is not cut."""
    scans = FakeScans()
    whole = Window(START, at(100_000))
    schedule = Schedule([whole], 2, scans)
    assert schedule.take() == whole
    other = Window(at(200_000), at(300_000))
    scans.known = {other: Rest(other, SECOND)}
    assert schedule.take() is None
    scans.known = {whole: Rest(whole, SECOND)}
    schedule.finish(whole, None)
    assert schedule.take() is None
    assert not scans.shortened
