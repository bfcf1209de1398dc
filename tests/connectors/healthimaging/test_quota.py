"""The limiter, with a clock and a wait of its own; and botocore's failures in our words."""

import threading

import botocore.exceptions as boto
import pytest

from connectors.errors import InvalidRequestError, SourceError, StoppedError, ThrottledError, TransientError
from connectors.healthimaging.failures import translate
from connectors.healthimaging.quota import Limiter
from connectors.settings import Quota
from schemas import MalformedSummaryError


class Time:
    """Seconds that pass only by waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return stop.is_set()


def limiter(time: Time, rate: float = 25, burst: int = 50) -> Limiter:
    return Limiter(Quota(rate=rate, burst=burst), clock=time.clock, wait=time.wait)


def test_the_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    """Fifty requests take no time, each further one a twenty-fifth of a second."""
    time = Time()
    held = limiter(time)
    for _ in range(50):
        held.acquire(threading.Event())
    assert time.now == 0
    for _ in range(100):
        held.acquire(threading.Event())
    assert time.now == pytest.approx(4.0)


def test_a_pause_fills_the_bucket_no_further_than_the_burst() -> None:
    """An hour of rest allows one burst, not an hour's worth."""
    time = Time()
    held = limiter(time)
    time.now = 3600
    for _ in range(75):
        held.acquire(threading.Event())
    assert time.now == pytest.approx(3601.0)


def test_throttling_slows_it_down_and_time_speeds_it_up_again() -> None:
    """The rate falls at most once a second, never to nothing, and climbs back to the stated one."""
    time = Time()
    held = limiter(time)
    held.give_way()
    held.give_way()
    assert held.rate == pytest.approx(25 * 0.7)
    for _ in range(100):
        time.now += 1
        held.give_way()
    assert held.rate >= 1
    time.now += 60
    assert held.rate == 25


def test_a_stop_ends_the_wait() -> None:
    """A run that is asked to stop sends no further request."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        limiter(Time()).acquire(stop)


def answer(code: str, status: int) -> boto.ClientError:
    error = {"Error": {"Code": code, "Message": "Tester^Secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(error, "SearchImageSets")  # type: ignore[arg-type]  # the parts that matter


@pytest.mark.parametrize(
    ("failure", "kind", "says"),
    [
        (answer("ThrottlingException", 429), ThrottledError, "throttled"),
        (answer("InternalServerException", 500), TransientError, "answers 500"),
        (answer("ValidationException", 400), InvalidRequestError, "invalid"),
        (answer("AccessDeniedException", 403), SourceError, "allow medical-imaging:SearchImageSets"),
        (answer("ResourceNotFoundException", 404), SourceError, "data store id"),
        (answer("ExpiredTokenException", 403), SourceError, "renew"),
        (boto.NoCredentialsError(), SourceError, "credentials"),
        (boto.EndpointConnectionError(endpoint_url="http://x"), TransientError, "cannot be reached"),
        (boto.ReadTimeoutError(endpoint_url="http://x"), TransientError, "run again"),
        (boto.SSLError(endpoint_url="https://x", error=ValueError("Tester^Secret")), SourceError, "certificate"),
        (MalformedSummaryError("a page of the service is not JSON"), TransientError, "not JSON"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_failure_is_one_line_that_quotes_nothing(failure: Exception, kind: type[SourceError], says: str) -> None:
    """What can pass is told from what cannot, and the service's own words stay out."""
    found = translate(failure, "SearchImageSets")
    assert type(found) is kind
    assert says in str(found)
    assert "\n" not in str(found)
    assert "Secret" not in str(found)
