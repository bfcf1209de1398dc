"""The request quota, held by one limiter a process across every thread and data store, retries included."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ahi_catalog.connectors.errors import StoppedError
from ahi_catalog.connectors.settings import Quota

_GIVE_WAY: Final = 0.7
_LEAST_SHARE: Final = 0.04
_SLACK: Final = 0.06
"""Seconds of the rate that lie unused where there is room: less comes and goes as requests bunch. Of a small burst it
is a quarter: a bucket that must be full for another scan to start would waste what comes in meanwhile."""
_SCAN_REQUESTS: Final = 10
"""Requests that a scan makes in a second, where an answer takes a tenth of one."""
_TYPICAL_LATENCY: Final = 0.1
"""Seconds that an answer takes, for as long as nothing is known of it."""
_REMEMBERED: Final = 16
"""Answers over which the latency is taken."""
_ENOUGH: Final = 2.0
"""Times as many requests side by side as it takes on average to use the rate up (Little's law: rate times latency)."""
_ALONE: Final = 5.0
"""Seconds without throttling after which a throttled request says nothing about others yet."""
_ON_THEIR_WAY: Final = 0.25
"""Seconds after it in which requests are answered that had gone out before: they say no more."""
_CUSHION: Final = 0.05
"""Seconds of the rate that the service gets ahead when it has throttled: else the next bunch finds its bucket empty."""
_ON_ITS_WAY: Final = 0.02
"""Seconds that a first request may take longer to get there than those behind it; where it takes more, the service
throttles one or two."""
_RECOVERY: Final = 0.05
"""Share of the stated rate regained in a second without throttling."""


class Limiter:
    """A token bucket: starts with the burst, refills smoothly, and gives way when the service throttles.

    The service's bucket begins to refill when the first request gets there, which is later than it went out: so each
    time the bucket was full, what comes in until then is left out.

    Each request takes its token at once and waits for its own turn, so waiting threads are served in the order
    in which they came. A single throttled request empties the bucket, and so do those that were on their way with it:
    requests bunch, or others have used the burst. When the service goes on throttling below the stated quota (someone
    else shares it), the rate falls by three tenths, at most once a second, and climbs back in the time without
    throttling.

    Args:
        quota: Requests a second, and the burst.
        clock: Monotonic seconds.
        wait: Sleeps for so many seconds unless the event is set first; whether it was.
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
        self._throttled_at = self._alone_at = self._gave_way_at = float("-inf")
        self._under_way = 0
        self._latency = _TYPICAL_LATENCY

    @property
    def rate(self) -> float:
        """Requests a second that are let through now."""
        with self._lock:
            self._refill()
            return self._rate

    @property
    def room(self) -> int:
        """How many more scans side by side would make a run faster; 0 where the quota is used up, or will be."""
        with self._lock:
            self._refill()
            lacking = max(1, round(_ENOUGH * self._rate * self._latency)) - self._under_way
            if lacking < 1 or self._tokens < min(max(1.0, self._rate * _SLACK), self._quota.burst / 4):
                return 0
            return min(lacking, max(1, int(self._tokens / _SCAN_REQUESTS)))

    def change(self, quota: Quota) -> None:
        """Go on with another quota; as far as it has given way, the rate stays in proportion."""
        with self._lock:
            self._refill()
            self._rate *= quota.rate / self._quota.rate
            self._tokens = min(self._tokens, float(quota.burst))
            self._quota = quota

    @contextmanager
    def turn(self, stop: threading.Event) -> Iterator[None]:
        """One request: entered when it may go out, left when it is answered.

        Raises:
            StoppedError: The event was set before that.
        """
        self.acquire(stop)
        began = self._clock()
        try:
            yield
        finally:
            self.answered(self._clock() - began)

    def acquire(self, stop: threading.Event) -> None:
        """Return when one request may go out; tell by `answered` when it is.

        Raises:
            StoppedError: The event was set before that.
        """
        with self._lock:
            self._under_way += 1
            self._refill()
            is_full = self._tokens >= self._quota.burst
            self._tokens -= 1 + (min(self._rate * _ON_ITS_WAY, (self._quota.burst - 1) / 4) if is_full else 0)
            delay = -self._tokens / self._rate if self._tokens < 0 else 0.0
        if stop.is_set() or (delay and self._wait(stop, delay)):
            with self._lock:
                self._under_way -= 1
            raise StoppedError("stopped while waiting for the request quota")

    def answered(self, seconds: float) -> None:
        """Take note of an answer, and how long it took."""
        with self._lock:
            self._under_way -= 1
            self._latency += (seconds - self._latency) / _REMEMBERED

    def give_way(self) -> None:
        """Take note that the service throttled a request."""
        with self._lock:
            self._refill()
            now = self._refilled_at
            if now - self._throttled_at > _ALONE:
                self._alone_at = now
            self._throttled_at = now
            self._tokens = min(self._tokens, -self._rate * _CUSHION)
            if now - self._alone_at < _ON_THEIR_WAY or now - self._gave_way_at < 1:
                return
            self._gave_way_at = now
            self._rate = max(self._rate * _GIVE_WAY, self._quota.rate * _LEAST_SHARE)

    def _refill(self) -> None:
        now = self._clock()
        elapsed = now - self._refilled_at
        self._refilled_at = now
        self._tokens = min(self._tokens + elapsed * self._rate, float(self._quota.burst))
        self._rate = min(self._rate + elapsed * self._quota.rate * _RECOVERY, self._quota.rate)
