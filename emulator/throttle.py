"""The request quota: a token bucket that reads no clock of its own."""


class TokenBucket:
    """Lets `burst` requests through at once and `rate` a second after that.

    Not thread-safe: the service calls it under its lock.

    Args:
        rate: Tokens a second.
        burst: Tokens in a full bucket; it starts full.
        now: Seconds of a clock that never runs backwards, at the start.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token; False, and nothing taken, where there is none."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
