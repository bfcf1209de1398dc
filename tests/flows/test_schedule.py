"""The schedule, buffer and plan, without a service."""

import bisect
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.catalog import Partition, Unit
from connectors.errors import UsageError
from connectors.windows import Coverage, Window
from flows.buffer import Buffer
from flows.planning import plan_backfill, plan_sync, upper_bound
from flows.schedule import Schedule
from schemas import SCHEMA

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


def rows_at(seconds: list[int]) -> pa.Table:
    rows = [{"image_set_id": f"{number}", "created_at": at(second)} for number, second in enumerate(seconds)]
    return pa.Table.from_pylist(rows, SCHEMA)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40 * 86_400 - 1), max_size=40), st.integers(1, 40), st.sampled_from(Unit))
def test_a_buffer_hands_out_all_that_it_took_in(seconds: list[int], days: int, unit: Unit) -> None:
    """Each row comes out once, in its partition; every scanned second comes out once, or was empty."""
    scanned = Window(START, at(days * 86_400))
    buffer = Buffer(ID, unit, [Partition.of(ID, unit, START)])
    inside = [second for second in seconds if second < days * 86_400]
    empty = buffer.add(rows_at(inside), scanned)
    batches = [*buffer.take_overflow(10), *buffer.take_complete(scanned, []), *buffer.take_all()]
    assert buffer.rows == 0
    taken = [moment for batch in batches for moment in batch.rows["created_at"].to_pylist()]
    assert Counter(taken) == Counter(at(second) for second in inside)
    for batch in batches:
        window = batch.partition.window
        assert all(window.start <= moment < window.end for moment in batch.rows["created_at"].to_pylist())
    pieces = [*empty, *(window for batch in batches for window in batch.scanned)]
    assert sum(piece.seconds for piece in pieces) == scanned.seconds
    assert Coverage(pieces) == Coverage([scanned])


def test_a_partition_is_complete_when_nothing_is_outstanding() -> None:
    """As long as a window of its day is waiting, a partition is held back."""
    buffer = Buffer(ID, Unit.DAY, ())
    morning, evening = Window(START, at(40_000)), Window(at(40_000), at(86_400))
    buffer.add(rows_at([5]), morning)
    assert not list(buffer.take_complete(morning, [evening]))
    buffer.add(rows_at([50_000]), evening)
    [batch] = buffer.take_complete(evening, [])
    assert batch.partition == Partition(ID, Unit.DAY, date(2020, 2, 28))
    assert len(batch.rows) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 90)), max_size=4), st.integers(1, 1_000), st.integers(0, 50)
)
def test_a_plan_covers_every_gap_and_the_look_back(stretches: list[tuple[int, int]], upper: int, back: int) -> None:
    """After a sync all from start to the upper bound is covered; behind the last end it is read again."""
    coverage = Coverage(Window(at(start), at(start + length)) for start, length in stretches)
    plan = plan_sync(coverage, START, at(upper), timedelta(seconds=back))
    whole = Window(START, at(upper))
    assert coverage.union(plan).within(whole) == Coverage([whole])
    assert plan.minus([whole]) == Coverage()
    if coverage and back:
        end = coverage.windows[-1].end
        behind = Coverage([Window(end - timedelta(seconds=back), end)]).within(whole)
        assert not behind.minus(plan)


def test_a_run_ends_at_the_earlier_clock_less_the_settle_time() -> None:
    """Neither clock can move the bound past the other."""
    fast = START + timedelta(hours=1, microseconds=3)
    assert upper_bound(fast, START, timedelta(minutes=10)) == START - timedelta(minutes=10)
    assert upper_bound(START, fast, timedelta()) == START


def test_a_backfill_ends_where_rows_are_settled() -> None:
    """Its range is cut at the upper bound; an empty or too young one is refused."""
    assert plan_backfill(START, at(100), at(50)) == Coverage([Window(START, at(50))])
    # Parts of a second count as the seconds that they lie in.
    tenth = timedelta(milliseconds=100)
    assert plan_backfill(at(3) + tenth, at(3) + 2 * tenth, at(50)) == Coverage([Window(at(3), at(4))])
    assert plan_backfill(at(3), at(49) + tenth, at(50)) == Coverage([Window(at(3), at(50))])
    for start, end in ((at(5), at(5)), (at(60), at(70))):
        with pytest.raises(UsageError):
            plan_backfill(start, end, at(50))
