"""Asking the service within the quota, and asking again where that may help.

Every request passes the limiter, and every retry again. Throttling, 5xx, dropped connections and half bodies
are retried.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import botocore.exceptions
from botocore.parsers import ResponseParserError

from ahi_catalog.connectors.errors import SourceError, ThrottledError, TransientError
from ahi_catalog.connectors.healthimaging.failures import translate
from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.retrying import Backoff, full_jitter, retry
from ahi_catalog.schemas import MalformedSummaryError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

BACKOFF: Final = full_jitter(first=0.2, longest=20)


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
        self, limiter: Limiter, *, stop: threading.Event, max_attempts: int = 10, backoff: Backoff = BACKOFF
    ) -> None:
        self._limiter = limiter
        self._stop = stop
        self._max_attempts = max_attempts
        self._backoff = backoff

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
        return retry(
            partial(self._ask_once, operation, ask, tally),
            TransientError,
            tries=self._max_attempts,
            backoff=self._backoff,
            # A stop ends the wait; the next try then meets it at the limiter.
            wait=self._stop.wait,
            say=_say,
        )

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


def _say(failure: Exception, tries: int, seconds: float) -> None:
    """Log what failed and will be tried again; throttling is what a quota is for."""
    if not isinstance(failure, ThrottledError):
        _log.warning("%s; that was try %d, the next in %.1f s", failure, tries, seconds)
