"""Which window to scan next. No clock and no threads of its own.

Windows wait in order of their start, so that partitions fill one after the other and little is held in memory. A scan
hands back what is left of its window after some pages. Where nothing else waits for an idle worker, the fullest window
that waits is split in two.

Nobody knows whether the rows of a window reach on for a second or for a year. So it is split between the pace of its
pages and its end on a logarithmic scale: a dense minute spreads over the workers after a few splits, and an empty year
stays in one piece, which costs one request. Each split costs about a page.
"""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.scan import ScanRequest, ScanResult
from ahi_catalog.connectors.windows import SECOND, Window

_DAY: Final = timedelta(days=1)
_LEAST_PAGES: Final = 3
"""Pages that a window holds at least, at its pace, to be split: the tail of a run is not worth more requests."""
_REACH: Final = 0.8
"""Where a window is split, between the pace of its pages (0) and its end (1), on a logarithmic scale."""
_FASTEST: Final = SECOND / 50
"""The least pace that is believed: image sets of one import job share their time, thousands do not."""


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """A window to scan; the pace is the time that a page before it took up, None where unknown."""

    start: datetime
    request: ScanRequest = field(compare=False)
    pace: timedelta | None = field(compare=False, default=None)

    @property
    def pages(self) -> float:
        """Pages in the window if the rows go on at the same pace to its end; 0 where nothing is known."""
        window = self.request.window
        return (window.end - window.start) / self.pace if self.pace else 0.0

    def split(self) -> "tuple[_Waiting, _Waiting] | None":
        """The near part, whose scan goes on where the one before ended, and the far part; None: not worth a page."""
        window, pace = self.request.window, self.pace
        if pace is None or self.pages < _LEAST_PAGES:
            return None
        middle = window.start + SECOND * math.ceil(pace * min(self.pages**_REACH, self.pages / 2) / SECOND)
        if middle >= window.end:
            return None
        near = replace(self.request, window=Window(window.start, middle))
        far = ScanRequest(by=self.request.by, window=Window(middle, window.end))
        return _Waiting(window.start, near, pace), _Waiting(middle, far)


class ScanScheduler:
    """The windows of a run, waiting and under way.

    Args:
        by: The time that the windows bound.
        windows: What to scan, disjoint.
        workers: Scans that may be under way at once.
    """

    def __init__(self, by: Field, windows: Iterable[Window], workers: int) -> None:
        self._by = by
        self._workers = workers
        self._under_way: set[Window] = set()
        self._waiting: list[_Waiting] = []
        for window in windows:
            self._split_evenly(window, min(workers, max(1, (window.end - window.start) // _DAY)))

    @property
    def has_idle_workers(self) -> bool:
        """Whether a worker may find a window later, though no scan has ended."""
        return 0 < len(self._under_way) < self._workers

    @property
    def outstanding(self) -> list[Window]:
        """The windows that wait or are under way."""
        return [*self._under_way, *(waiting.request.window for waiting in self._waiting)]

    def next(self, spare_requests: int) -> ScanRequest | None:
        """The next window for a worker; None where all windows are under way, or more scans would be no faster.

        Args:
            spare_requests: How many requests the quota lets out at once beyond those that the scans under way make.
                One scan is under way whatever it says.
        """
        idle = self._workers - len(self._under_way)
        if idle < 1 or (self._under_way and not spare_requests):
            return None
        while len(self._waiting) < min(idle, spare_requests) and self._split_fullest():
            pass
        if not self._waiting:
            return None
        request = heapq.heappop(self._waiting).request
        self._under_way.add(request.window)
        return request

    def finish(self, request: ScanRequest, result: ScanResult) -> None:
        """Take note that a scan has ended; its remainder waits."""
        self._under_way.remove(request.window)
        remainder = result.remainder
        if remainder is None:
            return
        if remainder.window.start > request.window.start:
            pace = None if result.pace is None else max(result.pace, _FASTEST)
            heapq.heappush(self._waiting, _Waiting(remainder.window.start, remainder, pace))
        else:
            # Nothing is proven before the end of a window that the service does not sort.
            self._split_evenly(remainder.window, max(2, self._workers))

    def abandon(self, request: ScanRequest) -> None:
        """Take note that a scan has failed."""
        self._under_way.remove(request.window)

    def _split_evenly(self, window: Window, parts: int) -> None:
        for part in window.split(parts):
            heapq.heappush(self._waiting, _Waiting(part.start, ScanRequest(by=self._by, window=part)))

    def _split_fullest(self) -> bool:
        """Split the fullest window that waits, and return whether one was worth it."""
        fullest = max(self._waiting, key=lambda waiting: waiting.pages, default=None)
        parts = fullest.split() if fullest else None
        if fullest and parts:
            self._waiting.remove(fullest)
            self._waiting.extend(parts)
            heapq.heapify(self._waiting)
        return parts is not None
