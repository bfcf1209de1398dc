"""Requests within the quota, repeated where that may help: throttling, 5xx, dropped connections, half bodies.

Every request passes the limiter, and so does every retry.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import botocore.exceptions

from ahi_catalog.connectors.aws_failures import UNANSWERED
from ahi_catalog.connectors.errors import NotReadyError, SourceError, ThrottledError, TransientError
from ahi_catalog.connectors.healthimaging.failures import translate
from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.retrying import Backoff, full_jitter, retry
from ahi_catalog.schemas import MalformedSummaryError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

BACKOFF: Final = full_jitter(first=0.2, longest=20)


@dataclass(slots=True)
class RequestCounts:
    """Requests made, throttled and retried. Not shared between threads; add them up instead."""

    requests: int = 0
    throttles: int = 0
    retries: int = 0

    def add(self, other: "RequestCounts") -> None:
        """Count the other's requests here too."""
        self.requests += other.requests
        self.throttles += other.throttles
        self.retries += other.retries


class RequestExecutor:
    """Makes requests. Thread-safe.

    Args:
        limiter: The process's quota.
        stop: Set when the run is asked to stop; waiting requests then raise StoppedError.
        max_attempts: Tries of one request.
        backoff: Seconds to wait after so many tries.
    """

    def __init__(
        self, limiter: Limiter, *, stop: threading.Event, max_attempts: int = 10, backoff: Backoff = BACKOFF
    ) -> None:
        self._limiter = limiter
        self._stop = stop
        self._max_attempts = max_attempts
        self._backoff = backoff

    @property
    def spare(self) -> int:
        """How many requests the quota would let out at once."""
        return self._limiter.spare

    def call(self, operation: str, send: Callable[[], _T], counts: RequestCounts) -> _T:
        """Make a request until it succeeds, and return what it brings.

        Args:
            operation: As the API names it.
            send: Sends the request once, and reads the answer.
            counts: Counts the tries.

        Raises:
            SourceError: The service refuses, or failed in the last try too.
            StoppedError: The run was asked to stop.
        """
        return retry(
            partial(self._try, operation, send, counts),
            TransientError,
            tries=self._max_attempts,
            backoff=self._backoff,
            # A stop ends the wait; the next try then meets it at the limiter.
            wait=self._stop.wait,
            say=_log_retry,
        )

    def _try(self, operation: str, send: Callable[[], _T], counts: RequestCounts) -> _T:
        self._limiter.acquire(self._stop)
        counts.requests += 1
        try:
            return send()
        except (botocore.exceptions.ClientError, *UNANSWERED, MalformedSummaryError) as error:
            # Not chained: botocore's errors may quote the request, and a parser's the answer.
            failure: SourceError = translate(error, operation)
        if isinstance(failure, ThrottledError):
            counts.throttles += 1
            self._limiter.on_throttled()
        elif isinstance(failure, TransientError):
            counts.retries += 1
        raise failure


def _log_retry(failure: Exception, tries: int, seconds: float) -> None:
    # Throttling is what a quota is for, and a wait after an import is usual.
    if not isinstance(failure, ThrottledError | NotReadyError):
        told = failure.while_retrying if isinstance(failure, SourceError) else failure
        _log.warning("%s; that was try %d, the next in %.1f s", told, tries, seconds)
