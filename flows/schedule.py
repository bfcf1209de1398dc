"""Which window to scan next. No clock and no threads of its own.

Windows wait in order of their start, so that partitions fill one after the other and little is held in memory.
What a scan has still to read is where the image sets are: while a worker has nothing to do, the fullest such rest is
cut in two, of the scans under way too, which go on with the near part. Nobody knows
whether the rows reach on for a second or for a year; so the cut lies between the pace at which the scan goes and the
end of its window on a logarithmic scale, and nearer to the end, at most in the middle, the more often the far part of
a cut has turned out to hold rows. A dense minute spreads over the workers after a few cuts, steady arrivals after
fewer, and an empty year is left in one piece, which costs one request. Each cut costs about a page.
"""

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from connectors.healthimaging.scan import Rest
from connectors.windows import SECOND, Window

_DAY: Final = timedelta(days=1)
_LEAST_PAGES: Final = 4
"""Pages that a window holds at least, at its pace, to be cut: the tail of a run is not worth more requests."""
_LEAST_SECONDS: Final = 2
"""Seconds beyond those pages that a window is long at least, to be cut."""
_REACH: Final = 0.6
"""Where a window is cut first, between the pace of its pages (0) and its end (1), on a logarithmic scale."""
_LEAST_REACH: Final = 0.4
_LEARNED: Final = 0.1
"""How much that changes with each far part that had rows, or had none."""
_FASTEST: Final = SECOND / 50
"""The least pace that is believed: image sets of one import job share their time, thousands do not."""


class Scans(Protocol):
    """The scans under way, as far as a part of them can be taken over."""

    def rests(self) -> Mapping[Window, Rest]:
        """What they have still to read, by the window that each was given."""
        ...

    def shorten(self, window: Window, end: datetime) -> bool:
        """End the window of one earlier; whether it does."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class _Part:
    """A window to read; the pace is the time that a page before it took up, None where unknown."""

    window: Window
    pace: timedelta | None = field(compare=False, default=None)

    @property
    def pages(self) -> float:
        """What the window holds if the rows go on at the same pace to its end; 0 where nothing is known."""
        return (self.window.end - self.window.start) / self.pace if self.pace else 0.0

    @property
    def is_worth_a_cut(self) -> bool:
        """A cut costs the pages of a second, since each search takes in the second before its window."""
        return self.pace is not None and self.pages >= _LEAST_PAGES + _LEAST_SECONDS * (SECOND / self.pace)


class Schedule:
    """The windows of a run, waiting and under way.

    Args:
        windows: What to scan, disjoint.
        workers: Scans that may be under way at once.
        scans: Those under way.
    """

    def __init__(self, windows: Iterable[Window], workers: int, scans: Scans) -> None:
        self._workers = workers
        self._scans = scans
        self._under_way: dict[Window, Window] = {}
        self._far: set[Window] = set()
        self._reach = _REACH
        self._waiting: list[_Part] = [
            _Part(part) for window in windows for part in window.split(min(workers, _days(window)))
        ]
        heapq.heapify(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._under_way

    @property
    def idle(self) -> int:
        """Workers for which no window waits."""
        return max(self._workers - len(self._under_way) - len(self._waiting), 0)

    @property
    def is_short(self) -> bool:
        """Whether workers have nothing to do while others have."""
        return bool(self._under_way) and self.idle > 0

    @property
    def outstanding(self) -> list[Window]:
        """The windows that wait or are under way."""
        return [*self._under_way.values(), *(waiting.window for waiting in self._waiting)]

    def take(self, *, may_cut: bool = True) -> Window | None:
        """The next window for an idle worker; None where all work is under way or all workers are busy.

        Args:
            may_cut: Whether more scans side by side would make the run faster.
        """
        idle = self._workers - len(self._under_way)
        if may_cut and len(self._waiting) < idle:
            self._cut_fullest()
        if not self._waiting or idle < 1:
            return None
        window = heapq.heappop(self._waiting).window
        self._under_way[window] = window
        return window

    def finish(self, window: Window, remainder: Window | None, pace: timedelta | None = None) -> None:
        """A scan has ended; its remainder waits.

        Args:
            window: What was scanned.
            remainder: What is left of it.
            pace: The time that a page took up; None where there were no rows.
        """
        del self._under_way[window]
        if window in self._far:
            self._far.remove(window)
            self._reach = max(self._reach - _LEARNED, _LEAST_REACH) if pace is None else min(self._reach + _LEARNED, 1)
        if remainder is None:
            return
        if remainder.start > window.start:
            heapq.heappush(self._waiting, _Part(remainder, None if pace is None else max(pace, _FASTEST)))
        else:
            # Nothing could be proven before the end was reached: only shorter windows help.
            for part in remainder.split(max(2, self._workers)):
                heapq.heappush(self._waiting, _Part(part))

    def abandon(self, window: Window) -> None:
        """A scan has failed."""
        del self._under_way[window]
        self._far.discard(window)

    def _cut_fullest(self) -> None:
        """Cut what is fullest in two, if it is worth it.

        What waits is not cut again before a scan has shown that there are rows.
        """
        under_way = {
            _Part(rest.window, max(rest.pace, _FASTEST)): given
            for given, rest in self._scans.rests().items()
            if given in self._under_way
        }
        worth_it = [part for part in [*self._waiting, *under_way] if part.is_worth_a_cut]
        fullest = max(worth_it, key=lambda part: part.pages, default=None)
        if fullest is None or fullest.pace is None:
            return
        start, end = fullest.window.start, fullest.window.end
        pages = min(fullest.pages**self._reach, fullest.pages / 2)
        middle = start + SECOND * math.ceil(fullest.pace * pages / SECOND)
        given = under_way.get(fullest)
        if given is None:
            self._waiting.remove(fullest)
            self._waiting.append(_Part(Window(start, middle)))
            heapq.heapify(self._waiting)
        elif self._scans.shorten(given, middle):
            self._under_way[given] = Window(self._under_way[given].start, middle)
        else:
            return
        far = Window(middle, end)
        self._far.add(far)
        heapq.heappush(self._waiting, _Part(far))


def _days(window: Window) -> int:
    return max(1, (window.end - window.start) // _DAY)
