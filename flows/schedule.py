"""Which window to scan next. Pure: no clock, no threads.

Windows wait in order of their start, so that partitions fill one after the other and little is held in memory.
The rest of a scan whose budget is spent is where the image sets are: while workers are idle it is split, in
strides that double from the pace at which the scan went on, so that a dense minute spreads over the workers and
an empty year is left in one piece, which costs one request.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from connectors.windows import SECOND, Window

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """A window that waits; the pace is the time that a full scan before it took up, None where unknown."""

    window: Window
    pace: timedelta | None = field(compare=False, default=None)


class Schedule:
    """The windows of a run, waiting and under way.

    Args:
        windows: What to scan, disjoint.
        workers: Scans that may be under way at once.
    """

    def __init__(self, windows: Iterable[Window], workers: int) -> None:
        self._workers = workers
        self._under_way: set[Window] = set()
        self._waiting: list[_Waiting] = [
            _Waiting(part) for window in windows for part in window.split(min(workers, _days(window)))
        ]
        heapq.heapify(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._under_way

    @property
    def outstanding(self) -> list[Window]:
        """The windows that wait or are under way."""
        return [*self._under_way, *(waiting.window for waiting in self._waiting)]

    def take(self) -> Window | None:
        """The next window for an idle worker; None where all work is under way or all workers are busy."""
        idle = self._workers - len(self._under_way)
        if not self._waiting or idle < 1:
            return None
        if len(self._waiting) < idle:
            self._spread(idle)
        window = heapq.heappop(self._waiting).window
        self._under_way.add(window)
        return window

    def finish(self, window: Window, remainder: Window | None) -> None:
        """A scan has ended; its remainder waits."""
        self._under_way.remove(window)
        if remainder is None:
            return
        proven = remainder.start - window.start
        if proven:
            heapq.heappush(self._waiting, _Waiting(remainder, proven))
        else:
            # Nothing could be proven before the end was reached: only shorter windows help.
            for part in remainder.split(max(2, self._workers)):
                heapq.heappush(self._waiting, _Waiting(part))

    def abandon(self, window: Window) -> None:
        """A scan has failed."""
        self._under_way.remove(window)

    def _spread(self, workers: int) -> None:
        """Split remainders until there is work for so many workers, or none can be split."""
        while len(self._waiting) < workers:
            splittable = [w for w in self._waiting if w.pace and w.window.seconds > 1]
            if not splittable:
                return
            longest = max(splittable, key=lambda w: w.window.seconds)
            self._waiting.remove(longest)
            self._waiting.extend(_in_strides(longest, workers - len(self._waiting)))
            heapq.heapify(self._waiting)


def _in_strides(waiting: _Waiting, parts: int) -> list[_Waiting]:
    """The window in at most so many parts, each twice as long as the one before; the last is the rest."""
    stride = max(waiting.pace or SECOND, SECOND)
    start, end = waiting.window.start, waiting.window.end
    pieces: list[Window] = []
    while len(pieces) < parts - 1 and start + stride < end:
        pieces.append(Window(start, start + stride))
        start += stride
        stride *= 2
    # A part that has been cut off is not split again before a scan has shown that it is dense.
    return [_Waiting(piece) for piece in (*pieces, Window(start, end))]


def _days(window: Window) -> int:
    return max(1, (window.end - window.start) // _DAY)
