"""The scan scheduler, without a service."""

import bisect
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field, Search
from ahi_catalog.connectors.healthimaging.scan import Continuation, ScanRequest, ScanResult
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.scan_scheduler import ScanScheduler
from ahi_catalog.schemas import IMAGE_SETS

START = datetime(2020, 2, 28, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PLENTY = 1_000


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def schedule(length: int, workers: int) -> ScanScheduler:
    return ScanScheduler(Field.CREATED_AT, [Window(START, at(length))], workers)


def outcome(request: ScanRequest, end: datetime, pace: timedelta | None = None) -> ScanResult:
    """A scan that has proven its window up to a moment; its remainder goes on with a page token."""
    remainder = None
    if end < request.window.end:
        continuation = None
        if end > request.window.start:
            search = Search(request.by, request.window)
            continuation = Continuation(search=search, token="t", last=0, rows=IMAGE_SETS.schema.empty_table())
        remainder = ScanRequest(by=request.by, window=Window(end, request.window.end), continuation=continuation)
    return ScanResult(
        rows=IMAGE_SETS.schema.empty_table(),
        proven=Window(request.window.start, end) if end > request.window.start else None,
        remainder=remainder,
        is_sorted=True,
        pace=pace,
        counts=RequestCounts(),
        served_at=None,
    )


def simulate(times: list[int], length: int, workers: int, budget_rows: int) -> tuple[list[Window], int]:
    """Run a schedule over rows at sorted seconds; the proven windows, and the scans made."""
    scheduler = schedule(length, workers)
    under_way: list[ScanRequest] = []
    proven: list[Window] = []
    scans = 0
    while scheduler.outstanding:
        while (request := scheduler.next(PLENTY)) is not None:
            under_way.append(request)
        request = under_way.pop(0)
        window = request.window
        scans += 1
        first = bisect.bisect_left(times, int((window.start - START).total_seconds()))
        last = bisect.bisect_left(times, int((window.end - START).total_seconds()))
        end, pace = window.end, None
        if last - first > budget_rows:
            reached = at(times[first + budget_rows])
            end = reached if reached > window.start else window.start + SECOND
            pace = (end - window.start) / budget_rows * 50
        proven.append(Window(window.start, end))
        scheduler.finish(request, outcome(request, end, pace))
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
    """An empty decade is not split into more windows than there are workers."""
    _, scans = simulate([], 10 * 365 * 86_400, 8, 2_000)
    assert scans == 8


def test_a_dense_hour_in_a_decade_costs_little_more_than_its_rows() -> None:
    """A hundred thousand rows in one hour take at most a few scans beyond rows by budget."""
    times = sorted(50_000_000 + number * 3_600 // 100_000 for number in range(100_000))
    _, scans = simulate(times, 10 * 365 * 86_400, 8, 2_000)
    assert scans < 3 * 100_000 / 2_000


def test_a_window_that_proves_nothing_is_split_evenly() -> None:
    """Where the service does not sort, only shorter windows help."""
    scheduler = schedule(100, 4)
    request = scheduler.next(PLENTY)
    assert request is not None
    scheduler.finish(request, outcome(request, request.window.start))
    assert Coverage(scheduler.outstanding) == Coverage([request.window])
    assert len(scheduler.outstanding) == 4


def test_one_scan_is_under_way_where_the_quota_has_nothing_to_spare() -> None:
    """What waits goes on waiting, in its order; with requests to spare the next windows begin."""
    scheduler = schedule(4 * 86_400, 4)
    first = scheduler.next(0)
    assert first is not None
    assert first.window == Window(START, at(86_400))
    assert (scheduler.next(0), scheduler.has_idle_workers) == (None, True)
    second = scheduler.next(1)
    assert second is not None
    assert second.window == Window(at(86_400), at(2 * 86_400))
    assert Coverage(scheduler.outstanding) == Coverage([Window(START, at(4 * 86_400))])


def test_the_fullest_window_that_waits_is_split_for_idle_workers() -> None:
    """The near part goes on with the page token, the far part begins with a first page, and all of it is read once."""
    scheduler = schedule(86_400, 4)
    request = scheduler.next(PLENTY)
    assert request is not None
    scheduler.finish(request, outcome(request, at(100), SECOND))
    parts = []
    while (part := scheduler.next(PLENTY)) is not None:
        parts.append(part)
    assert len(parts) == 4
    assert [part.continuation is not None for part in parts] == [True, False, False, False]
    assert Coverage(part.window for part in parts) == Coverage([Window(at(100), at(86_400))])
    assert sum(part.window.seconds for part in parts) == 86_300


def test_no_window_is_split_for_a_worker_that_would_wait_for_the_quota() -> None:
    """With one request to spare, the window that was handed back goes on whole."""
    scheduler = schedule(86_400, 4)
    request = scheduler.next(PLENTY)
    assert request is not None
    scheduler.finish(request, outcome(request, at(100), SECOND))
    whole = scheduler.next(1)
    assert whole is not None
    assert whole.window == Window(at(100), at(86_400))


def test_a_window_of_few_pages_is_not_split() -> None:
    """The tail of a run is not worth more requests."""
    scheduler = schedule(86_400, 4)
    request = scheduler.next(PLENTY)
    assert request is not None
    scheduler.finish(request, outcome(request, at(86_398), SECOND))
    assert scheduler.next(PLENTY) is not None
    assert scheduler.next(PLENTY) is None
