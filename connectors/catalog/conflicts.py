"""Optimistic writing: read, change, write, and all of it again where another run wrote first."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from ahi_catalog.connectors.errors import ConflictError
from ahi_catalog.connectors.retrying import Backoff, full_jitter, retry

_T = TypeVar("_T")

_CONFLICTS: Final = 60
"""Conflicts in a row after which a write gives up."""
CONFLICT_BACKOFF: Final = full_jitter(first=0.02, longest=2)


def retry_on_conflict(attempt: Callable[..., _T], *arguments: Any, backoff: Backoff = CONFLICT_BACKOFF) -> _T:
    """The result of the first attempt that meets no conflict.

    Args:
        attempt: Reads, changes and writes; from the start each time.
        arguments: Of the attempt.
        backoff: Seconds to wait after so many conflicts; a test hands in none.

    Raises:
        ConflictError: Other runs win all the time.
    """
    return retry(partial(attempt, *arguments), ConflictError, tries=_CONFLICTS, backoff=backoff)
