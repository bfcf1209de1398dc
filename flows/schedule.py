"""Which window to scan next. Pure: no clock, no threads.

Windows wait in order of their start, so that partitions fill one after the other and little is held in memory.
The rest of a scan is where the image sets are: while workers have nothing to do it is cut in two. Nobody knows
whether the rows reach on for a second or for a year; so the cut lies between the pace at which the scan went and
the end of the window on a logarithmic scale, and nearer to the end, at most in the middle, the more often the far
part of a cut has turned out to hold rows. A dense minute spreads over the workers after a few cuts, steady arrivals
after fewer, and an empty year is left in one piece, which costs one request. Each cut costs about a page; a rest that
is not cut is scanned on from the page where the scan before it stopped, which costs nothing.
"""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from connectors.windows import SECOND, Window

_DAY: Final = timedelta(days=1)
_LEAST_PAGES: Final = 8
"""Pages that a window holds at least, at its pace, to be cut: the tail of a run is not worth more requests."""
_LEAST_SECONDS: Final = 10
"""Seconds beyond those pages that a window is long at least, to be cut."""
_REACH: Final = 0.6
"""Where a window is cut first, between the pace of its pages (0) and its end (1), on a logarithmic scale."""
_LEAST_REACH: Final = 0.4
_LEARNED: Final = 0.1
"""How much that changes with each far part that had rows, or had none."""
_FASTEST: Final = SECOND / 50
"""The least pace that is believed: image sets of one import job share their time, thousands do not."""


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """A window that waits; the pace is the time that a page before it took up, None where unknown."""

    window: Window
    pace: timedelta | None = field(compare=False, default=None)

    @property
    def pages(self) -> float:
        """What the window holds if the rows go on at the same pace to its end; 0 where nothing is known."""
        return (self.window.end - self.window.start) / self.pace if self.pace else 0.0


class Schedule:
    """The windows of a run, waiting and under way.

    Args:
        windows: What to scan, disjoint.
        workers: Scans that may be under way at once.
    """

    def __init__(self, windows: Iterable[Window], workers: int) -> None:
        self._workers = workers
        self._under_way: set[Window] = set()
        self._far: set[Window] = set()
        self._reach = _REACH
        self._waiting: list[_Waiting] = [
            _Waiting(part) for window in windows for part in window.split(min(workers, _days(window)))
        ]
        heapq.heapify(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._under_way

    @property
    def idle(self) -> int:
        """Workers for which no window waits; so many scans should hand back their rest."""
        return max(self._workers - len(self._under_way) - len(self._waiting), 0)

    @property
    def outstanding(self) -> list[Window]:
        """The windows that wait or are under way."""
        return [*self._under_way, *(waiting.window for waiting in self._waiting)]

    def take(self, *, may_cut: bool = True) -> Window | None:
        """The next window for an idle worker; None where all work is under way or all workers are busy.

        Args:
            may_cut: Whether more scans side by side would make the run faster.
        """
        idle = self._workers - len(self._under_way)
        if not self._waiting or idle < 1:
            return None
        if may_cut and len(self._waiting) < idle:
            self._cut_fullest()
        window = heapq.heappop(self._waiting).window
        self._under_way.add(window)
        return window

    def finish(self, window: Window, remainder: Window | None, pace: timedelta | None = None) -> None:
        """A scan has ended; its remainder waits.

        Args:
            window: What was scanned.
            remainder: What is left of it.
            pace: The time that a page took up; None where there were no rows.
        """
        self._under_way.remove(window)
        if window in self._far:
            self._far.remove(window)
            self._reach = max(self._reach - _LEARNED, _LEAST_REACH) if pace is None else min(self._reach + _LEARNED, 1)
        if remainder is None:
            return
        if remainder.start > window.start:
            heapq.heappush(self._waiting, _Waiting(remainder, None if pace is None else max(pace, _FASTEST)))
        else:
            # Nothing could be proven before the end was reached: only shorter windows help.
            for part in remainder.split(max(2, self._workers)):
                heapq.heappush(self._waiting, _Waiting(part))

    def abandon(self, window: Window) -> None:
        """A scan has failed."""
        self._under_way.remove(window)
        self._far.discard(window)

    def _cut_fullest(self) -> None:
        """Cut the fullest window in two, if it is worth it.

        The parts are not cut again before a scan has shown that there are rows.
        """
        fullest = max(self._waiting, key=lambda waiting: waiting.pages)
        # A cut costs the pages of a second, since each search takes in the second before its window.
        if fullest.pace is None or fullest.pages < _LEAST_PAGES + _LEAST_SECONDS * (SECOND / fullest.pace):
            return
        start, end = fullest.window.start, fullest.window.end
        pages = min(fullest.pages**self._reach, fullest.pages / 2)
        middle = start + SECOND * math.ceil(fullest.pace * pages / SECOND)
        if middle < end:
            far = Window(middle, end)
            self._far.add(far)
            self._waiting.remove(fullest)
            self._waiting += [_Waiting(Window(start, middle)), _Waiting(far)]
            heapq.heapify(self._waiting)


def _days(window: Window) -> int:
    return max(1, (window.end - window.start) // _DAY)
