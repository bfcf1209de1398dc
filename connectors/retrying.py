"""Trying again: what may pass, and writes that another run overtook. Capped exponential back-off with full jitter.

Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

A loop and not a library, because a stop has to end its wait.
"""

import math
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from ahi_catalog.connectors.errors import ConflictError

_T = TypeVar("_T")

Backoff = Callable[[int], float]
"""Seconds to wait after so many tries."""


def full_jitter(first: float, longest: float) -> Backoff:
    """Any time up to `first` seconds after the first try, and up to twice as much after each other, to `longest`."""
    doublings = math.log2(longest / first)

    def backoff(tries: int) -> float:
        return random.uniform(0, first * 2 ** min(tries - 1, doublings))  # noqa: S311  # no secret

    return backoff


def retry(
    attempt: Callable[[], _T],
    on: type[Exception],
    *,
    tries: int,
    backoff: Backoff,
    wait: Callable[[float], object] = time.sleep,
    say: Callable[[Exception, int, float], None] = lambda *_: None,
) -> _T:
    """Calls until it neither fails nor has failed too often; what the last call returns or raises.

    Args:
        attempt: What to call, from its start each time.
        on: The failures after which to call again; any other is raised at once.
        tries: Calls at most.
        backoff: Seconds to wait after so many calls.
        wait: Waits so many seconds.
        say: Is told of a failure that is followed by another call: the number of calls, and the seconds until then.
    """
    tried = 0
    while True:
        try:
            return attempt()
        except on as failure:
            tried += 1
            if tried >= tries:
                raise
            seconds = backoff(tried)
            say(failure, tried, seconds)
        wait(seconds)


_CONFLICTS: Final = 60
"""Conflicts in a row after which a write gives up."""
CONFLICT_BACKOFF: Final = full_jitter(first=0.02, longest=2)


def retry_on_conflict(attempt: Callable[..., _T], *arguments: Any) -> _T:
    """Writes optimistically: reads, changes and writes, and all of it again where another run wrote first.

    Args:
        attempt: Reads, changes and writes, from the start each time.
        arguments: Of the attempt.

    Raises:
        ConflictError: Other runs win all the time.
    """
    return retry(partial(attempt, *arguments), ConflictError, tries=_CONFLICTS, backoff=CONFLICT_BACKOFF)
