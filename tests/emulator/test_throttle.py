from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.emulator.service import TokenBucket


def test_a_burst_then_the_rate() -> None:
    """A full bucket lets its burst through at once, then one request each 1/rate seconds."""
    bucket = TokenBucket(rate=25.0, burst=50, now=100.0)
    assert [bucket.take(100.0) for _ in range(51)] == [True] * 50 + [False]
    assert not bucket.take(100.03)
    assert bucket.take(100.05)
    assert not bucket.take(100.05)


def test_it_never_holds_more_than_its_burst() -> None:
    """An idle hour does not save up requests."""
    bucket = TokenBucket(rate=25.0, burst=3, now=0.0)
    assert sum(bucket.take(3600.0) for _ in range(10)) == 3


@given(
    st.lists(st.floats(0, 2), max_size=200),
    st.floats(0.5, 100),
    st.integers(1, 60),
)
def test_no_window_lets_more_through_than_burst_and_rate(gaps: list[float], rate: float, burst: int) -> None:
    """Whatever the arrivals, no more than burst + rate * elapsed requests pass."""
    bucket = TokenBucket(rate=rate, burst=burst, now=0.0)
    now, passed = 0.0, 0
    for gap in gaps:
        now += gap
        passed += bucket.take(now)
    assert passed <= burst + rate * now + 1e-6


def test_a_clock_that_runs_back_gives_nothing() -> None:
    """Time that goes backwards fills no bucket."""
    bucket = TokenBucket(rate=1.0, burst=1, now=10.0)
    assert bucket.take(10.0)
    assert not bucket.take(5.0)
