"""Optimistic writing: read, change, write, and all of it again where another run wrote first."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import tenacity

from connectors.errors import ConflictError

_T = TypeVar("_T")

_CONFLICTS: Final = 60
"""Conflicts in a row after which a write gives up."""


def until_it_wins(
    attempt: Callable[..., _T],
    *arguments: Any,
    backoff: Callable[[tenacity.RetryCallState], float] | None = None,
) -> _T:
    """The result of the first attempt that meets no conflict.

    Args:
        attempt: Reads, changes and writes; from the start each time.
        arguments: Of the attempt.
        backoff: Seconds to wait after so many conflicts; a test hands in none.

    Raises:
        ConflictError: Other runs win all the time.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_CONFLICTS),
        wait=backoff or tenacity.wait_random_exponential(multiplier=0.02, max=2),
        retry=tenacity.retry_if_exception_type(ConflictError),
        reraise=True,
    )
    result: _T = retrying(attempt, *arguments)
    return result
