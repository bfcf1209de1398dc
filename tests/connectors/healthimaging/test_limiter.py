"""The request quota on a clock that the test turns: never faster than stated, never much slower."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.errors import StoppedError, UsageError
from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.emulator.service import TokenBucket


class Clock:
    """Seconds that pass only while somebody waits, or when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return stop.is_set()


def make(rate: float = 10.0, burst: int = 5) -> tuple[Limiter, Clock]:
    clock = Clock()
    return Limiter(Quota(rate=rate, burst=burst), clock=clock, wait=clock.wait), clock


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.5, 100),
    st.integers(1, 60),
    st.lists(st.floats(0, 3), max_size=60),
)
def test_no_span_of_time_sees_more_than_burst_and_rate(rate: float, burst: int, pauses: list[float]) -> None:
    """Between any two requests at most the burst, and the rate times the time between them, went out."""
    limiter, clock = make(rate, burst)
    sent: list[float] = []
    for pause in pauses:
        clock.now += pause
        limiter.acquire(threading.Event())
        sent.append(clock.now)
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= burst + rate * (sent[last] - start) + 1e-6


def test_a_busy_reader_uses_the_quota_in_full() -> None:
    """The burst goes out at once; from then on requests go out at the rate."""
    limiter, clock = make(rate=25, burst=50)
    began = clock.now
    for _ in range(50):
        limiter.acquire(threading.Event())
    assert clock.now == began
    for _ in range(250):
        limiter.acquire(threading.Event())
    assert clock.now - began == pytest.approx(10)


def test_waiting_requests_go_out_in_the_order_in_which_they_came() -> None:
    """Each of several that wait is given a later turn, a stride of the rate apart."""
    clock, turns = Clock(), list[float]()

    def note(_: threading.Event, seconds: float) -> bool:
        turns.append(seconds)
        return False

    limiter = Limiter(Quota(rate=10, burst=1), clock=clock, wait=note)
    for _ in range(5):
        limiter.acquire(threading.Event())
    assert turns == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_throttling_slows_down_and_time_makes_up_for_it() -> None:
    """The rate falls by a fifth, once a second at most, never to nothing, and climbs back to the quota."""
    limiter, clock = make(rate=10, burst=5)
    for _ in range(8):
        limiter.on_throttled()
    assert limiter.rate == pytest.approx(8)
    clock.now += 1
    assert limiter.rate == pytest.approx(9)
    for _ in range(50):
        limiter.on_throttled()
        clock.now += 1
        assert limiter.rate >= 0.4
    clock.now += 60
    assert limiter.rate == 10


def test_throttling_empties_the_bucket() -> None:
    """A service that throttles says that no burst is left: the next request waits for its token."""
    limiter, clock = make(rate=10, burst=5)
    limiter.on_throttled()
    limiter.acquire(threading.Event())
    assert clock.now == pytest.approx(1_000 + 1 / 8)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_shared_quota_is_found_and_left_again(share: float) -> None:
    """While a rival takes a share, few requests are throttled and most of the rest is used; then all of it again."""
    limiter, clock = make(rate=25, burst=50)
    service = TokenBucket(25, 50, clock.now)
    began = rival_at = clock.now
    sent = throttled = 0
    while clock.now < began + 240:
        limiter.acquire(threading.Event())
        while rival_at < min(clock.now, began + 120):
            service.take(rival_at)
            rival_at += 1 / (25 * share)
        sent += 1
        if not service.take(clock.now):
            throttled += 1
            limiter.on_throttled()
    assert throttled / sent < 0.1
    left_over = 25 * (1 - share) * 120 + 25 * 120
    assert sent - throttled > 0.85 * left_over
    assert limiter.rate == 25


def test_spare_requests_are_those_that_could_go_out_at_once() -> None:
    """The burst at first, none while requests wait, and again after a pause."""
    limiter, clock = make(rate=10, burst=2)
    spare = []
    for _ in range(4):
        spare.append(limiter.spare)
        limiter.acquire(threading.Event())
    assert [*spare, limiter.spare] == [2, 1, 0, 0, 0]
    clock.now += 0.1
    assert limiter.spare == 1


def test_a_share_leaves_the_rest_to_others() -> None:
    """A share of a quota is that part of rate and burst, and never nothing."""
    assert Quota().part(0.5) == Quota(rate=12.5, burst=25)
    assert Quota(rate=1, burst=1).part(0.1) == Quota(rate=0.1, burst=1)
    for share in (0, -1, 1.1, float("nan")):
        with pytest.raises(UsageError):
            Quota().part(share)


@pytest.mark.parametrize(("rate", "workers"), [(1, 8), (25, 8), (200, 40), (1_000, 64)])
def test_workers_follow_the_rate(rate: float, workers: int) -> None:
    """As many as use the rate up at a latency of a fifth of a second, within reason."""
    assert Quota(rate=rate).workers == workers


def test_a_stop_ends_every_wait() -> None:
    """Asked to stop, no request goes out any more, waiting or not."""
    limiter, _ = make(burst=1)
    stop = threading.Event()
    limiter.acquire(stop)
    stop.set()
    for _ in range(2):
        with pytest.raises(StoppedError):
            limiter.acquire(stop)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_quota_lets_something_through(rate: float, burst: int) -> None:
    """A rate or burst of nothing is refused."""
    with pytest.raises(UsageError):
        Quota(rate=rate, burst=burst)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 100), st.integers(1, 60)), min_size=1, max_size=5))
def test_a_changed_quota_holds_from_then_on(quotas: list[tuple[float, int]]) -> None:
    """After each change at most the new burst goes out at once, and from then on requests go out at the new rate."""
    limiter, clock = make(25, 50)
    for rate, burst in quotas:
        limiter.change(Quota(rate=rate, burst=burst))
        began = clock.now
        for _ in range(burst + 20):
            limiter.acquire(threading.Event())
        assert clock.now - began >= 20 / rate - 1e-6
        assert limiter.rate == pytest.approx(rate)


def test_a_changed_quota_keeps_how_far_the_rate_has_fallen() -> None:
    """A smaller share of a quota that others use too starts where the larger one was, in proportion."""
    limiter, _ = make(rate=100)
    limiter.on_throttled()
    limiter.change(Quota(rate=10, burst=1))
    assert limiter.rate == pytest.approx(8)


@given(st.floats(0.1, 1_000), st.integers(1, 1_000), st.integers(1, 100))
def test_shares_of_a_quota_add_up_to_it(rate: float, burst: int, processes: int) -> None:
    """So many equal shares are no more than the whole, but for the one request that each may send at once."""
    share = Quota(rate=rate, burst=burst).part(1 / processes)
    assert share.rate * processes == pytest.approx(rate)
    assert share.burst * processes <= max(burst, processes)
