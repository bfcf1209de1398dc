"""Which window to scan next. No clock and no threads of its own.

Windows wait in order of their start, so that partitions fill one after the other and little is held in memory, and
no more of them are under way than the quota has room for. What a scan has still to read is where the image sets are:
where nothing waits, the fullest such rest is cut in two, while its scan goes on with the near part.

Nobody knows whether the rows reach on for a second or for a year; so the cut lies between the pace at which the scan
goes and the end of its window on a logarithmic scale, and nearer to the end, at most in the middle, the more often the
far part of a cut has turned out to hold rows. A dense minute spreads over the workers after a few cuts, steady
arrivals after fewer, and an empty year is left in one piece, which costs one request. Each cut costs about a page.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from ahi_catalog.connectors.healthimaging.scan import Rest
from ahi_catalog.connectors.windows import SECOND, Window

_DAY: Final = timedelta(days=1)
_LEAST_PAGES: Final = 4
"""Pages that a window holds at least, at its pace, to be cut: the tail of a run is not worth more requests."""
_LEAST_SECONDS: Final = 2
"""Seconds beyond those pages that a window is long at least, to be cut."""
_REACH: Final = 0.6
"""Where a window is cut first, between the pace of its pages (0) and its end (1), on a logarithmic scale."""
_LEAST_REACH: Final = 0.4
_LEARNED: Final = 0.05
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

    def after(self, pages: float) -> datetime:
        """Where so many of them end, on a whole second."""
        return self.window.start + SECOND * math.ceil((self.pace or timedelta()) * pages / SECOND)

    @property
    def is_worth_a_cut(self) -> bool:
        """A cut costs about a page, and a second or two are lost to windows of whole seconds."""
        return self.pace is not None and self.pages >= _LEAST_PAGES + _LEAST_SECONDS * (SECOND / self.pace)


class Schedule:
    """The windows of a run, waiting and under way.

    Args:
        windows: What to scan, disjoint.
        workers: Scans that may be under way at once.
        scans: Those under way; None: they are out of reach, on other machines. Then what they hand back is cut.
    """

    def __init__(self, windows: Iterable[Window], workers: int, scans: Scans | None) -> None:
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
        """Whether another look may find a window for a worker, though no scan has ended."""
        return self._scans is not None and 0 < len(self._under_way) < self._workers

    @property
    def outstanding(self) -> list[Window]:
        """The windows that wait or are under way."""
        return [*self._under_way.values(), *(waiting.window for waiting in self._waiting)]

    def take_all(self, room: int) -> Iterator[Window]:
        """The next windows for workers, as many as make the run faster; each is under way when the next is looked for.

        Args:
            room: How many more scans side by side would make the run faster.
        """
        while (window := self.take(has_room=room > 0)) is not None:
            room -= 1
            yield window

    def take(self, *, has_room: bool = True) -> Window | None:
        """The next window for a worker; None where all work is under way, or as much of it as makes the run fast.

        Args:
            has_room: Whether more scans side by side would make the run faster; one is always under way.
        """
        idle = self._workers - len(self._under_way)
        if idle < 1 or (self._under_way and not has_room):
            return None
        if self._scans is None:
            if len(self._waiting) < idle:
                self._cut_waiting()
        elif not self._waiting:
            self._cut_under_way(self._scans)
        if not self._waiting:
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

    def _cut_waiting(self) -> None:
        """Cut the fullest window that waits, if one is worth it; its parts not before a scan has found rows there."""
        part = _fullest(self._waiting)
        if part is not None:
            middle = self._middle(part)
            self._waiting.remove(part)
            self._waiting.append(_Part(Window(part.window.start, middle)))
            heapq.heapify(self._waiting)
            self._add_far(Window(middle, part.window.end))

    def _cut_under_way(self, scans: Scans) -> None:
        """Have a worker take over a part of what the fullest scan has still to read, if one is worth it."""
        rests = {
            _Part(rest.window, max(rest.pace, _FASTEST)): given
            for given, rest in scans.rests().items()
            if given in self._under_way
        }
        part = _fullest(rests)
        if part is not None:
            given, middle = rests[part], self._middle(part)
            if scans.shorten(given, middle):
                self._under_way[given] = Window(self._under_way[given].start, middle)
                self._add_far(Window(middle, part.window.end))

    def _middle(self, part: _Part) -> datetime:
        return part.after(min(part.pages**self._reach, part.pages / 2))

    def _add_far(self, far: Window) -> None:
        self._far.add(far)
        heapq.heappush(self._waiting, _Part(far))


def _fullest(parts: Iterable[_Part]) -> _Part | None:
    return max((part for part in parts if part.is_worth_a_cut), key=lambda part: part.pages, default=None)


def _days(window: Window) -> int:
    return max(1, (window.end - window.start) // _DAY)
