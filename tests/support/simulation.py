"""A run simulated: the real scheduler, scans and limiter over given times, on a clock that only requests move.

No HTTP and no threads: a scan is a generator of its requests, and a page is there when its latency has passed.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.healthimaging.pages import PAGE_ROWS, Field, Page, Search
from ahi_catalog.connectors.healthimaging.scan import ScanRequest, ScanResult, scan
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.connectors.windows import Window, to_epoch_microseconds
from ahi_catalog.pipeline.engine import LOOK_SECONDS
from ahi_catalog.pipeline.scan_scheduler import ScanScheduler
from ahi_catalog.schemas import IMAGE_SETS

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ROWS = IMAGE_SETS.schema.empty_table()


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

    def __call__(self, search: Search, token: str | None, counts: RequestCounts) -> Page:
        self.requests += 1
        counts.requests += 1
        assert search.bounds is not None
        low, high = self.span(*search.bounds)
        start = low if token is None else int(token)
        end = min(start + PAGE_ROWS, high)
        moments = tuple(self._times[start:end].tolist())
        return Page(
            rows=_ROWS,
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
    def __init__(
        self, times: NDArray[np.int64], window: Window, *, workers: int, latency: float, quota: Quota, page_budget: int
    ) -> None:
        self.clock = _Clock()
        self.limiter = Limiter(quota, clock=self.clock, wait=self.clock.wait)
        self.scheduler = ScanScheduler(Field.CREATED_AT, [window], workers)
        self.fetch = TimesOnly(times)
        self.latency = latency
        self.page_budget = page_budget
        self.answers: list[tuple[float, int, Callable[[], None]]] = []
        self.number = itertools.count()
        self.proven: list[Window] = []
        self.scans = 0
        self.idle = 0.0
        self.looked_at = 0.0
        self.workers = workers

    def start(self) -> None:
        self.looked_at = self.clock.now
        while (request := self.scheduler.next(self.limiter.spare)) is not None:
            self.scans += 1
            before = self.fetch.requests
            result = scan(self.fetch, request, page_budget=self.page_budget, protect=lambda rows: rows)
            self.ask(self.fetch.requests - before, request, result)

    def ask(self, left: int, request: ScanRequest, result: ScanResult) -> None:
        """Let the next of a scan's requests out; its last answer ends the scan."""
        self.clock.delay = 0.0
        self.limiter.acquire(threading.Event())

        def answer() -> None:
            if left > 1:
                self.ask(left - 1, request, result)
                return
            if result.proven:
                self.proven.append(result.proven)
            self.scheduler.finish(request, result)
            self.start()

        heapq.heappush(self.answers, (self.clock.now + self.clock.delay + self.latency, next(self.number), answer))

    def run(self) -> None:
        self.start()
        while self.answers:
            answered_at, look_at = self.answers[0][0], self.looked_at + LOOK_SECONDS
            if self.scheduler.has_idle_workers and look_at < answered_at:
                self.go_on_to(look_at)
                self.start()
                continue
            self.go_on_to(answered_at)
            heapq.heappop(self.answers)[2]()

    def go_on_to(self, moment: float) -> None:
        if self.limiter.spare:
            self.idle += (moment - self.clock.now) * (self.workers - len(self.answers))
        self.clock.now = moment


def simulate(
    times: NDArray[np.int64],
    window: Window,
    *,
    workers: int = 8,
    latency: float = 0.1,
    quota: Quota | None = None,
    page_budget: int = 4,
) -> Simulated:
    """Run the schedule to its end.

    Args:
        times: createdAt of the image sets, epoch microseconds, sorted.
        window: What to read.
        workers: Scans side by side.
        latency: Seconds that an answer takes.
        quota: Request rate and burst.
        page_budget: Pages after which a scan hands its remainder back.
    """
    run = _Run(times, window, workers=workers, latency=latency, quota=quota or Quota(), page_budget=page_budget)
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
