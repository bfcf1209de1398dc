"""Walking one window page by page: which rows it holds, what they prove complete, what remains.

The rules (docs/design.md, "Walking the service"):

- Rows come oldest first, an order that updates cannot disturb, as long as the service says that it sorted so
  and every page bears it out. Then a scan may stop early, and a spent budget proves every whole second before
  the last row.
- Where that fails (an endpoint that ignores `sort` answers newest update first), nothing is proven before the
  window's end is reached; and the front is read again until a pass brings nothing new, because rows that were
  updated meanwhile moved there. A window too long for the budget is handed back whole, to be split; one second
  is read through.
- A page token that is rejected, or that repeats, restarts the walk from the last proven second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa

from connectors.errors import InvalidRequestError, SourceError, StoppedError
from connectors.healthimaging.pages import Field, Page, Search
from connectors.healthimaging.source import Tally
from connectors.rows import lies_in
from connectors.windows import SECOND, Window, floor_second, from_epoch_microseconds, to_epoch_microseconds
from schemas import SCHEMA, MalformedSummaryError, flatten, unparsable

_RESTARTS: Final = 5
"""Restarts in a row without a newly proven second before the scan gives up."""
_FLATTEN_PAGES: Final = 200
"""Pages kept as bytes before they become Arrow, about 8 MB."""

Fetch = Callable[[Search, str | None, Tally], Page]
"""Asks the service for one page of a search: the first, or the one that a page token names."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The result of walking a window.

    Attributes:
        rows: Image sets of the proven range, in the columns of SCHEMA; an id may appear twice.
        proven: The range whose every image set is among the rows, a prefix of the window; None: nothing yet.
        remainder: What is still to walk; None: the window is complete.
        is_sorted: Whether the service answered oldest first.
        tally: Requests made.
        unparsable: Values sent that their column cannot hold, by column; counted as the service sent them.
    """

    rows: pa.Table = field(repr=False)
    proven: Window | None
    remainder: Window | None
    is_sorted: bool
    tally: Tally
    unparsable: Mapping[str, int] = field(default_factory=dict)


def scan(
    fetch: Fetch,
    by: Field,
    window: Window,
    *,
    budget: int,
    settle: timedelta,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Scan:
    """Walk a window.

    Args:
        fetch: Asks the service for one page.
        by: The time that the window bounds.
        window: What to walk.
        budget: Pages after which the rest is handed back.
        settle: How late a change may show up in the search.
        is_stopping: Whether the run was asked to stop; looked at between pages.

    Raises:
        SourceError: The service refuses, or its answers make no sense.
    """
    walk = _Walk(fetch, by, window)
    try:
        while not (walk.is_complete or walk.is_spent(budget) or is_stopping()):
            walk.step()
        if walk.is_complete and not walk.is_sorted:
            walk.reread_front(settle, is_stopping)
    except StoppedError:
        pass  # What was read so far still proves its seconds.
    return walk.result()


def _flattened(bodies: list[bytes]) -> pa.Table:
    try:
        return flatten(bodies)
    except MalformedSummaryError as error:
        reason = str(error)
    raise SourceError(f"SearchImageSets: {reason}")


class _Walk:
    """A walk under way; `step` reads one page."""

    def __init__(self, fetch: Fetch, by: Field, window: Window) -> None:
        self.window = window
        self.is_sorted = True
        self.is_complete = False
        self.pages_read = 0
        self.proven_end = window.start
        self.tally = Tally()
        self._fetch = fetch
        self._by = by
        self._search = Search(by, window)
        self._token: str | None = None
        self._tokens: set[str] = set()
        self._restarts = 0
        self._last = to_epoch_microseconds(window.start - SECOND)
        self._began_at: datetime | None = None
        self._seen: set[tuple[str, int]] = set()
        self._bodies: list[bytes] = []
        self._tables: list[pa.Table] = []

    def is_spent(self, budget: int) -> bool:
        """Whether the budget is used up and there is something to hand back."""
        return self.pages_read >= budget and (
            self.proven_end > self.window.start if self.is_sorted else self.window.seconds > 1
        )

    def step(self) -> None:
        """Read the next page; take note of what it proves."""
        page = self._next_page()
        if page is None:
            return
        moments = page.moments(self._by)
        if self.is_sorted and not (page.is_sorted_by(self._by) and (not moments or moments[0] >= self._last)):
            self.is_sorted = False
            self.proven_end = self.window.start
            if self._search.window != self.window:
                # What was proven before a restart is in doubt as well.
                self._go_to_front()
                return
        if self.is_sorted and moments:
            self._last = moments[-1]
            self._prove(floor_second(from_epoch_microseconds(self._last)))
        if self._token is None or (self.is_sorted and self.proven_end == self.window.end):
            self.is_complete = True

    def reread_front(self, settle: timedelta, is_stopping: Callable[[], bool]) -> None:
        """Catch the rows that moved to the front while the window was read newest update first.

        Each pass goes back to what was updated before the pass before it began (less the settle time), and the
        last one is the first that brings nothing new.
        """
        self.is_complete = False
        has_news = True
        while has_news:
            back_to = to_epoch_microseconds(self._begin_again() - settle)
            has_news = at_end = False
            while not at_end:
                if is_stopping():
                    return
                known = len(self._seen)
                page = self._next_page()
                has_news |= page is None or len(self._seen) > known
                # A page may be empty and yet not the last.
                at_end = page is not None and (self._token is None or max(page.updated, default=back_to) < back_to)
        self.is_complete = True

    def _next_page(self) -> Page | None:
        """The next page, kept; None where its token was refused or repeats, and the walk begins again."""
        try:
            page = self._fetch(self._search, self._token, self.tally)
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

    def result(self) -> Scan:
        """What the walk has come to."""
        end = self.window.end if self.is_complete else self.proven_end
        proven = Window(self.window.start, end) if end > self.window.start else None
        remainder = Window(end, self.window.end) if end < self.window.end else None
        self._flatten()
        rows = pa.concat_tables(self._tables) if proven and self._tables else SCHEMA.empty_table()
        rows = rows.filter(lies_in(rows[self._by.column], [proven])) if proven else rows
        return Scan(
            rows=rows,
            proven=proven,
            remainder=remainder,
            is_sorted=self.is_sorted,
            tally=self.tally,
            unparsable=unparsable(rows),
        )

    def _begin_again(self) -> datetime:
        """Go back to the front; when the pass before began, by the service's clock."""
        began_at = self._began_at or self.window.start
        self._began_at = None
        self._go_to_front()
        return began_at

    def _go_to_front(self) -> None:
        """Ask next for the first page from the last proven second on."""
        self._search = Search(self._by, Window(self.proven_end, self.window.end))
        self._token, self._tokens = None, set()

    def _keep(self, page: Page) -> None:
        self.pages_read += 1
        self._began_at = self._began_at or page.served_at
        self._seen.update(zip(page.ids, page.updated, strict=True))
        self._bodies.append(page.body)
        if len(self._bodies) >= _FLATTEN_PAGES:
            self._flatten()

    def _flatten(self) -> None:
        if self._bodies:
            self._tables.append(_flattened(self._bodies))
            self._bodies = []

    def _prove(self, second: datetime) -> None:
        end = min(max(second, self.window.start), self.window.end)
        if end > self.proven_end:
            self._restarts = 0
        self.proven_end = end

    def _restart(self) -> None:
        """Begin again from the last proven second; the rows read twice are merged away later."""
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise SourceError(
                "SearchImageSets: the service rejects or repeats its page tokens within one second of "
                f"{self.proven_end:%Y-%m-%dT%H:%M:%SZ}; run again later"
            )
        self._go_to_front()
        self._last = to_epoch_microseconds(self.proven_end - SECOND)
