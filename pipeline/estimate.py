"""How many image sets a window holds, guessed from a few pages. Pure: asks through the function handed in.

A probe reads the page that begins at a moment: it counts up to fifty image sets, shows how many a second there are, and
skips whatever is empty before them. Where one second fills the page, as an import job does, half of the requests go on
reading it to its end. The stretch behind a page that would hold most at the rate of the densest page is probed next: in
its middle where rows were met at both ends, else between that rate and its end on a logarithmic scale, since nobody
knows whether rows go on for a second or a year.
"""

import math
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
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
_FEWEST: Final = 30
"""Guesses after which a steady one is believed."""
_SECOND: Final = 1_000_000  # microseconds
_MANY: Final = 10
"""Image sets in the last second of a page that are more than one study's."""
_SAMPLES: Final = 12
"""Seconds of more than a page that are read to their end; others are taken for their mean."""
_NEAR: Final = 4
"""Pages of nothing behind a probe's moment up to which rows count as going on; a stretch of fewer is known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Image sets in some windows.

    Attributes:
        rows: The best guess.
        least: Counted for sure.
        most: If rows went on at the rate of the densest pages wherever nobody looked.
        probes: Requests that this took.
        is_rough: Whether the guess may be off by several times, so that only `least` is to be told: there may be far
            more, or the last probes still changed it.
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
    """From the last second of a page, which may hold more than the page shows, to where another probe looked.

    Attributes:
        by: The time that bounds it.
        start: On a whole second.
        end: Not included.
        seen: Image sets of its first second.
        is_full: Whether that second may hold far more, as it has more than others on the page, or fills it.
        rate: Image sets a second on that page; None: it shows one second alone.
        densest: The same, or those of the last second.
        goes_on: Whether rows were met at its end too, at about that rate.
    """

    by: Field
    start: datetime
    end: datetime
    seen: int
    is_full: bool
    rate: float | None
    densest: float
    goes_on: bool = False

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


def estimate(
    fetch: Fetch, windows: Sequence[tuple[Field, Window]], *, probes: int, counts: RequestCounts | None = None
) -> Estimate:
    """Guess how many image sets windows hold, as far as pages here and there show, until more of them change nothing.

    Args:
        fetch: Asks the service for one page.
        windows: What to look into, and the time that bounds it; each takes a request, the first ones first.
        probes: Requests to spend at most.
        counts: Those that were spent before; None: none were.
    """
    looking = _Looking(fetch, counts or RequestCounts(), probes)
    looked_into = 0
    for by, window in windows:
        if looking.counts.requests < probes:
            looking.probe(by, window.start, window.end)
            looked_into += 1
    guesses = [looking.rows]
    while looking.counts.requests < probes and (len(guesses) < _FEWEST or looking.is_rough(guesses)):
        if not looking.refine():
            break
        guesses.append(looking.rows)
    return Estimate(
        rows=looking.rows,
        least=looking.least,
        most=looking.most,
        probes=looking.counts.requests,
        is_rough=looked_into < len(windows) or looking.is_rough(guesses),
    )


class _Looking:
    def __init__(self, fetch: Fetch, counts: RequestCounts, probes: int) -> None:
        self.counts = counts
        self._counted = 0
        self._stretches: list[_Stretch] = []
        self._fetch = fetch
        self._probes = probes
        self._read_on = 0
        self._densest: list[float] = []
        self._bunches: list[int] = []

    @property
    def least(self) -> int:
        return self._counted + sum(stretch.seen for stretch in self._stretches)

    @property
    def rows(self) -> int:
        """The guess, as far as was looked."""
        return self._counted + round(sum(map(self._guess, self._stretches)))

    @property
    def most(self) -> int:
        return self._counted + math.ceil(
            sum(max(self._guess(each), 0 if each.goes_on else self._most(each)) for each in self._stretches)
        )

    def is_rough(self, guesses: Sequence[int]) -> bool:
        """Whether the last half of the guesses is not steady, or there may be far more."""
        last = guesses[len(guesses) // 2 :] if self._next() else guesses[-1:]
        return self.most > _ROUGH * max(self.rows, PAGE_ROWS) or max(last) > _ROUGH * max(min(last), PAGE_ROWS)

    def probe(self, by: Field, start: datetime, end: datetime) -> datetime | None:
        """Read the page that begins at a moment; when its first row was, None where there is none."""
        search = Search(by, Window(start, end))
        page = self._fetch(search, None, self.counts)
        seen = sorted(page.moments(by))
        # How many image sets share a second, as those of an import job do, only its own pages show.
        is_sample = len(self._bunches) < _SAMPLES and 2 * self._read_on < self.counts.requests
        while is_sample and page.next_token and seen and seen[-1] - seen[0] < _SECOND:
            if self.counts.requests == self._probes:
                break
            page = self._fetch(search, page.next_token, self.counts)
            self._read_on += 1
            seen += sorted(page.moments(by))
        low, high = to_epoch_microseconds(start), to_epoch_microseconds(end)
        moments = [moment for moment in seen if low <= moment < high]
        is_cut = page.next_token is not None and bool(seen) and seen[-1] < high
        # What lies just before, which every search takes in, may fill the page alone: it is dense here.
        first, last = (_second(moments[0]), _second(moments[-1])) if moments else (start, start)
        if len(seen) > PAGE_ROWS:
            self._bunches.append(sum(moment < moments[0] + _SECOND for moment in moments))
        if is_cut and last + SECOND < end:
            by_second = Counter(map(_second, moments))
            in_last = by_second.pop(last, 0)
            is_full = in_last >= max(_MANY, min(2 * max(by_second.values(), default=0), PAGE_ROWS // 2))
            rate = by_second.total() / (last - first).total_seconds() if last > first else None
            densest = max(rate or 1, in_last if is_full else 0)
            insort(self._densest, densest)
            self._stretches.append(_Stretch(by, last, end, in_last, is_full, rate, densest))
            self._counted -= in_last
        self._counted += len(moments)
        return first if moments or is_cut else None

    def refine(self) -> bool:
        """Probe the stretch that may hold most; False where all are known well enough."""
        found = self._next()
        if found is None:
            return False
        stretch, middle = found
        end, stretch.end = stretch.end, middle
        known, went_on = len(self._stretches), stretch.goes_on
        first = self.probe(stretch.by, middle, end)
        near = timedelta(seconds=self._near / self._rate(stretch))
        stretch.goes_on = first is not None and first - middle < near
        for behind in self._stretches[known:]:
            # Rows that reached from the page before to here reach on, as far as anybody knows.
            behind.goes_on = went_on or stretch.goes_on
            if first and stretch.goes_on and stretch.rate and behind.rate:
                # Counted from the probe's moment, for nothing came before its page; of its last second half.
                counted = behind.rate * (behind.start - first).total_seconds() + behind.seen / 2
                behind.rate = counted / (behind.start - middle).total_seconds()
                stretch.rate = (stretch.rate + behind.rate) / 2
        return True

    @property
    def _bunch(self) -> float:
        """Image sets of a second that fills more than a page."""
        return fmean(self._bunches or [0])

    @property
    def _near(self) -> float:
        """Image sets, at the densest rate, that are too few to look for."""
        return max(_NEAR * PAGE_ROWS, 2 * self._bunch)

    def _next(self) -> tuple[_Stretch, datetime] | None:
        """The stretch that may hold most, and where to look into it; None where all are known well enough."""
        for stretch in sorted(self._stretches, key=self._most, reverse=True):
            if (middle := self._middle(stretch)) is not None:
                return stretch, middle
        return None

    def _most(self, stretch: _Stretch) -> float:
        return stretch.seconds * self._rate(stretch)

    def _rate(self, stretch: _Stretch) -> float:
        """Image sets a second at most: those of its page, or of the densest quarter of all pages."""
        return max(stretch.densest, self._densest[len(self._densest) * 3 // 4])

    def _guess(self, stretch: _Stretch) -> float:
        # The last second of a page that shows several of it is one of those that fill pages, where there are such.
        least = max(stretch.seen, self._bunch if stretch.is_full else 0)
        on = stretch.seconds * (stretch.rate or self._densest[-1])
        return max(least, on if stretch.goes_on else math.sqrt(self._most(stretch)))

    def _middle(self, stretch: _Stretch) -> datetime | None:
        most = self._most(stretch)
        if most < _NEAR * PAGE_ROWS:
            return None
        share = most / 2 if stretch.goes_on else math.sqrt(most * PAGE_ROWS)
        middle = floor_second(stretch.start + timedelta(seconds=share / self._rate(stretch)))
        return middle if stretch.start < middle < stretch.end else None


def _second(moment: int) -> datetime:
    return floor_second(from_epoch_microseconds(moment))
