"""The request quota: one limiter for every thread, data store and retry of a process.

A token bucket with additive increase and multiplicative decrease
(https://en.wikipedia.org/wiki/Additive_increase/multiplicative_decrease): a throttled request means that somebody else
uses the account's quota too.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from ahi_catalog.connectors.errors import StoppedError
from ahi_catalog.connectors.settings import Quota

_DECREASE: Final = 0.8
"""What a throttled request leaves of the rate."""
_INCREASE: Final = 0.1
"""Share of the stated rate that comes back in a second."""
_LEAST: Final = 0.04
"""Share of the stated rate below which the rate does not fall: one request a second of 25."""
_AT_ONCE: Final = 1.0
"""Seconds within which several throttled requests count as one, for they went out at the same rate."""


class Limiter:
    """Lets requests out at a rate, after a burst. Thread-safe; requests go out in the order in which they ask.

    Args:
        quota: Requests a second, and the burst.
        clock: Monotonic seconds.
        wait: Sleeps for so many seconds unless the event is set first, and returns whether it was.
    """

    def __init__(
        self,
        quota: Quota,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._quota = quota
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._rate = quota.rate
        self._tokens = float(quota.burst)
        self._refilled_at = clock()
        self._throttled_at = float("-inf")

    @property
    def rate(self) -> float:
        """Requests a second that go out now."""
        with self._lock:
            self._refill()
            return self._rate

    @property
    def spare(self) -> int:
        """About how many requests could go out at once; 0 where requests wait already."""
        with self._lock:
            self._refill()
            return max(round(self._tokens), 0)

    def change(self, quota: Quota) -> None:
        """Go on with another quota; a rate that has fallen, and how long requests wait, stay in proportion."""
        with self._lock:
            self._refill()
            self._rate *= quota.rate / self._quota.rate
            debt = min(self._tokens, 0.0) * quota.rate / self._quota.rate
            self._tokens = min(max(self._tokens, 0.0), float(quota.burst)) + debt
            self._quota = quota

    def acquire(self, stop: threading.Event) -> None:
        """Return when one request may go out.

        Raises:
            StoppedError: The event was set before that.
        """
        with self._lock:
            self._refill()
            self._tokens -= 1
            delay = max(-self._tokens / self._rate, 0.0)
        if stop.is_set() or (delay and self._wait(stop, delay)):
            raise StoppedError("stopped while waiting for the request quota")

    def on_throttled(self) -> None:
        """Take note that the service throttled a request: the bucket is empty, and the rate falls."""
        with self._lock:
            self._refill()
            self._tokens = min(self._tokens, 0.0)
            if self._refilled_at - self._throttled_at >= _AT_ONCE:
                self._throttled_at = self._refilled_at
                self._rate = max(self._rate * _DECREASE, self._quota.rate * _LEAST)

    def _refill(self) -> None:
        now = self._clock()
        elapsed = now - self._refilled_at
        self._refilled_at = now
        self._tokens = min(self._tokens + elapsed * self._rate, float(self._quota.burst))
        self._rate = min(self._rate + elapsed * self._quota.rate * _INCREASE, self._quota.rate)
