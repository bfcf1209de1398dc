"""The request quota on a clock that the test turns: never faster than stated, never much slower."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.errors import SourceError, StoppedError, UsageError
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
    """The burst goes out at once, but for a fiftieth of a second's; from then on requests go out at the rate."""
    limiter, clock = make(rate=25, burst=50)
    began = clock.now
    for _ in range(49):
        limiter.acquire(threading.Event())
    assert clock.now == began
    for _ in range(251):
        limiter.acquire(threading.Event())
    assert clock.now - began == pytest.approx(10.02)


def test_nothing_is_throttled_where_the_first_requests_take_longer_on_their_way() -> None:
    """The service's bucket refills from the first request that gets there: later, faster ones find their tokens."""
    limiter, clock = make(rate=25, burst=50)
    began = clock.now
    service = TokenBucket(25, 50, began)
    for _ in range(200):
        limiter.acquire(threading.Event())
        assert service.take(max(clock.now, began + 0.019))


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
    """The rate falls by three tenths, once a second at most, never to nothing, and climbs back to the quota."""
    limiter, clock = make(rate=10, burst=5)
    limiter.give_way()
    clock.now += 0.3
    for _ in range(8):
        limiter.give_way()
    assert limiter.rate == pytest.approx(7)
    clock.now += 1
    assert limiter.rate == pytest.approx(7.5)
    for _ in range(50):
        clock.now += 1
        limiter.give_way()
    assert 0.4 <= limiter.rate < 2
    clock.now += 60
    assert limiter.rate == 10


def test_throttling_spends_what_was_left_of_the_burst() -> None:
    """A service that throttles says that no burst is left: the next request waits, and a little for its bucket."""
    limiter, clock = make(rate=10, burst=5)
    limiter.give_way()
    limiter.acquire(threading.Event())
    assert clock.now == pytest.approx(1_000 + 1 / 10 + 0.05)


def test_one_throttled_request_does_not_slow_down() -> None:
    """Requests bunch on their way, and others use the burst: only a later one means that they share the quota."""
    limiter, clock = make(rate=10, burst=5)
    for _ in range(3):  # with those that were on their way with it
        limiter.give_way()
        clock.now += 0.1
    assert limiter.rate == 10
    clock.now += 6
    limiter.give_way()
    assert limiter.rate == 10
    clock.now += 0.5
    limiter.give_way()
    assert limiter.rate == pytest.approx(7)


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
            limiter.give_way()
    assert throttled / sent < 0.1
    left_over = 25 * (1 - share) * 120 + 25 * 120
    assert sent - throttled > 0.85 * left_over
    assert limiter.rate == 25


def rooms(limiter: Limiter, requests: int) -> list[int]:
    """The room before each of so many requests, all of which are answered."""
    found = []
    for _ in range(requests):
        found.append(limiter.room)
        limiter.acquire(threading.Event())
        limiter.answered(0.1)
    return found


def test_room_is_what_could_go_out_at_once() -> None:
    """There is room until the burst is spent, and again after a pause; for a scan by ten requests that may go out."""
    limiter, clock = make(rate=10, burst=2)
    room = rooms(limiter, requests=3)
    clock.now += 0.1
    assert [*room, limiter.room] == [1, 1, 0, 1]
    assert make(rate=200, burst=400)[0].room == 40


@pytest.mark.parametrize(("latency", "side_by_side"), [(0.02, 1), (0.1, 5), (0.4, 20)])
def test_there_is_room_for_twice_the_requests_that_use_the_rate_up(latency: float, side_by_side: int) -> None:
    """Rate times latency are under way on average: more scans than twice that only cost requests."""
    limiter, clock = make(rate=25, burst=500)
    for _ in range(100):
        with limiter.turn(threading.Event()):
            clock.now += latency
    assert limiter.room == side_by_side
    for _ in range(side_by_side):
        assert limiter.room > 0
        limiter.acquire(threading.Event())
    assert limiter.room == 0


def test_a_request_that_fails_or_never_goes_out_is_not_under_way() -> None:
    """Else there would be less room each time."""
    limiter, _ = make(rate=25, burst=500)
    stop = threading.Event()
    for _ in range(50):
        with pytest.raises(SourceError), limiter.turn(stop):
            raise SourceError("refused")
    stop.set()
    for _ in range(50):
        with pytest.raises(StoppedError), limiter.turn(stop):
            pytest.fail("the run was asked to stop")
    limiter.acquire(threading.Event())
    limiter.answered(10.0)
    assert limiter.room > 5


def test_a_small_burst_leaves_room_too() -> None:
    """A quarter of it is enough, however high the rate: it is never quite full while scans are under way."""
    limiter, _ = make(rate=200, burst=5)
    assert rooms(limiter, requests=4) == [1, 1, 1, 0]


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


def test_a_changed_quota_keeps_how_far_the_rate_has_given_way() -> None:
    """A smaller share of a quota that others use too starts where the larger one was, in proportion."""
    limiter, clock = make(rate=100)
    limiter.give_way()
    clock.now += 1.5
    limiter.give_way()
    limiter.change(Quota(rate=10, burst=1))
    assert limiter.rate == pytest.approx(7)


@given(st.floats(0.1, 1_000), st.integers(1, 1_000), st.integers(1, 100))
def test_shares_of_a_quota_add_up_to_it(rate: float, burst: int, processes: int) -> None:
    """So many equal shares are no more than the whole, but for the one request that each may send at once."""
    share = Quota(rate=rate, burst=burst).part(1 / processes)
    assert share.rate * processes == pytest.approx(rate)
    assert share.burst * processes <= max(burst, processes)
