"""Looking at a data object by itself, without the service: can it be read, does each row belong there once?"""

from dataclasses import dataclass

import pyarrow as pa

from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.catalog.layout import Partition
from ahi_catalog.connectors.catalog.merge import count_keys, newest
from ahi_catalog.connectors.catalog.publishing import MERGING
from ahi_catalog.connectors.errors import DamagedError
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.rows import lies_in, pick
from ahi_catalog.connectors.storage import Store, Stored
from ahi_catalog.schemas import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is wrong with a data object.

    Attributes:
        is_unreadable: Whether it is no Parquet object of a catalog.
        duplicate: Rows that stand there a second time, or that belong to another partition.
    """

    is_unreadable: bool = False
    duplicate: int = 0


def inspect(store: Store, table: Table, partition: Partition) -> Inspection:
    """What is wrong with the object of a partition.

    Raises:
        StateError: It was written by a later version.
        StoreError: It cannot be read.
    """
    return _look(store.get(partition.key(table)), table, partition)


def repair_object(store: Store, table: Table, partition: Partition) -> None:
    """Writes the object of a partition again without the rows that are too many; an unreadable one without any.

    The range of an unreadable one has to be taken out of the coverage first, and read again afterwards.

    Raises:
        StateError: It was written by a later version.
        StoreError: It cannot be read or written.
    """

    def mend_once() -> None:
        stored = store.get(partition.key(table))
        found = _look(stored, table, partition)
        if stored is None or found == Inspection():
            return
        with MERGING:
            rows = table.schema.empty_table() if found.is_unreadable else parquet.decode(table, stored.body)
            body = parquet.encode(table, tidy(table, rows, partition))
        store.put(partition.key(table), body, expected=stored.etag)

    retry_on_conflict(mend_once)


def tidy(table: Table, rows: pa.Table, partition: Partition) -> pa.Table:
    """A partition's rows without those that make a key stand twice in the table.

    Those are second rows of a key, and rows that belong to another partition.
    """
    return newest(table, belonging(table, rows, partition))


def belonging(table: Table, rows: pa.Table, partition: Partition) -> pa.Table:
    """The rows that belong to a partition by when their image set was created."""
    return pick(rows, lies_in(rows[table.created], [partition.window]))


def _look(stored: Stored | None, table: Table, partition: Partition) -> Inspection:
    if stored is None:
        return Inspection()
    with MERGING:
        try:
            # Every column is read, for damage may be anywhere.
            rows = parquet.decode(table, stored.body)
        except DamagedError:
            return Inspection(is_unreadable=True)
        return Inspection(duplicate=len(rows) - count_keys(table, belonging(table, rows, partition)))
