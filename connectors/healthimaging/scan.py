"""Scanning windows: walks that read up to a budget of pages, hand the rest back, and go on later where they were.

A window whose budget is spent is handed back from the last proven second on; where nothing could be proven
(walk.py says when) it is handed back whole, to be split, and a window of one second is read through. The walk is
kept until a window that begins where it stopped is scanned, so handing back costs no request.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from connectors.errors import StoppedError
from connectors.healthimaging.pages import Field
from connectors.healthimaging.walk import Fetch, Scan, Walk
from connectors.windows import Window

__all__ = ["Fetch", "Scan", "Scanner"]

_LEAST_PAGES: Final = 2
"""Pages that a scan reads at least, however many workers have nothing to do."""


def _never() -> bool:
    return False


class Scanner:
    """Scans the windows of one data store. Thread-safe.

    Args:
        fetch: Asks the service for one page.
        settle: How late a change may show up in the search.
        budget: Pages after which the rest is handed back.
        is_wanted: Whether others have nothing to do, so that this scan had better hand back its rest now; asked
            between pages, and only where it would.
        is_stopping: Whether the run was asked to stop; looked at between pages.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        settle: timedelta,
        budget: int,
        is_wanted: Callable[[], bool] = _never,
        is_stopping: Callable[[], bool] = _never,
    ) -> None:
        self._fetch = fetch
        self._settle = settle
        self._budget = budget
        self._is_wanted = is_wanted
        self._is_stopping = is_stopping
        self._lock = threading.Lock()
        self._resting: dict[tuple[Field, object], Walk] = {}

    def scan(self, by: Field, window: Window) -> Scan:
        """Walk a window, or the first part of it.

        Args:
            by: The time that the window bounds.
            window: What to walk.

        Raises:
            SourceError: The service refuses, or its answers make no sense.
        """
        walk = self.begin(by, window)
        try:
            while not (self.is_over(walk) or self._is_stopping()):
                walk.step()
            if walk.is_complete and not walk.is_sorted:
                walk.reread_front(self._is_stopping)
        except StoppedError:
            pass  # What was read so far still proves its seconds.
        return self.end(by, walk)

    def begin(self, by: Field, window: Window) -> Walk:
        """The walk that stopped where the window begins, or a new one."""
        with self._lock:
            walk = self._resting.pop((by, window.start), None)
        if walk is None or not walk.can_go_on(window):
            return Walk(self._fetch, by, window, self._settle)
        walk.go_on(window)
        return walk

    def is_over(self, walk: Walk) -> bool:
        """Whether a walk has to end, or to rest."""
        if walk.is_complete or walk.is_spent(self._budget):
            return True
        # What was read without proving anything is read again, so it is handed back at once or not at all.
        may_rest = walk.is_sorted or walk.pages_read <= _LEAST_PAGES
        return may_rest and walk.is_spent(_LEAST_PAGES) and self._is_wanted()

    def end(self, by: Field, walk: Walk) -> Scan:
        """What the walk has come to; it rests where something remains."""
        result = walk.take()
        if result.remainder and result.proven and walk.is_sorted:
            with self._lock:
                self._resting[by, result.remainder.start] = walk
        return result
