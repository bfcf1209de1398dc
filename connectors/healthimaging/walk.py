"""A walk: one window read page by page, and what its pages prove.

The rules (docs/design.md, "Walking the service"):

- Rows come oldest first, an order that updates cannot disturb, as long as the service says that it sorted so
  and every page bears it out. Then a walk may stop early, and every whole second before the last row is proven.
- Where that fails (an endpoint that ignores `sort` answers newest update first), nothing is proven before the
  window's end is reached; and the front is read again until a pass brings nothing new, because rows that were
  updated meanwhile moved there.
- A page token that is rejected, or that repeats, restarts the walk from the last proven second.
- A walk that has stopped early may go on later with the page token that it holds, to the window's end or to a
  nearer one: nothing is asked for twice.
- While a walk is under way, another thread may move its window's end to what it has not reached yet.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.errors import InvalidRequestError, SourceError
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search
from ahi_catalog.connectors.healthimaging.source import Tally
from ahi_catalog.connectors.rows import lies_in, pick
from ahi_catalog.connectors.windows import (
    SECOND,
    Window,
    floor_second,
    format_time,
    from_epoch_microseconds,
    to_epoch_microseconds,
)
from ahi_catalog.schemas import IMAGE_SETS, Rows, flatten, unparsable

_RESTARTS: Final = 5
"""Restarts in a row without a newly proven second before the walk gives up."""
_FLATTEN_PAGES: Final = 40
"""Pages kept as Python objects before they become Arrow, about 4 MB."""
_PACE_PAGES: Final = 8
"""Pages over which the pace is taken."""

Fetch = Callable[[Search, str | None, Tally], Page]
"""Asks the service for one page of a search: the first, or the one that a page token names."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a walk has come to.

    Attributes:
        rows: Image sets of the proven range, in the columns of `image_sets`; an id may appear twice.
        proven: The range whose every image set is among the rows, a prefix of the window; None: nothing yet.
        remainder: What is still to walk; None: the window is complete.
        is_sorted: Whether the service answered oldest first.
        pace: The time that each of the last pages took up; None where there were no rows.
        tally: Requests made.
        served_at: The service's clock at the first page; aware UTC, cut to the second. None: no page was read.
        unparsable: Values sent that their column cannot hold, by column; counted as the service sent them.
    """

    rows: pa.Table = field(repr=False)
    proven: Window | None
    remainder: Window | None
    is_sorted: bool
    pace: timedelta | None
    tally: Tally
    served_at: datetime | None
    unparsable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rest:
    """What a walk has still to read.

    Attributes:
        window: From the second after the last row on.
        pace: The time that each of the last pages took up.
    """

    window: Window
    pace: timedelta


class Walk:
    """A walk under way; `step` reads one page, `take` hands out what is proven.

    One thread walks; `rest` and `shorten` are for others.

    Args:
        fetch: Asks the service for one page.
        by: The time that the window bounds.
        window: What to walk.
        settle: How late a change may show up in the search.
        budget: Pages after which it should rest; for whoever has it step.
    """

    def __init__(self, fetch: Fetch, by: Field, window: Window, settle: timedelta, budget: int) -> None:
        self.window = window
        self.budget = budget
        self.is_sorted = True
        self.is_complete = False
        self._lock = threading.Lock()
        self._has_stopped = False
        self._proven_end = window.start
        self._tally = Tally()
        self._fetch = fetch
        self._by = by
        self._settle = settle
        self._search = Search(by, window)
        self.pages_read = 0
        self._token: str | None = None
        self._tokens: set[str] = set()
        self._restarts = 0
        self._recent: deque[int] = deque(maxlen=_PACE_PAGES)
        self._last = to_epoch_microseconds(window.start - SECOND)
        self._served_at: datetime | None = None
        self._began_at: datetime | None = None
        self._versions: list[tuple[tuple[str, ...], tuple[int, ...]]] = []
        self._pages: list[Rows] = []
        self._tables: list[pa.Table] = []

    def is_spent(self, pages: int) -> bool:
        """Whether so many pages are read and there is something to hand back."""
        return self.pages_read >= pages and (
            self._proven_end > self.window.start if self.is_sorted else self.window.seconds > 1
        )

    def step(self) -> None:
        """Read the next page; take note of what it proves."""
        page = self._next_page()
        if page is not None:
            with self._lock:
                self._learn(page)

    def _learn(self, page: Page) -> None:
        moments = page.moments(self._by)
        if self.is_sorted and not (page.is_sorted_by(self._by) and (not moments or moments[0] >= self._last)):
            self.is_sorted = False
            self._proven_end = self.window.start
            if self._search.window != self.window:
                # What was proven before a restart is in doubt as well.
                self._go_to_front()
                return
        if self.is_sorted and moments:
            self._note(moments)
        if self._token is None or (self.is_sorted and self._proven_end == self.window.end):
            self.is_complete = True

    def reread_front(self, is_stopping: Callable[[], bool]) -> None:
        """Catch the rows that moved to the front while the window was read newest update first.

        Each pass goes back to what was updated before the pass before it began (less the settle time), and the
        last one is the first that brings nothing new.
        """
        self.is_complete = False
        seen = {version for ids, updated in self._versions for version in zip(ids, updated, strict=True)}
        has_news = True
        while has_news:
            back_to = to_epoch_microseconds(self._begin_again() - self._settle)
            has_news = at_end = False
            while not at_end:
                if is_stopping():
                    return
                known = len(seen)
                page = self._next_page()
                if page is not None:
                    seen.update(zip(page.ids, page.updated, strict=True))
                has_news |= page is None or len(seen) > known
                # A page may be empty and yet not the last.
                at_end = page is not None and (self._token is None or max(page.updated, default=back_to) < back_to)
        self.is_complete = True

    def take(self) -> Scan:
        """What the walk has come to; it may `go_on` at the remainder's start where the rows came sorted."""
        with self._lock:
            self._has_stopped = True
            end = self.window.end if self.is_complete else self._proven_end
        proven = Window(self.window.start, end) if end > self.window.start else None
        remainder = Window(end, self.window.end) if end < self.window.end else None
        self._flatten()
        rows = pa.concat_tables(self._tables) if proven and self._tables else IMAGE_SETS.schema.empty_table()
        if proven and remainder:
            # Rows of the second that is not proven yet were read, and are not asked for again.
            later = lies_in(rows[self._by.column], [Window(end, self._searched.end + SECOND)])
            self._tables = [pick(rows, later)]
        rows = pick(rows, lies_in(rows[self._by.column], [proven])) if proven else rows
        return Scan(
            rows=rows,
            proven=proven,
            remainder=remainder,
            is_sorted=self.is_sorted,
            pace=self._pace(),
            tally=self._tally,
            served_at=self._served_at,
            unparsable=unparsable(rows),
        )

    def can_go_on(self, window: Window) -> bool:
        """Whether the window begins where the proven range ends, and its end was asked for."""
        return self.is_sorted and window.start == self._proven_end and window.end <= self._searched.end

    def go_on(self, window: Window, budget: int) -> None:
        """Walk on, after `take`, from the last proven second to the end of a window that `can_go_on`."""
        with self._lock:
            self.window = window
            self._has_stopped = False
        self.budget = budget
        self._tally = Tally()
        self.pages_read = 0
        # Both are of use only until seconds are proven; without this a long walk would pile them up.
        self._tokens, self._versions = set(), []

    @property
    def rest(self) -> Rest | None:
        """What another walk could take over a part of; None where nothing is left, or nothing known of it."""
        with self._lock:
            start, pace = self._proven_end + SECOND, self._pace()
            if pace is None or self._is_fixed or start >= self.window.end:
                return None
            return Rest(Window(start, self.window.end), pace)

    def shorten(self, end: datetime) -> bool:
        """End the walk's window earlier, unless the walk has reached that far, or has stopped.

        Returns:
            Whether it does: what lies behind is no longer the walk's.
        """
        with self._lock:
            if self._is_fixed or not self._proven_end < end < self.window.end:
                return False
            self.window = Window(self.window.start, end)
            return True

    @property
    def _is_fixed(self) -> bool:
        return self._has_stopped or self.is_complete or not self.is_sorted

    @property
    def _searched(self) -> Window:
        return self._search.window or self.window

    def _next_page(self) -> Page | None:
        """The next page, kept; None where its token was refused or repeats, and the walk begins again."""
        try:
            page = self._fetch(self._search, self._token, self._tally)
        except InvalidRequestError:
            if self._token is None:
                raise
            self._restart()
            return None
        if page.next_token is not None and page.next_token in self._tokens:
            self._restart()
            return None
        self._token = page.next_token
        if page.next_token is not None:
            self._tokens.add(page.next_token)
        self._keep(page)
        return page

    def _note(self, moments: tuple[int, ...]) -> None:
        self._last = moments[-1]
        self._recent.append(moments[0])
        end = floor_second(from_epoch_microseconds(self._last))
        end = min(max(end, self.window.start), self.window.end)
        if end > self._proven_end:
            self._restarts = 0
        self._proven_end = end

    def _pace(self) -> timedelta | None:
        if not self._recent:
            return None
        return timedelta(microseconds=(self._last - self._recent[0]) // len(self._recent))

    def _begin_again(self) -> datetime:
        """Go back to the front; when the pass before began, by the service's clock."""
        began_at = self._began_at or self.window.start
        self._began_at = None
        self._go_to_front()
        return began_at

    def _go_to_front(self) -> None:
        """Ask next for the first page from the last proven second on."""
        self._search = Search(self._by, Window(self._proven_end, self.window.end))
        self._token, self._tokens = None, set()

    def _keep(self, page: Page) -> None:
        self.pages_read += 1
        self._served_at = self._served_at or page.served_at
        self._began_at = self._began_at or page.served_at
        self._versions.append((page.ids, page.updated))
        self._pages.append(page.rows)
        if len(self._pages) >= _FLATTEN_PAGES:
            self._flatten()

    def _flatten(self) -> None:
        if self._pages:
            self._tables.append(flatten(self._pages))
            self._pages = []

    def _restart(self) -> None:
        """Begin again from the last proven second; the rows read twice are merged away later."""
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise SourceError(
                "SearchImageSets: the service rejects or repeats its page tokens within one second of "
                f"{format_time(self._proven_end)}; run again later"
            )
        self._go_to_front()
        self._last = to_epoch_microseconds(self._proven_end - SECOND)
