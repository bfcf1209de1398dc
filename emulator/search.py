"""Searching: what a request asks for, the orders that answer it page by page, and the tokens of its pages.

Pure: the caller holds the lock, and hands the time in.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from sortedcontainers import SortedList

from ahi_catalog.emulator.clock import MICROS
from ahi_catalog.emulator.errors import expired_token, invalid, invalid_token
from ahi_catalog.emulator.options import ServiceOptions
from ahi_catalog.emulator.records import Record

_TIMES = ("createdAt", "updatedAt")
_STUDY = "DICOMStudyDateAndTime"
_VALUES = {"EQUAL": 1, "BETWEEN": 2}
_MEMO_ROWS = 2_000_000

Key = int | str
Entry = tuple[Key, str, Record]
# A bound is a prefix of an entry: (key,) sorts before, (key, AFTER) after every row with that key.
Bound = tuple[Key] | tuple[Key, str]
AFTER = "\x7f"  # greater than any id, which are of [0-9a-z]


def study_key(date: str | None, time: str | None) -> str:
    """DICOM study date and time as one text that sorts as they do; rows without a date sort first."""
    return "" if date is None else f"{date} {time or ''}"


def _study_key_of(record: Record) -> str:
    tags = record.summary().get("DICOMTags", {})
    return study_key(tags.get("DICOMStudyDate"), tags.get("DICOMStudyTime"))


KEY_OF: dict[str, Callable[[Record], Key]] = {
    "createdAt": lambda record: record.created,
    "updatedAt": lambda record: record.updated,
    "DICOMStudyDateAndTime": _study_key_of,
}


class Index:
    """Visible records by field. Not thread-safe: the service holds its lock around every call."""

    def __init__(self) -> None:
        self._orders: dict[str, Any] = {}
        # All rows, in the order that is always there.
        self._rows = self._orders["createdAt"] = SortedList()
        # Counts changes, so that a result worked out earlier can be recognised as current.
        self.generation = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, records: Iterable[Record]) -> None:
        """Add records whose ids are not in the index."""
        added = list(records)
        for field, order in self._orders.items():
            key_of = KEY_OF[field]
            order.update([(key_of(record), record.image_set_id, record) for record in added])
        self.generation += 1

    def remove(self, record: Record) -> None:
        """Remove a record that is in the index."""
        for field, order in self._orders.items():
            order.remove((KEY_OF[field](record), record.image_set_id, record))
        self.generation += 1

    def order(self, field: str) -> Any:
        """The order of a field, built now where nobody asked for it before."""
        order = self._orders.get(field)
        if order is None:
            key_of = KEY_OF[field]
            order = SortedList((key_of(record), name, record) for _, name, record in self._rows)
            self._orders[field] = order
        return order

    def count(self, field: str, low: Bound | None, high: Bound | None) -> int:
        """How many rows lie between two bounds of a field."""
        start, stop = self._span(field, low, high)
        return max(0, stop - start)

    def between(
        self,
        field: str,
        low: Bound | None,
        high: Bound | None,
        *,
        descending: bool = False,
        skip: int = 0,
    ) -> Iterator[Entry]:
        """Rows between two bounds in order, the first `skip` left out; ids descend where keys do."""
        start, stop = self._span(field, low, high)
        if descending:
            stop -= skip
        else:
            start += skip
        if start >= stop:
            return iter(())
        rows: Iterator[Entry] = self.order(field).islice(start, stop, reverse=descending)
        return rows

    def _span(self, field: str, low: Bound | None, high: Bound | None) -> tuple[int, int]:
        order = self.order(field)
        start = 0 if low is None else order.bisect_left(low)
        stop = len(order) if high is None else order.bisect_left(high)
        return start, stop


@dataclass(frozen=True, slots=True)
class Range:
    """A row's `field` lies between `low` and `high`; EQUAL is a range of one value, its ends included."""

    field: str
    low: Key
    high: Key
    inclusive: bool

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        """The range as bounds of the field's order in the index."""
        if self.inclusive:
            return (self.low,), (self.high, AFTER)
        return (self.low, AFTER), (self.high,)

    def holds(self, record: Record) -> bool:
        """Whether a record lies in the range; one without the field does not."""
        if self.field in _TIMES:
            return self._contains(record.created if self.field == "createdAt" else record.updated)
        if self.field == _STUDY:
            return self._contains(KEY_OF[_STUDY](record))
        if self.low == self.high and self.field != "isPrimary":
            # A look at the bytes rules nearly every row out, forty times faster than decoding it.
            needle = b'"%b":%b' % (self.field.encode(), orjson.dumps(self.low))
            if needle not in record.body:
                return False
        summary = record.summary()
        value = summary.get("DICOMTags", {}).get(self.field, summary.get(self.field))
        return value is not None and self._contains(value)

    def _contains(self, value: Any) -> bool:
        if self.inclusive:
            return bool(self.low <= value <= self.high)
        return bool(self.low < value < self.high)


@dataclass(frozen=True, slots=True)
class Query:
    """One search of one data store.

    Attributes:
        sort_field: updatedAt, createdAt or DICOMStudyDateAndTime.
        descending: Whether the greatest comes first.
        ranges: A row must lie in every one of them.
        fingerprint: The same for the same query of the same data store; ties a page token to it.
        sort_json: The sort as the answer repeats it, or None where the API does not answer one.
    """

    sort_field: str
    descending: bool
    ranges: tuple[Range, ...]
    fingerprint: str
    sort_json: bytes | None


def parse_query(datastore_id: str, criteria: Mapping[str, Any], options: ServiceOptions) -> Query:
    """The query of a checked `searchCriteria`.

    Args:
        datastore_id: Whose image sets are searched.
        criteria: As model.py gives it; timestamps are epoch microseconds.
        options: What this service makes of sort and bounds.

    Raises:
        ServiceError: ValidationException, for what the model cannot say: the number of values of an
            operator, two values of different fields, a field that the older API cannot filter by.
    """
    ranges = tuple(
        _range(item, f"searchCriteria.filters.{number}", options)
        for number, item in enumerate(criteria.get("filters", ()), start=1)
    )
    sort = {"sortOrder": "DESC", "sortField": "updatedAt"}
    if not (options.older_api or options.ignore_sort):
        sort |= criteria.get("sort", {})
    described: list[Any] = [datastore_id, sort["sortField"], sort["sortOrder"]]
    described += [[its.field, its.low, its.high, its.inclusive] for its in ranges]
    return Query(
        sort_field=sort["sortField"],
        descending=sort["sortOrder"] == "DESC",
        ranges=ranges,
        fingerprint=hashlib.blake2b(orjson.dumps(described), digest_size=12).hexdigest(),
        sort_json=None if options.older_api else orjson.dumps(sort),
    )


def _range(item: Mapping[str, Any], where: str, options: ServiceOptions) -> Range:
    operator = item["operator"]
    values = [next(iter(value.items())) for value in item["values"]]
    if len(values) != _VALUES[operator]:
        raise invalid(f"Value at '{where}.values': {operator} takes {_VALUES[operator]} value(s)")
    field = values[0][0]
    if any(name != field for name, _ in values):
        raise invalid(f"Value at '{where}.values': both values must be of the same field")
    if options.older_api and field == "updatedAt":
        raise invalid(f"Value at '{where}.values': updatedAt is not a search attribute")
    inclusive = operator == "EQUAL" or options.between_inclusive
    low, high = values[0][1], values[-1][1]
    if field == _STUDY:
        return Range(field, _study_low(low), _study_high(high), inclusive)
    if field in _TIMES and options.truncate_filter_seconds:
        low, high = low - low % MICROS, high - high % MICROS
    return Range(field, low, high, inclusive)


def _study_low(value: Mapping[str, str]) -> str:
    return study_key(value["DICOMStudyDate"], value.get("DICOMStudyTime"))


def _study_high(value: Mapping[str, str]) -> str:
    time = value.get("DICOMStudyTime")
    # A date without a time means all of that day: "!" sorts just after the blank that comes before a time.
    return f"{value['DICOMStudyDate']}!" if time is None else study_key(value["DICOMStudyDate"], time)


# The key and id of the last row of a page, or a count of rows from the front.
Position = tuple[int | str, str] | int


class PageTokens:
    """The page tokens that a service has given out: random text, which tells nothing of the rows.

    Args:
        ttl: Seconds for which a token is good; None for ever.
    """

    def __init__(self, ttl: float | None = None) -> None:
        self._ttl = ttl
        self._given: dict[str, tuple[str, Position, int]] = {}

    def give(self, query: str, position: Position, now: int) -> str:
        """A URL-safe token for the page after `position` of the query with this fingerprint.

        Args:
            query: The query's fingerprint.
            position: Where the page ended.
            now: The service's time, epoch microseconds.
        """
        token = secrets.token_urlsafe(24)
        self._given[token] = query, position, now
        return token

    def position(self, token: str, query: str, now: int) -> Position:
        """Where the page ended that a token was given with.

        Raises:
            ServiceError: ValidationException, where it is not ours, of another query, or expired.
        """
        its_query, position, given = self._given.get(token, ("", 0, 0))
        if its_query != query:
            raise invalid_token()
        if self._ttl is not None and now - given > self._ttl * MICROS:
            raise expired_token()
        return position


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
