"""One data store: what its image sets are now, and what search shows of them.

The two differ while a change waits for the visibility lag to pass. Changes of one image set become visible
in the order in which they were made.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ahi_catalog.emulator.clock import MICROS
from ahi_catalog.emulator.errors import not_found
from ahi_catalog.emulator.metadata import Describe, describe_summary
from ahi_catalog.emulator.records import Record, changed, render
from ahi_catalog.emulator.search import Index, Searcher


@dataclass(slots=True)
class _Shown:
    """What search shows of an image set with waiting changes, and when the last of them is due."""

    record: Record | None
    waiting: int = 0
    due: int = 0


@dataclass(frozen=True, slots=True)
class Deleted:
    """The last version of a deleted image set, and when it went (epoch microseconds)."""

    record: Record
    at: int


@dataclass(slots=True)
class Datastore:
    """Not thread-safe: the service holds its lock around every call.

    Args:
        datastore_id: 32 characters of `[0-9a-z]`.
        name: Its name.
        created: When it was made, epoch microseconds; never after what it holds.
        lag: Visibility lag in microseconds.
        describe: Makes the metadata of an image set.
    """

    datastore_id: str
    name: str
    created: int
    lag: int = 0
    describe: Describe = describe_summary
    current: dict[str, Record] = field(default_factory=dict)
    deleted: dict[str, Deleted] = field(default_factory=dict)
    index: Index = field(default_factory=Index)
    searcher: Searcher = field(init=False)
    _shown: dict[str, _Shown] = field(default_factory=dict)
    _waiting: list[tuple[int, int, str, Record | None]] = field(default_factory=list)
    _changes: int = 0

    def __post_init__(self) -> None:
        self.searcher = Searcher(self.index)

    def insert(self, summaries: Iterable[Mapping[str, Any]], now: int) -> int:
        """Add image sets, all or, where one is refused, none; returns how many.

        Raises:
            ValueError: A summary is malformed or its id is taken. The text holds no value.
        """
        records = [render(summary) for summary in summaries]
        return self.insert_records(records, now)

    def insert_records(self, records: list[Record], now: int) -> int:
        """Add rendered records, as insert() does."""
        added = {record.image_set_id: record for record in records}
        if len(added) < len(records) or not added.keys().isdisjoint(self.current):
            raise ValueError("an image set with the same imageSetId is there already")
        if self.current:
            self.current.update(added)
        else:
            self.current = added  # not copied: a first load may be a million
        for name in added.keys() & self.deleted.keys():
            del self.deleted[name]
        self.created = min((self.created, *(record.created for record in records)))
        if self.lag == 0:
            self.index.add(records)
            return len(records)
        for record in records:
            self._later(record.image_set_id, None, record, record.updated, now)
        return len(records)

    def update(
        self,
        image_set_id: str,
        changes: Mapping[str, Any],
        updated_at: int | None,
        now: int,
        *,
        new_version: bool,
    ) -> Record:
        """Change an image set; returns what it is now."""
        before = self._get(image_set_id)
        after = changed(before, changes, updated_at=updated_at, new_version=new_version)
        self.current[image_set_id] = after
        self._show(before, after, after.updated if new_version else now, now)
        return after

    def delete(self, image_set_id: str, now: int) -> None:
        """Delete an image set."""
        before = self._get(image_set_id)
        del self.current[image_set_id]
        self.deleted[image_set_id] = Deleted(before, now)
        self._show(before, None, now, now)

    def settle(self, now: int) -> None:
        """Let search see every change whose time has come."""
        while self._waiting and self._waiting[0][0] <= now:
            _, _, name, after = heapq.heappop(self._waiting)
            shown = self._shown[name]
            self._replace(shown.record, after)
            shown.record = after
            shown.waiting -= 1
            if not shown.waiting:
                del self._shown[name]

    def _get(self, image_set_id: str) -> Record:
        record = self.current.get(image_set_id)
        if record is None:
            raise not_found("image set")
        return record

    def _show(self, before: Record, after: Record | None, made: int, now: int) -> None:
        if self.lag == 0:
            self._replace(before, after)
        else:
            self._later(before.image_set_id, before, after, made, now)

    def _replace(self, before: Record | None, after: Record | None) -> None:
        if before is not None:
            self.index.remove(before)
        if after is not None:
            self.index.add([after])

    def _later(self, name: str, before: Record | None, after: Record | None, made: int, now: int) -> None:
        shown = self._shown.setdefault(name, _Shown(before))
        # Never before an earlier change of the same image set; a time in the future counts as now.
        shown.due = max(shown.due, min(made, now) + self.lag)
        shown.waiting += 1
        self._changes += 1
        heapq.heappush(self._waiting, (shown.due, self._changes, name, after))


def lag_micros(seconds: float) -> int:
    """A lag in whole microseconds."""
    return round(seconds * MICROS)
