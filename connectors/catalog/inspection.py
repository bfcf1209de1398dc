"""Looking at a data object by itself, without the service: can it be read, does each row belong there once?"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.catalog.comparison import belonging, tidy
from ahi_catalog.connectors.catalog.layout import Partition
from ahi_catalog.connectors.errors import DamagedError
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.storage import Store, Stored
from ahi_catalog.schemas import SCHEMA


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
    return _look(store.get(partition.key), partition)


def mend(store: Store, partition: Partition) -> None:
    """Write the object of a partition again without the rows that are too many; an unreadable one without any.

    The range of an unreadable one has to be uncovered first, and read again afterwards.

    Raises:
        StateError: It was written by a later version.
        StoreError: It cannot be read or written.
    """

    def mend_once() -> None:
        stored = store.get(partition.key)
        found = _look(stored, partition)
        if stored is None or found == Inspection():
            return
        rows = SCHEMA.empty_table() if found.is_unreadable else tidy(parquet.decode(stored.body), partition)
        store.put(partition.key, parquet.encode([rows]), expected=stored.etag)

    retry_on_conflict(mend_once)


def _look(stored: Stored | None, partition: Partition) -> Inspection:
    if stored is None:
        return Inspection()
    rows = 0
    inside = [SCHEMA.empty_table().select(["image_set_id"])]
    try:
        # Every value is read, for damage may be anywhere; only the ids are kept.
        for stretch in parquet.DataObject(stored.body).read():
            rows += len(stretch)
            inside.append(belonging(stretch, partition).select(["image_set_id"]))
    except DamagedError:
        return Inspection(is_unreadable=True)
    return Inspection(doubled=rows - pc.count_distinct(pa.concat_tables(inside)["image_set_id"]).as_py())
