"""Asking the service within the quota, and asking again where that may help.

Every request passes the limiter, and every retry again. Throttling, 5xx, dropped connections and half bodies
are retried with capped exponential back-off and full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import botocore.exceptions
import tenacity
from botocore.parsers import ResponseParserError

from connectors.errors import SourceError, ThrottledError, TransientError
from connectors.healthimaging.failures import translate
from connectors.healthimaging.quota import Limiter
from schemas import MalformedSummaryError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_LONGEST_BACKOFF: Final = 20.0
_FIRST_BACKOFF: Final = 0.2

Backoff = Callable[[tenacity.RetryCallState], float]
"""Seconds to wait after so many tries."""


@dataclass(slots=True)
class Tally:
    """What a piece of work asked of the service. Not shared between threads; add them up instead."""

    requests: int = 0
    throttles: int = 0
    retries: int = 0

    def add(self, other: "Tally") -> None:
        """Count the other's requests here too."""
        self.requests += other.requests
        self.throttles += other.throttles
        self.retries += other.retries


class Attempts:
    """Makes requests. Thread-safe.

    Args:
        limiter: The process's quota.
        stop: Set when the run is asked to stop; waiting requests then raise StoppedError.
        max_attempts: Tries of one request.
        backoff: Seconds to wait after so many tries; a test hands in none.
    """

    def __init__(
        self, limiter: Limiter, *, stop: threading.Event, max_attempts: int = 10, backoff: Backoff | None = None
    ) -> None:
        self._limiter = limiter
        self._stop = stop
        self._retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(max_attempts),
            wait=backoff or tenacity.wait_random_exponential(multiplier=_FIRST_BACKOFF, max=_LONGEST_BACKOFF),
            sleep=self._sleep,
            before_sleep=_say,
            retry=tenacity.retry_if_exception_type(TransientError),
            reraise=True,
        )

    def make(self, operation: str, ask: Callable[[], _T], tally: Tally) -> _T:
        """What a request brings.

        Args:
            operation: As the API names it.
            ask: Sends the request once, and reads the answer.
            tally: Counts the tries.

        Raises:
            SourceError: The service refuses, or failed so often that the run gives up.
            StoppedError: The run was asked to stop.
        """
        result: _T = self._retrying(self._ask_once, operation, ask, tally)
        return result

    def _ask_once(self, operation: str, ask: Callable[[], _T], tally: Tally) -> _T:
        try:
            with self._limiter.turn(self._stop):
                tally.requests += 1
                return ask()
        except (
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            ResponseParserError,
            UnicodeDecodeError,
            MalformedSummaryError,
        ) as error:
            # Not chained: botocore's errors may quote the request, and a parser's the answer.
            failure: SourceError = translate(error, operation)
        if isinstance(failure, ThrottledError):
            tally.throttles += 1
            self._limiter.give_way()
        elif isinstance(failure, TransientError):
            tally.retries += 1
        raise failure

    def _sleep(self, seconds: float) -> None:
        # A stop ends the wait; the next try then meets it at the limiter.
        self._stop.wait(seconds)


def _say(state: tenacity.RetryCallState) -> None:
    """Log what failed and will be tried again; throttling is what a quota is for."""
    failure = state.outcome.exception() if state.outcome else None
    if state.next_action is not None and not isinstance(failure, ThrottledError):
        seconds = state.next_action.sleep
        _log.warning("%s; that was try %d, the next in %.1f s", failure, state.attempt_number, seconds)
