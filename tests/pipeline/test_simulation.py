"""The schedule on the times that data stores have: every row once, few requests, no idle workers, all simulated."""

import math
import statistics
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ahi_catalog.connectors.healthimaging.pages import PAGE_ROWS
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.connectors.windows import Coverage, Window, to_epoch_microseconds
from ahi_catalog.emulator.idc import import_times
from tests.support.simulation import Simulated, simulate

Times = NDArray[np.int64]

SIX_YEARS = Window(datetime(2020, 10, 15, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
NOON = datetime(2023, 5, 5, 12, tzinfo=UTC)
UNLIMITED = Quota(rate=100_000, burst=1_000_000)
RAISED = Quota(rate=200, burst=400)


def spread(count: int, start: datetime, length: timedelta) -> Times:
    """So many times, scattered evenly over a stretch of time."""
    first = to_epoch_microseconds(start)
    chance = np.random.default_rng(20_201_015)
    return np.sort(chance.integers(first, first + length // timedelta(microseconds=1), count))


def imaging_data_commons(count: int) -> Times:
    """The import times of the demo's data: jobs of 300 at once, bursts of ten jobs, months of nothing."""
    # Series by release as in index 25.0.5, in thousands.
    weights = np.array(
        [32, 80, 12, 160, 45, 25, 12, 40, 45, 12, 6, 7, 18, 4, 30, 20, 30, 240, 80, 60, 50, 40, 30, 20, 9]
    )
    releases = np.repeat(np.arange(1, 26), np.ceil(weights / weights.sum() * count).astype(int))[:count]
    return np.sort(import_times(releases))


def check(times: Times, run: Simulated) -> float:
    """Every row is read once and every second proven; requests for each page that the rows fill."""
    assert run.rows == len(times)
    assert Coverage(run.proven) == Coverage([SIX_YEARS])
    assert sum(window.seconds for window in run.proven) == SIX_YEARS.seconds
    return run.requests / math.ceil(len(times) / PAGE_ROWS)


def used(run: Simulated, quota: Quota) -> float:
    """The time that the requests take at the quota after the burst, as a share of the time taken."""
    return max(run.requests - quota.burst, 0) / quota.rate / run.seconds


@pytest.mark.parametrize(
    "times",
    [
        imaging_data_commons(60_000),
        imaging_data_commons(250_000),
        spread(60_000, SIX_YEARS.start, timedelta(days=2_000)),
        spread(100_000, NOON, timedelta(hours=1)),
    ],
    ids=["IDC 60,000", "IDC 250,000", "uniform", "one dense hour"],
)
def test_the_usual_quota_is_used_with_few_requests_to_spare(times: Times) -> None:
    """At 25 a second and a latency of 100 ms: hardly a request wasted, hardly a second lost."""
    run = simulate(times, SIX_YEARS)
    assert check(times, run) <= 1.03
    assert used(run, Quota()) >= 0.98


@pytest.mark.parametrize("latency", [0.02, 0.1, 0.2])
def test_latency_does_not_matter_while_there_are_workers_enough(latency: float) -> None:
    """Eight workers fill 25 a second at any latency up to a fifth of a second."""
    times = spread(40_000, SIX_YEARS.start, timedelta(days=2_000))
    run = simulate(times, SIX_YEARS, latency=latency)
    assert check(times, run) <= 1.03
    assert used(run, Quota()) >= 0.97


@pytest.mark.parametrize(
    ("times", "most_requests"),
    [
        (spread(100_000, SIX_YEARS.start, timedelta(days=2_000)), 1.05),
        (spread(100_000, SIX_YEARS.start, timedelta(days=80)), 1.15),
        (spread(250_000, NOON, timedelta(hours=1)), 1.15),
        (imaging_data_commons(100_000), 1.2),
        (imaging_data_commons(250_000), 1.12),
    ],
    ids=["uniform", "eighty days of six years", "one dense hour", "IDC 100,000", "IDC 250,000"],
)
def test_a_raised_quota_is_used_by_more_workers(times: Times, most_requests: float) -> None:
    """200 a second at 100 ms, by forty workers, for more requests where the rows have to be found first.

    So it is on average: which window is split when is up to a millisecond more or less.
    """
    latencies = (0.097, 0.1, 0.103)
    runs = [simulate(times, SIX_YEARS, workers=40, quota=RAISED, latency=latency) for latency in latencies]
    assert statistics.mean(check(times, run) for run in runs) <= most_requests
    assert statistics.mean(used(run, RAISED) for run in runs) >= 0.9


@pytest.mark.parametrize("latency", [0.06, 0.11])
@pytest.mark.parametrize(
    ("rate", "burst", "rows"),
    [(5, 10, 40_000), (10, 20, 40_000), (25, 5, 40_000), (200, 12, 150_000), (400, 50, 150_000)],
)
def test_a_small_burst_is_enough(rate: float, burst: int, rows: int, latency: float) -> None:
    """Scans start as well where little goes out at once."""
    times, quota = spread(rows, SIX_YEARS.start, timedelta(days=2_000)), Quota(rate=rate, burst=burst)
    run = simulate(times, SIX_YEARS, workers=quota.workers, quota=quota, latency=latency)
    assert check(times, run) <= 1.03
    assert used(run, quota) >= 0.88


@pytest.mark.parametrize(
    "times",
    [
        imaging_data_commons(400_000),
        spread(100_000, SIX_YEARS.start, timedelta(days=2_000)),
        spread(100_000, NOON, timedelta(hours=1)),
    ],
    ids=["IDC", "uniform", "one dense hour"],
)
def test_without_a_quota_workers_are_busy(times: Times) -> None:
    """Where only latency limits, the eight workers mostly have a window, for few requests more."""
    run = simulate(times, SIX_YEARS, quota=UNLIMITED)
    assert check(times, run) <= 1.1
    assert run.idle <= 0.2


def test_years_of_nothing_cost_a_request_a_worker() -> None:
    """An empty data store, and one with a single busy second."""
    assert simulate(np.array([], dtype=np.int64), SIX_YEARS).requests == 8
    second = np.full(1_000, to_epoch_microseconds(NOON))
    run = simulate(second, SIX_YEARS)
    assert run.rows == 1_000
    assert run.requests <= 20 + 8 + 8


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 190_000_000) | st.integers(80_000_000, 80_000_300), max_size=2_000),
    st.integers(1, 12),
    st.sampled_from([Quota(), RAISED, UNLIMITED]),
)
def test_whatever_the_times_every_row_is_read_once(seconds: list[int], workers: int, quota: Quota) -> None:
    """Scans end, tile the window and miss nothing, however they are cut and resumed."""
    start = to_epoch_microseconds(SIX_YEARS.start)
    times = np.array(sorted(start + second * 1_000_000 for second in seconds), dtype=np.int64)
    run = simulate(times, SIX_YEARS, workers=workers, quota=quota)
    assert run.rows == len(times)
    assert Coverage(run.proven) == Coverage([SIX_YEARS])
    assert sum(window.seconds for window in run.proven) == SIX_YEARS.seconds
