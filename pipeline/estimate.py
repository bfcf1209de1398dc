"""How many image sets a window holds, guessed from a few pages. Pure: asks through the function handed in.

A probe reads the page that begins at a moment: it counts up to fifty image sets, shows how far apart they are, and
skips whatever is empty before them. The stretch behind a page is guessed from its pace, and the stretch with the
greatest guess is probed next: in its middle where rows were met at both ends, else between the pace and its end on
a logarithmic scale, since nobody knows whether rows go on for a second or a year.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import PAGE_ROWS, Field, Search
from ahi_catalog.connectors.healthimaging.scan import Fetch
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.connectors.windows import SECOND, Window, floor_second, from_epoch_microseconds, to_epoch_microseconds

WASTE: Final = 0.02
"""Requests that a run makes beyond the pages that its rows fill (docs/performance.md)."""
_ROUGH: Final = 1.5
"""By how much a guess may change, or be too low, and still be told."""
_NEAR: Final = 4
"""Pages of nothing behind a probe's moment up to which rows count as going on."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Image sets in some windows.

    Attributes:
        rows: The best guess.
        least: Counted for sure.
        most: If rows went on at the pace of the page before wherever nobody looked.
        probes: Requests that this took.
        is_rough: Whether the guess may be off by several times, so that only `least` is to be told: image sets come
            in bursts, and the last probes still changed it.
    """

    rows: int
    least: int
    most: int
    probes: int
    is_rough: bool = False

    @property
    def requests(self) -> int:
        """What reading them takes."""
        return math.ceil(math.ceil(self.rows / PAGE_ROWS) * (1 + WASTE)) + 1

    def minutes(self, quota: Quota) -> float:
        """How long reading them takes at a quota."""
        return max(self.requests - quota.burst, 0) / quota.rate / 60

    def dollars(self, per_thousand: float) -> float:
        """What the requests cost at a price for a thousand."""
        return self.requests / 1000 * per_thousand


@dataclass(slots=True)
class _Stretch:
    """Behind a page: the time that one row takes up at its start, and whether rows were met at its end too."""

    start: datetime
    end: datetime
    pace: timedelta
    goes_on: bool

    @property
    def most(self) -> float:
        return (self.end - self.start) / self.pace

    @property
    def rows(self) -> float:
        return self.most if self.goes_on else math.sqrt(self.most)


def estimate(
    fetch: Fetch, windows: Sequence[tuple[Field, Window]], *, probes: int, counts: RequestCounts | None = None
) -> Estimate:
    """Guess how many image sets windows hold, as far as pages here and there show.

    Args:
        fetch: Asks the service for one page.
        windows: What to look into, and the time that bounds it; each takes a request, the first ones first.
        probes: Requests to spend at most.
        counts: Those that were spent before; None: none were.
    """
    looking = _Looking(fetch, counts or RequestCounts())
    looked_into = windows[: max(probes - looking.counts.requests, 0)]
    for by, window in looked_into:
        looking.probe(by, window.start, window.end)
    guesses = [looking.rows]
    while looking.counts.requests < probes and looking.refine():
        guesses.append(looking.rows)
    last = guesses[len(guesses) // 2 :]
    most = looking.counted + math.ceil(sum(stretch.most for _, stretch in looking.stretches))
    return Estimate(
        rows=looking.rows,
        least=looking.counted,
        most=most,
        probes=looking.counts.requests,
        is_rough=len(looked_into) < len(windows)
        or most > _ROUGH * max(looking.rows, PAGE_ROWS)
        or max(last) > _ROUGH * max(min(last), PAGE_ROWS),
    )


class _Looking:
    def __init__(self, fetch: Fetch, counts: RequestCounts) -> None:
        self.counts = counts
        self.counted = 0
        self.stretches: list[tuple[Field, _Stretch]] = []
        self._fetch = fetch

    @property
    def rows(self) -> int:
        """The guess, as far as was looked."""
        return self.counted + round(sum(stretch.rows for _, stretch in self.stretches))

    def probe(self, by: Field, start: datetime, end: datetime) -> datetime | None:
        """Read the page that begins at a moment; when its first row was, None where there is none."""
        page = self._fetch(Search(by, Window(start, end)), None, self.counts)
        low, high = to_epoch_microseconds(start), to_epoch_microseconds(end)
        seen = sorted(page.moments(by))
        moments = [moment for moment in seen if low <= moment < high]
        self.counted += len(moments)
        if not moments:
            if page.next_token is None or not seen or seen[-1] >= high:
                return None
            # What lies just before, which every search takes in, fills the page alone: it is dense here.
            moments = [low]
        behind = floor_second(from_epoch_microseconds(moments[-1])) + SECOND
        if page.next_token is not None and behind < end:
            # The rows of the last moment, many where rows come in bunches, take up time that the page does not show.
            before = sum(moment < seen[-1] for moment in seen)
            pace = timedelta(microseconds=max((seen[-1] - seen[0]) // max(before, 1), 1_000))
            self.stretches.append((by, _Stretch(behind, end, pace, goes_on=False)))
        return from_epoch_microseconds(moments[0])

    def refine(self) -> bool:
        """Probe the stretch of which least is known; False where all are known well enough."""
        open_ = [(by, stretch) for by, stretch in self.stretches if self._middle(stretch) is not None]
        if not open_:
            return False
        by, stretch = max(open_, key=lambda found: found[1].most)
        middle = self._middle(stretch)
        assert middle is not None  # noqa: S101  # chosen so
        end, stretch.end = stretch.end, middle
        known = len(self.stretches)
        first = self.probe(by, middle, end)
        went_on, stretch.goes_on = (
            stretch.goes_on,
            first is not None and first - middle < _NEAR * PAGE_ROWS * stretch.pace,
        )
        for _, behind in self.stretches[known:]:
            # Rows that reached from the page before to here reach on, as far as anybody knows.
            behind.goes_on = went_on or stretch.goes_on
        return True

    @staticmethod
    def _middle(stretch: _Stretch) -> datetime | None:
        pages = stretch.most / PAGE_ROWS
        if pages < _NEAR:
            return None
        share = pages / 2 if stretch.goes_on else pages**0.5
        middle = floor_second(stretch.start + stretch.pace * PAGE_ROWS * share)
        return middle if stretch.start < middle < stretch.end else None
