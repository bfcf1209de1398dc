"""A scan: one window read page by page, and what its pages prove.

Rules (docs/design.md, "Reading the service"):

- The service sorts by the time that bounds the window, oldest first, as long as it says so and every page bears it
  out. Then every whole second before the last row is proven: each of its image sets is among the rows. A scan whose
  page budget is spent hands back the remainder, with the page token by which the next scan goes on: no page is asked
  for twice.
- Where the service does not sort (the API's older reference knows no ``sort``), nothing is proven before the end of
  the window. A window of a day or less is read to its end; a longer one is handed back whole, to be split. Rows that
  are updated meanwhile move to the front and may be passed over; the change feed brings them (changes.py).
- A page token that is rejected, or that repeats, restarts the scan from the last proven second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.errors import InvalidRequestError, SourceError, StoppedError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search
from ahi_catalog.connectors.rows import lies_in, pick
from ahi_catalog.connectors.windows import (
    SECOND,
    Window,
    floor_second,
    format_time,
    from_epoch_microseconds,
    to_epoch_microseconds,
)
from ahi_catalog.schemas import IMAGE_SETS, Protect, Rows, flatten, unknown_fields, unparsable

_DAY: Final = timedelta(days=1)
_RESTARTS: Final = 5
"""Restarts in a row without a newly proven second before the scan fails."""

Fetch = Callable[[Search, str | None, RequestCounts], Page]
"""Asks the service for one page of a search: the first, or the one that a page token names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """Where a scan goes on that another one began.

    Attributes:
        search: What the page token belongs to; its window may reach beyond the one to scan.
        token: The page token of the last page that was read.
        last: Time of the last row that was read, epoch microseconds.
        rows: Rows that were read and are not proven yet, those of the last second.
    """

    search: Search
    token: str
    last: int
    rows: pa.Table = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """A window to scan.

    Attributes:
        by: The time that the window bounds.
        window: What to read.
        continuation: Of the scan that read up to the window's start; None: from its first page.
    """

    by: Field
    window: Window
    continuation: Continuation | None = None


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """What a scan has come to.

    Attributes:
        rows: Image sets of the proven range, under the PHI policy; an id may appear twice.
        proven: The range whose every image set is among the rows, a prefix of the window; None: nothing yet.
        remainder: What is still to scan; None: the window is complete.
        is_sorted: Whether the service answered oldest first.
        pace: The time that a page of rows takes up where the scan ended; None where there were no rows.
        counts: Requests made.
        served_at: The service's clock at the first page; aware UTC, cut to the second. None: no page was read.
        unparsable: Values sent that their column cannot hold, by column; counted as the service sent them.
        unknown_fields: In how many rows the service sent which field that the declaration does not know.
    """

    rows: pa.Table = field(repr=False)
    proven: Window | None
    remainder: ScanRequest | None
    is_sorted: bool
    pace: timedelta | None
    counts: RequestCounts
    served_at: datetime | None
    unparsable: Mapping[str, int] = field(default_factory=dict)
    unknown_fields: Mapping[str, int] = field(default_factory=dict)


def scan(
    fetch: Fetch,
    request: ScanRequest,
    *,
    page_budget: int,
    protect: Protect,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ScanResult:
    """Read a window, or the first part of it.

    Args:
        fetch: Asks the service for one page.
        request: What to read.
        page_budget: Pages after which the remainder is handed back.
        protect: Puts rows under the catalog's PHI policy; no row leaves the scan without it.
        is_stopping: Whether the run was asked to stop; looked at between pages.

    Raises:
        SourceError: The service refuses, or its answers make no sense.
    """
    reading = _Reading(request, protect)
    while not (reading.is_complete or reading.is_spent(page_budget) or is_stopping()):
        try:
            page = fetch(reading.search, reading.token, reading.counts)
        except InvalidRequestError:
            if reading.token is None:
                raise
            reading.restart()
        except StoppedError:
            break  # What was read so far still proves its seconds.
        else:
            reading.add(page)
    return reading.result()


class _Reading:
    """A scan under way. Its window is proven up to ``proven_end``, which only grows while the service sorts."""

    def __init__(self, request: ScanRequest, protect: Protect) -> None:
        self.is_complete = False
        self.counts = RequestCounts()
        self._protect = protect
        self._by = request.by
        self._window = request.window
        self._is_sorted = True
        self._proven_end = request.window.start
        self._pages_read = 0
        self._restarts = 0
        self._served_at: datetime | None = None
        self._pages: list[Rows] = []
        self._first: int | None = None
        self._tokens: set[str] = set()
        going_on = request.continuation
        self.search = going_on.search if going_on else Search(request.by, request.window)
        self.token = going_on.token if going_on else None
        self._last = going_on.last if going_on else to_epoch_microseconds(request.window.start - SECOND)
        self._held = going_on.rows if going_on else IMAGE_SETS.schema.empty_table()

    def is_spent(self, page_budget: int) -> bool:
        """Whether so many pages are read and there is something to hand back."""
        window = self._window
        can_hand_back = self._proven_end > window.start if self._is_sorted else window.end - window.start > _DAY
        return self._pages_read >= page_budget and can_hand_back

    def add(self, page: Page) -> None:
        """Keep a page, and take note of what it proves."""
        if page.next_token is not None and page.next_token in self._tokens:
            self.restart()
            return
        self.token = page.next_token
        if page.next_token is not None:
            self._tokens.add(page.next_token)
        self._pages_read += 1
        self._served_at = self._served_at or page.served_at
        self._pages.append(page.rows)
        self._note(page)

    def result(self) -> ScanResult:
        """What was read, proven and left over."""
        end = self._window.end if self.is_complete else self._proven_end
        proven = Window(self._window.start, end) if end > self._window.start else None
        fresh = flatten(self._pages)
        fresh = pick(fresh, lies_in(fresh[self._by.column], [self._window]))
        rows = pa.concat_tables([self._held, self._protect(fresh)])
        times = rows[self._by.column]
        return ScanResult(
            rows=pick(rows, lies_in(times, [proven])) if proven else IMAGE_SETS.schema.empty_table(),
            proven=proven,
            remainder=self._remainder(end, rows) if end < self._window.end else None,
            is_sorted=self._is_sorted,
            pace=self._pace(),
            counts=self.counts,
            served_at=self._served_at,
            unparsable=unparsable(fresh),
            unknown_fields=unknown_fields(fresh),
        )

    def _pace(self) -> timedelta | None:
        if self._first is None:
            return None
        return timedelta(microseconds=(self._last - self._first) // self._pages_read)

    def _remainder(self, start: datetime, rows: pa.Table) -> ScanRequest:
        window = Window(start, self._window.end)
        if not self._is_sorted or self.token is None or start == self._window.start:
            return ScanRequest(by=self._by, window=window)
        unproven = pick(rows, lies_in(rows[self._by.column], [window]))
        continuation = Continuation(search=self.search, token=self.token, last=self._last, rows=unproven)
        return ScanRequest(by=self._by, window=window, continuation=continuation)

    def _note(self, page: Page) -> None:
        moments = page.moments(self._by)
        if self._is_sorted and not (page.is_sorted_by(self._by) and (not moments or moments[0] >= self._last)):
            self._is_sorted = False
            self._proven_end = self._window.start
            if self.search.window != self._window:
                # The pages before belong to a search of another window, sorted as far as anyone knew.
                self._begin_again()
                return
        if self._is_sorted and moments:
            self._first = moments[0] if self._first is None else self._first
            self._last = moments[-1]
            end = min(floor_second(from_epoch_microseconds(self._last)), self._window.end)
            if end > self._proven_end:
                self._proven_end = end
                self._restarts = 0
        if self.token is None or (self._is_sorted and self._proven_end == self._window.end):
            self.is_complete = True

    def restart(self) -> None:
        """Begin again from the last proven second; the rows read twice are merged away later."""
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise SourceError(
                "SearchImageSets: the service rejects or repeats its page tokens within one second of "
                f"{format_time(self._proven_end)}; run again later"
            )
        self._begin_again()

    def _begin_again(self) -> None:
        self.search = Search(self._by, Window(self._proven_end, self._window.end))
        self.token, self._tokens = None, set()
        self._last = to_epoch_microseconds(self._proven_end - SECOND)
