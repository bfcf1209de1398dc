"""A run simulated: the real schedule, walks and limiter over given times, on a clock that only requests move.

No HTTP and no threads: workers are events in a queue, and a page is there when its latency has passed.
"""

import heapq
import itertools
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search
from ahi_catalog.connectors.healthimaging.scan import Rest, Scanner
from ahi_catalog.connectors.healthimaging.source import Tally
from ahi_catalog.connectors.healthimaging.walk import Walk
from ahi_catalog.connectors.settings import PAGE_ROWS, Quota
from ahi_catalog.connectors.windows import Window, to_epoch_microseconds
from ahi_catalog.pipeline.engine import LOOK_SECONDS
from ahi_catalog.pipeline.handing_back import HandingBack
from ahi_catalog.pipeline.scan_scheduler import Schedule

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a simulated run came to.

    Attributes:
        proven: Ranges that scans proved.
        rows: Image sets in them, each counted as often as it was handed out.
        requests: Made.
        scans: Made.
        seconds: From the first request to the last answer.
        idle: Share of the workers' time in which they had no window, while the quota had room.
    """

    proven: list[Window]
    rows: int
    requests: int
    scans: int
    seconds: float
    idle: float


class TimesOnly:
    """A `Fetch` that sorts: image sets are nothing but their createdAt.

    Args:
        times: Epoch microseconds, sorted.
    """

    def __init__(self, times: NDArray[np.int64]) -> None:
        self._times = times
        self.requests = 0

    def __call__(self, search: Search, token: str | None, tally: Tally) -> Page:
        self.requests += 1
        tally.requests += 1
        assert search.bounds is not None
        low, high = self.span(*search.bounds)
        start = low if token is None else int(token)
        end = min(start + PAGE_ROWS, high)
        moments = tuple(self._times[start:end].tolist())
        return Page(
            rows=(),
            ids=tuple(map(str, range(start, end))),
            created=moments,
            updated=moments,
            next_token=str(end) if end < high else None,
            sort=("createdAt", "ASC"),
            served_at=_NOW,
        )

    def span(self, start: datetime, end: datetime) -> tuple[int, int]:
        """The places of the first time not before the start, and of the first not before the end."""
        low, high = np.searchsorted(self._times, [to_epoch_microseconds(start), to_epoch_microseconds(end)])
        return int(low), int(high)


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.delay = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, _: threading.Event, seconds: float) -> bool:
        self.delay = seconds
        return False


class _Run:
    def __init__(self, times: NDArray[np.int64], window: Window, workers: int, latency: float, quota: Quota) -> None:
        self.clock = _Clock()
        self.limiter = Limiter(quota, clock=self.clock, wait=self.clock.wait)
        self.schedule = Schedule([window], workers, self)
        self.fetch = TimesOnly(times)
        self.handing_back = HandingBack()
        self.latency = latency
        self.scanner = Scanner(
            self.fetch,
            settle=timedelta(),
            budget=40,
            is_wanted=lambda: self.limiter.room > 0 and self.handing_back.take(),
        )
        self.answers: list[tuple[float, int, Window, Walk]] = []
        self.number = itertools.count()
        self.proven: list[Window] = []
        self.scans = 0
        self.idle = 0.0
        self.looked_at = 0.0
        self.workers = workers

    def start(self) -> None:
        self.looked_at = self.clock.now
        for window in self.schedule.take_all(self.limiter.room):
            self.scans += 1
            self.ask(window, self.scanner.begin(Field.CREATED_AT, window))
        self.handing_back.ask(self.schedule.idle)

    def rests(self) -> dict[Window, Rest]:
        return {window: rest for _, _, window, walk in self.answers if (rest := walk.rest) is not None}

    def shorten(self, window: Window, end: datetime) -> bool:
        return any(walk.shorten(end) for _, _, given, walk in self.answers if given == window)

    def ask(self, window: Window, walk: Walk) -> None:
        self.clock.delay = 0.0
        self.limiter.acquire(threading.Event())
        heapq.heappush(
            self.answers, (self.clock.now + self.clock.delay + self.latency, next(self.number), window, walk)
        )

    def run(self) -> None:
        self.start()
        while self.answers:
            answered_at, look_at = self.answers[0][0], self.looked_at + LOOK_SECONDS
            if self.schedule.is_short and look_at < answered_at:
                self.go_on_to(look_at)
                self.start()
                continue
            self.go_on_to(answered_at)
            self.limiter.answered(self.latency)
            _, _, window, walk = heapq.heappop(self.answers)
            walk.step()
            if self.scanner.is_over(walk):
                scan = self.scanner.end(Field.CREATED_AT, walk)
                if scan.proven:
                    self.proven.append(scan.proven)
                self.schedule.finish(window, scan.remainder, scan.pace)
                self.start()
            else:
                self.ask(window, walk)

    def go_on_to(self, moment: float) -> None:
        if self.limiter.room:
            self.idle += (moment - self.clock.now) * (self.workers - len(self.answers))
        self.clock.now = moment


def simulate(
    times: NDArray[np.int64],
    window: Window,
    *,
    workers: int = 8,
    latency: float = 0.1,
    quota: Quota | None = None,
) -> Simulated:
    """Run the schedule to its end.

    Args:
        times: createdAt of the image sets, epoch microseconds, sorted.
        window: What to read.
        workers: Scans side by side.
        latency: Seconds that an answer takes.
        quota: Request rate and burst.
    """
    run = _Run(times, window, workers, latency, quota or Quota())
    run.run()
    spans = [run.fetch.span(proven.start, proven.end) for proven in run.proven]
    return Simulated(
        proven=run.proven,
        rows=sum(high - low for low, high in spans),
        requests=run.fetch.requests,
        scans=run.scans,
        seconds=run.clock.now,
        idle=run.idle / (workers * run.clock.now),
    )
