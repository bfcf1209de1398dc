"""The schedule, without a service."""

import bisect
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.windows import Coverage, Window
from flows.schedule import Schedule

START = datetime(2020, 2, 28, tzinfo=UTC)
ID = "0" * 32
SECOND = timedelta(seconds=1)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def simulate(times: list[int], length: int, workers: int, budget_rows: int) -> tuple[list[Window], int]:
    """Run a schedule over rows at sorted seconds; the proven windows, and the scans made."""
    schedule = Schedule([Window(START, at(length))], workers)
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
    schedule = Schedule([Window(START, at(100))], 4)
    window = schedule.take()
    assert window is not None
    schedule.finish(window, window)
    assert Coverage(schedule.outstanding) == Coverage([window])
    assert len(schedule.outstanding) == 4
