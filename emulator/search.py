"""Finding one page of a query: pure, given an index."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sortedcontainers import SortedList

from ahi_catalog.emulator.index import AFTER, KEY_OF, Bound, Entry, Index
from ahi_catalog.emulator.query import Query, Range
from ahi_catalog.emulator.records import Record
from ahi_catalog.emulator.tokens import Position

_MEMO_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its records in order, and where the next one starts (None: there is none)."""

    records: tuple[Record, ...]
    next: Position | None


class Searcher:
    """Answers queries of one index. Not thread-safe: the service holds its lock around every call.

    A query whose filters are all on its sort field is a stretch of the index. Any other is worked out once,
    sorted, and kept until the index changes, so that walking it page by page costs no more than once.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._memo: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._memo_rows = 0

    def page(self, query: Query, after: Position | None, limit: int, *, offset_tokens: bool) -> Page:
        """At most `limit` rows of a query.

        Args:
            query: What is searched.
            after: Where the page before ended; None for the first page.
            limit: Rows a page.
            offset_tokens: Whether the page says how many rows came so far instead of its last row.
        """
        entries = list(islice(self._entries(query, after), limit + 1))
        shown = entries[:limit]
        position: Position | None = None
        if len(entries) > limit:
            skipped = after if isinstance(after, int) else 0
            position = skipped + limit if offset_tokens else (shown[-1][0], shown[-1][1])
        return Page(tuple(record for _, _, record in shown), position)

    def _entries(self, query: Query, after: Position | None) -> Iterator[Entry]:
        skip = after if isinstance(after, int) else 0
        low: Bound | None = None
        high: Bound | None = None
        if isinstance(after, tuple):
            # An entry is (key, id, record): the pair sorts just before it, the pair with a longer id after.
            if query.descending:
                high = after
            else:
                low = (after[0], after[1] + AFTER)
        if all(its.field == query.sort_field for its in query.ranges):
            for its in query.ranges:
                its_low, its_high = its.bounds
                low = its_low if low is None else max(low, its_low)
                high = its_high if high is None else min(high, its_high)
            return self._index.between(query.sort_field, low, high, descending=query.descending, skip=skip)
        matches = self._matches(query)
        start = 0 if low is None else matches.bisect_left(low)
        stop = len(matches) if high is None else matches.bisect_left(high)
        start, stop = (start, stop - skip) if query.descending else (start + skip, stop)
        if start >= stop:
            return iter(())
        found: Iterator[Entry] = matches.islice(start, stop, reverse=query.descending)
        return found

    def _matches(self, query: Query) -> Any:
        """Every row of a query in ascending order, from the memo or worked out now."""
        key = query.fingerprint, self._index.generation
        matches = self._memo.get(key)
        if matches is not None:
            self._memo.move_to_end(key)
            return matches
        source = self._narrowest(query)
        low, high = source.bounds if source else (None, None)
        others = [its for its in query.ranges if its is not source]
        key_of = KEY_OF[query.sort_field]
        matches = SortedList(
            (key_of(record), name, record)
            for _, name, record in self._index.between(source.field if source else "createdAt", low, high)
            if all(its.holds(record) for its in others)
        )
        self._remember(key, matches)
        return matches

    def _narrowest(self, query: Query) -> Range | None:
        """The filter that the index answers best, if it can answer any."""
        indexed = [its for its in query.ranges if its.field in KEY_OF]
        return min(indexed, key=lambda its: self._index.count(its.field, *its.bounds), default=None)

    def _remember(self, key: tuple[str, int], matches: Any) -> None:
        stale = [known for known in self._memo if known[1] != key[1]]
        for known in stale:
            self._memo_rows -= len(self._memo.pop(known))
        self._memo[key] = matches
        self._memo_rows += len(matches)
        while self._memo_rows > _MEMO_ROWS and len(self._memo) > 1:
            self._memo_rows -= len(self._memo.popitem(last=False)[1])
