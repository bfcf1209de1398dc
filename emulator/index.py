"""The search index: the visible records of one data store, in the order of each sortable field.

An order is a sorted list of `(key, image set id, record)`. The id makes it total, so a page can start
strictly after the last row of the one before. Orders are built when first asked for, then kept.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sortedcontainers import SortedList

from ahi_catalog.emulator.records import Record

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
