"""Looking at a data object by itself, without the service: can it be read, does each row belong there once?"""

from dataclasses import dataclass

import pyarrow as pa

from connectors.catalog import parquet
from connectors.catalog.comparison import tidy
from connectors.catalog.conflicts import until_it_wins
from connectors.catalog.layout import Partition
from connectors.catalog.store import Store, Stored
from connectors.errors import DamagedError
from schemas import SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is wrong with a data object.

    Attributes:
        is_unreadable: Whether it is no Parquet object of a catalog.
        doubled: Rows that stand there a second time, or that belong to another partition.
    """

    is_unreadable: bool = False
    doubled: int = 0


def inspect(store: Store, partition: Partition) -> Inspection:
    """Look at the object of a partition.

    Raises:
        StateError: It was written by a later version.
        StoreError: It cannot be read.
    """
    return _tidy(store.get(partition.key), partition)[0]


def mend(store: Store, partition: Partition) -> None:
    """Write the object of a partition again without the rows that are too many; an unreadable one without any.

    The range of an unreadable one has to be uncovered first, and read again afterwards.

    Raises:
        StateError: It was written by a later version.
        StoreError: It cannot be read or written.
    """

    def mend_once() -> None:
        stored = store.get(partition.key)
        found, rows = _tidy(stored, partition)
        if stored is not None and found != Inspection():
            store.put(partition.key, parquet.encode([rows]), expected=stored.etag)

    until_it_wins(mend_once)


def _tidy(stored: Stored | None, partition: Partition) -> tuple[Inspection, pa.Table]:
    """What is wrong with an object, and the rows that are right."""
    if stored is None:
        return Inspection(), SCHEMA.empty_table()
    try:
        existing = parquet.decode(stored.body)
    except DamagedError:
        return Inspection(is_unreadable=True), SCHEMA.empty_table()
    rows = tidy(existing, partition)
    return Inspection(doubled=len(existing) - len(rows)), rows
