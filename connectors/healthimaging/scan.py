"""Scanning windows: walks that read up to a budget of pages, hand the rest back, and go on later where they were.

A window whose budget is spent is handed back from the last proven second on; where nothing could be proven
(walk.py says when) it is handed back whole, to be split, and a window of one second is read through. The walk is
kept until a window that begins where it stopped is scanned, so handing back costs no request. While a scan is under
way, others may take over what it has not reached yet.

Scans that begin together would end together, and all at once bring what is to be published. So the first budget of
each is another part of the whole.
"""

import itertools
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from ahi_catalog.connectors.errors import StoppedError
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.walk import Fetch, Rest, Scan, Walk
from ahi_catalog.connectors.windows import Window

__all__ = ["Fetch", "Rest", "Scan", "Scanner"]

_FIRST_BUDGETS: Final = (1.0, 0.75, 0.5, 0.25)
"""Of the budget, what walks get at first, in turn."""
_LEAST_PAGES: Final = 2
"""Pages after which a scan whose rows come out of order may hand its window back for others to help."""


def _never() -> bool:
    return False


class Scanner:
    """Scans the windows of one data store. Thread-safe.

    Args:
        fetch: Asks the service for one page.
        settle: How late a change may show up in the search.
        budget: Pages after which the rest is handed back; fewer for a new walk (`_FIRST_BUDGETS`).
        is_wanted: Whether others have nothing to do, so that a scan whose rows come out of order, of which no
            part can be taken over, had better hand back its window; asked only where it would.
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
        self._first_budgets = itertools.cycle(max(1, int(budget * part)) for part in _FIRST_BUDGETS)
        self._resting: dict[tuple[Field, object], Walk] = {}
        self._under_way: dict[Window, Walk] = {}

    def scan(self, by: Field, window: Window) -> Scan:
        """Walk a window, or the first part of it.

        Args:
            by: The time that the window bounds.
            window: What to walk.

        Raises:
            SourceError: The service refuses, or its answers make no sense.
        """
        walk = self.begin(by, window)
        with self._lock:
            self._under_way[window] = walk
        try:
            while not (self.is_over(walk) or self._is_stopping()):
                walk.step()
            if walk.is_complete and not walk.is_sorted:
                walk.reread_front(self._is_stopping)
        except StoppedError:
            pass  # What was read so far still proves its seconds.
        finally:
            with self._lock:
                del self._under_way[window]
        return self.end(by, walk)

    def rests(self) -> dict[Window, Rest]:
        """What scans under way have still to read, by the window that each was given."""
        with self._lock:
            under_way = dict(self._under_way)
        return {window: rest for window, walk in under_way.items() if (rest := walk.rest) is not None}

    def shorten(self, window: Window, end: datetime) -> bool:
        """End a scan's window earlier; whether it does (see `Walk.shorten`).

        Args:
            window: As the scan was given it.
            end: Where others take over.
        """
        with self._lock:
            walk = self._under_way.get(window)
        return walk is not None and walk.shorten(end)

    def begin(self, by: Field, window: Window) -> Walk:
        """The walk that stopped where the window begins, or a new one."""
        with self._lock:
            walk = self._resting.pop((by, window.start), None)
            if walk is None or not walk.can_go_on(window):
                return Walk(self._fetch, by, window, self._settle, next(self._first_budgets))
        walk.go_on(window, self._budget)
        return walk

    def is_over(self, walk: Walk) -> bool:
        """Whether a walk has to end, or to rest."""
        # What was read without proving anything is read again, so it is handed back at once or not at all.
        if walk.is_complete or walk.is_spent(walk.budget if walk.is_sorted else self._budget):
            return True
        may_help = not walk.is_sorted and walk.pages_read == _LEAST_PAGES
        return may_help and walk.is_spent(_LEAST_PAGES) and self._is_wanted()

    def end(self, by: Field, walk: Walk) -> Scan:
        """What the walk has come to; it rests where something remains."""
        result = walk.take()
        if result.remainder and result.proven and walk.is_sorted:
            with self._lock:
                self._resting[by, result.remainder.start] = walk
        return result
