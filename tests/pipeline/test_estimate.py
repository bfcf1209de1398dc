"""Guessing how many image sets there are, on the times that data stores have."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.connectors.windows import Window, to_epoch_microseconds
from ahi_catalog.emulator.idc import RELEASES, import_times
from ahi_catalog.pipeline.estimate import Estimate, estimate
from tests.support.simulation import TimesOnly

YEAR = Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
START = to_epoch_microseconds(YEAR.start)
SECONDS = 365 * 86_400


def guess(seconds: list[float], probes: int = 60) -> tuple[Estimate, int]:
    """The guess for image sets so many seconds into the year, and the requests made for it."""
    fetch = TimesOnly(np.array(sorted(START + round(second * 1e6) for second in seconds), dtype=np.int64))
    return estimate(fetch, [(Field.CREATED_AT, YEAR)], probes=probes), fetch.requests


@pytest.mark.parametrize("count", [1_000, 30_000, 300_000])
def test_steady_arrivals_are_guessed_within_some_per_cent(count: int) -> None:
    """Image sets scattered over a year: the guess is near, and says that it is not rough."""
    chance = np.random.default_rng(7)
    found, _ = guess((chance.random(count) * SECONDS).tolist())
    assert found.rows == pytest.approx(count, rel=0.15)
    assert not found.is_rough


@pytest.mark.parametrize("probes", [60, 200])
@pytest.mark.parametrize(
    ("bursts", "each", "seconds"),
    [
        (1, 30_000, 600),
        (5, 6_000, 300),
        (30, 1_000, 60),
        (100, 300, 20),
        (1_000, 30, 2),
        (60, 500, 1),
        (365, 83, 3_600),
    ],
)
def test_a_guess_about_bursts_is_near_or_not_told(bursts: int, each: int, seconds: int, probes: int) -> None:
    """What is told of archives that were imported at once is within a factor of two; else that it is rough."""
    for seed in range(3):
        chance = np.random.default_rng(seed)
        starts = np.repeat(chance.random(bursts) * (SECONDS - seconds), each)
        found, _ = guess((starts + chance.random(bursts * each) * seconds).tolist(), probes)
        assert found.is_rough or bursts * each / 2 <= found.rows <= bursts * each * 2


@pytest.mark.parametrize("total", [5_000, 30_000, 100_000])
def test_import_jobs_are_guessed_where_probes_suffice(total: int) -> None:
    """Hundreds of one moment, thousands in a minute, months of nothing: few probes tell nothing, and more a guess."""
    sizes = np.random.default_rng(7).dirichlet(np.full(25, 0.6))
    times = np.sort(import_times(np.repeat(np.arange(1, 26), (sizes * total).astype(int))))
    window = Window(RELEASES[0], RELEASES[-1] + timedelta(days=300))
    found = [estimate(TimesOnly(times), [(Field.CREATED_AT, window)], probes=probes) for probes in (20, 60, 600)]
    few, _, many = found
    assert few.is_rough
    assert few.probes == 20
    assert all(each.is_rough or each.rows == pytest.approx(len(times), rel=0.25) for each in found)
    assert not many.is_rough
    assert many.probes < len(times) / 50 + 30


def test_a_steady_guess_takes_no_more_probes() -> None:
    """Of three hundred requests thirty are spent, where these agree."""
    found, requests = guess((np.random.default_rng(7).random(30_000) * SECONDS).tolist(), 300)
    assert requests == 30
    assert not found.is_rough


def test_windows_beyond_the_probes_are_not_guessed() -> None:
    """Requests that were made before count; a window that nobody looked into makes the guess none."""
    fetch = TimesOnly(np.array([START], dtype=np.int64))
    later = Window(YEAR.end, YEAR.end + timedelta(days=1))
    windows = [(Field.CREATED_AT, YEAR), (Field.CREATED_AT, later)]
    found = estimate(fetch, windows, probes=2, counts=RequestCounts(requests=1))
    assert (found.least, found.probes, fetch.requests, found.is_rough) == (1, 2, 1, True)


def test_a_dense_hour_is_found() -> None:
    """A year of nothing but one hour: near, after the empty months are ruled out."""
    chance = np.random.default_rng(7)
    found, _ = guess((10_000_000 + chance.random(50_000) * 3_600).tolist())
    assert found.rows == pytest.approx(50_000, rel=0.3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, SECONDS - 1) | st.floats(5_000_000, 5_000_030), max_size=400),
    st.integers(1, 30),
)
def test_what_was_seen_is_there_and_probes_are_kept_to(seconds: list[float], probes: int) -> None:
    """No more is counted than there is, the guess is no less, and no more requests are made than were allowed."""
    found, requests = guess(seconds, probes)
    assert found.least <= len(seconds)
    assert found.least <= found.rows <= found.most
    assert found.probes == requests <= probes


def test_few_image_sets_are_counted() -> None:
    """What fits on the first page is no guess."""
    found, _ = guess([1.0, 2.0, 70_000.0])
    assert (found.rows, found.least, found.most, found.probes) == (3, 3, 3, 1)


def test_requests_minutes_and_dollars_follow_from_the_rows() -> None:
    """A million image sets at 25 a second: thirteen and a half minutes, ten cents."""
    million = Estimate(rows=1_000_000, least=0, most=1_000_000, probes=0)
    assert million.requests == 20_401
    assert million.minutes(Quota()) == pytest.approx(13.57, abs=0.01)
    assert million.dollars(0.005) == pytest.approx(0.102005)
    assert million.minutes(Quota().part(0.5)) == pytest.approx(27.17, abs=0.02)
    assert Estimate(rows=0, least=0, most=0, probes=1).minutes(Quota()) == 0


def test_windows_by_either_time_add_up() -> None:
    """Image sets of both windows are in the guess."""
    fetch = TimesOnly(np.array([START, START + 10**6 * SECONDS], dtype=np.int64))
    next_year = Window(YEAR.end, YEAR.end + timedelta(days=1))
    found = estimate(fetch, [(Field.CREATED_AT, YEAR), (Field.CREATED_AT, next_year)], probes=2)
    assert found.rows == 2
