"""Rows that are read but not yet published, by partition. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from ahi_catalog.connectors.catalog import Batch, Partition, Unit
from ahi_catalog.connectors.catalog.layout import partition_rows, partitions
from ahi_catalog.connectors.catalog.packing import Packed
from ahi_catalog.connectors.windows import Coverage, Window


@dataclass(slots=True)
class _Pending:
    rows: Packed = field(default_factory=Packed)
    scanned: list[Window] = field(default_factory=list)


class Buffer:
    """What scans have found out, until it is published.

    Args:
        datastore_id: The data store.
        unit: The catalog's partition unit.
        present: Partitions that have an object. In any other one nothing can be missing from a scan, so a range
            without rows needs no publishing there.
    """

    def __init__(self, datastore_id: str, unit: Unit, present: Collection[Partition]) -> None:
        self._datastore_id = datastore_id
        self._unit = unit
        self._present = frozenset(present)
        self._pending: defaultdict[Partition, _Pending] = defaultdict(_Pending)
        self.weight = 0
        """Of what is held (`Packed.weight`)."""

    def add(self, rows: pa.Table, scanned: Window | None) -> list[Window]:
        """Take in the rows of a scan.

        Args:
            rows: In the columns of SCHEMA.
            scanned: The range of createdAt whose every image set is among the rows; None: they prove none.

        Returns:
            The parts of that range for which nothing is to be published.
        """
        for partition, part in partition_rows(self._datastore_id, self._unit, rows):
            waiting = self._pending[partition].rows
            self.weight -= waiting.weight
            waiting.add(part)
            self.weight += waiting.weight
        empty = []
        for partition in self._touched(scanned):
            [piece] = Coverage([scanned] if scanned else []).within(partition.window)
            if partition in self._pending or partition in self._present:
                self._pending[partition].scanned.append(piece)
            else:
                empty.append(piece)
        return empty

    def take_complete(self, scanned: Window, outstanding: Iterable[Window]) -> Iterator[Batch]:
        """The partitions that a scanned range touches and of which no window is outstanding."""
        waiting = list(outstanding)
        for partition in self._touched(scanned):
            if partition in self._pending and not any(partition.window.overlaps(w) for w in waiting):
                yield self._take(partition)

    def take_overflow(self, limit: int) -> Iterator[Batch]:
        """Where what is held weighs more than the limit, the heaviest partitions, until half of it is free."""
        if self.weight <= limit:
            return
        while self.weight > limit // 2:
            yield self._take(max(self._pending, key=lambda partition: self._pending[partition].rows.weight))

    def take_all(self) -> Iterator[Batch]:
        """Whatever is held."""
        for partition in sorted(self._pending):
            yield self._take(partition)

    def _touched(self, window: Window | None) -> Iterable[Partition]:
        return partitions(self._datastore_id, self._unit, window) if window else ()

    def _take(self, partition: Partition) -> Batch:
        pending = self._pending.pop(partition)
        self.weight -= pending.rows.weight
        return Batch(partition=partition, rows=pending.rows, scanned=Coverage(pending.scanned))
