"""Rows that are read but not yet published, by partition. Pure.

They are bounded in bytes (`buffer_bytes`), so that memory does not depend on how rows arrive. On an endpoint that does
not sort, the days that are being read come on top: nothing of a day is proven before its end.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.catalog import Batch, Partition, Unit
from ahi_catalog.connectors.catalog.layout import partition_rows, partitions
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.schemas import Table

_SMALL_ROWS: Final = 4 * 1024
"""A piece of fewer rows is joined to the one before it: one by one, few rows take ten times what they hold."""


@dataclass(slots=True)
class _Waiting:
    """What waits for one partition."""

    pieces: list[pa.Table] = field(default_factory=list)
    scanned: list[Window] = field(default_factory=list)
    bytes: int = 0

    def add(self, rows: pa.Table) -> None:
        self.pieces.append(rows.combine_chunks())
        # Only where the one before is no larger, so that a row is copied a few times at most.
        while len(self.pieces) > 1 and len(self.pieces[-2]) <= len(self.pieces[-1]) < _SMALL_ROWS:
            self.pieces[-2:] = [pa.concat_tables(self.pieces[-2:]).combine_chunks()]
        self.bytes = sum(piece.nbytes for piece in self.pieces)


class Buffer:
    """What scans have found out, until it is published.

    Args:
        table: What the rows are of.
        datastore_id: The data store.
        unit: The catalog's partition unit.
        present: Partitions that have an object. In any other one nothing can be missing from a scan, so a range
            without rows needs no publishing there.
    """

    def __init__(self, table: Table, datastore_id: str, unit: Unit, present: Collection[Partition]) -> None:
        self._table = table
        self._datastore_id = datastore_id
        self._unit = unit
        self._present = frozenset(present)
        self._waiting: defaultdict[Partition, _Waiting] = defaultdict(_Waiting)
        self.bytes = 0
        """Of memory that the waiting rows take."""

    def add(self, rows: pa.Table, scanned: Window | None) -> list[Window]:
        """Takes in the rows of a scan.

        Args:
            rows: In the table's columns.
            scanned: The range of createdAt whose every image set is among the rows; None: they prove none.

        Returns:
            The parts of that range for which nothing is to be published.
        """
        for partition, part in partition_rows(self._table, self._datastore_id, self._unit, rows):
            waiting = self._waiting[partition]
            self.bytes -= waiting.bytes
            waiting.add(part)
            self.bytes += waiting.bytes
        empty = []
        for partition in self._touched(scanned):
            [piece] = Coverage([scanned] if scanned else []).within(partition.window)
            if partition in self._waiting or partition in self._present:
                self._waiting[partition].scanned.append(piece)
            else:
                empty.append(piece)
        return empty

    def pop_complete(self, scanned: Window, outstanding: Iterable[Window]) -> Iterator[Batch]:
        """The partitions that a scanned range touches and of which no window is outstanding."""
        windows = list(outstanding)
        for partition in self._touched(scanned):
            if partition in self._waiting and not any(partition.window.overlaps(window) for window in windows):
                yield self._pop(partition)

    def pop_largest(self, limit_bytes: int) -> Iterator[Batch]:
        """Where more than the limit waits, the largest partitions, until half of it is free."""
        if self.bytes <= limit_bytes:
            return
        while self.bytes > limit_bytes // 2:
            yield self._pop(max(self._waiting, key=lambda partition: self._waiting[partition].bytes))

    def pop_all(self) -> Iterator[Batch]:
        """Whatever waits."""
        for partition in sorted(self._waiting):
            yield self._pop(partition)

    def _touched(self, window: Window | None) -> Iterable[Partition]:
        return partitions(self._datastore_id, self._unit, window) if window else ()

    def _pop(self, partition: Partition) -> Batch:
        waiting = self._waiting.pop(partition)
        self.bytes -= waiting.bytes
        rows = pa.concat_tables([self._table.schema.empty_table(), *waiting.pieces])
        return Batch(table=self._table, partition=partition, rows=rows, scanned=Coverage(waiting.scanned))
