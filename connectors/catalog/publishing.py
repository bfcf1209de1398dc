"""Publishing: rows merged into one partition by one conditional put.

On a conflict the object is read and merged again, so any number of runs may publish the same partition. What
the merge does not change is not written, unless an earlier version wrote it in another form. A row that a scan no
longer finds is removed only when the service confirms that the image set is deleted. The removal is noted in the table
`removals` first: a run that dies in between leaves a row beside its removal, which the view `changes` leaves out and
the next run makes good, and never a row that is gone without a word.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.catalog.layout import Partition
from ahi_catalog.connectors.catalog.merge import Merged, merge, origins_of, renew, without
from ahi_catalog.connectors.errors import DamagedError, Remedy, StateError
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.rows import unlisted
from ahi_catalog.connectors.storage import Store, Stored
from ahi_catalog.connectors.windows import NOWHERE, Coverage
from ahi_catalog.schemas import IMAGE_SETS, REMOVALS, Table

MERGING: Final = threading.Lock()
"""Held while the rows of a whole partition are merged, which is work for the processor and takes memory. It is never
held while the store or the service is asked: only what waits for them gains from going on side by side."""

ConfirmDeleted = Callable[[Collection[str]], Collection[str]]
"""Of image set ids, those that the service confirms deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a run has found out about one partition of a table.

    Attributes:
        table: What the rows are of.
        rows: Rows to merge, all created in the partition; in the table's columns.
        scanned: Ranges of createdAt in the partition whose every image set is among the rows.
        deleted: Ids of image sets that the service has confirmed deleted; they keep no row and get none.
    """

    table: Table
    partition: Partition
    rows: pa.Table = field(repr=False)
    scanned: Coverage
    deleted: Collection[str] = field(default=(), repr=False)

    @property
    def bytes(self) -> int:
        """Of memory that the rows take."""
        size: int = self.rows.nbytes
        return size

    @property
    def key(self) -> str:
        """The key of the partition's data object in the store."""
        return self.partition.key(self.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing a batch came to: counts and times.

    Attributes:
        is_populated: Whether the partition has an object now.
        created: When the image sets of new rows were created.
    """

    new: int
    updated: int
    unchanged: int
    removed: int
    bytes_written: int
    is_populated: bool
    created: pa.ChunkedArray = field(repr=False)


def publish(store: Store, batch: Batch, confirm_deleted: ConfirmDeleted) -> Published:
    """Merges a batch into its partition; when this returns, readers see the result.

    Args:
        store: Where the catalog lies.
        batch: The rows and what they prove.
        confirm_deleted: Asks the service about image sets that the scan should have found; about each one once.

    Raises:
        DamagedError: The partition's object is damaged; it is left as it was.
        StateError: It was written by a later version; it is left as it was.
        StoreError: It cannot be read or written, or other runs win all the time.
    """
    return retry_on_conflict(_publish_once, store, batch, _Answers(confirm_deleted))


def renew_partition(store: Store, table: Table, partition: Partition, rows: pa.Table) -> Published:
    """Puts the rows of image sets in the place of those that a partition has of them.

    Rows of image sets that `image_sets` no longer has, or has in another version, are dropped, so the table is never
    ahead of it. Its partition is read after the table's own: whatever another run has published there was in it.

    Args:
        store: Where the catalog lies.
        table: What the rows are of: one whose rows name their image set.
        partition: That all rows belong to.
        rows: All rows of some image sets; none: those that are there are looked through.

    Raises:
        DamagedError: An object is damaged; it is left as it was.
        StateError: It was written by a later version; it is left as it was.
        StoreError: It cannot be read or written, or other runs win all the time.
    """
    return retry_on_conflict(_renew_once, store, table, partition, rows)


def _renew_once(store: Store, table: Table, partition: Partition, rows: pa.Table) -> Published:
    key, whole = partition.key(table), partition.key(IMAGE_SETS)
    stored = store.get(key)
    image_sets = store.get(whole)
    with MERGING:
        current = read_object(IMAGE_SETS, whole, image_sets, ["image_set_id", "version"])
        merged = renew(table, read_object(table, key, stored), rows, origins_of(IMAGE_SETS, current))
        body = parquet.encode(table, merged.rows) if merged.is_change else None
    if body is not None:
        store.put(key, body, expected=stored.etag if stored else None)
    return _published(merged, stored, body)


class _Answers:
    """What the service has said of image sets, kept over conflicts.

    Args:
        confirm_deleted: Asks the service.
    """

    def __init__(self, confirm_deleted: ConfirmDeleted) -> None:
        self._confirm_deleted = confirm_deleted
        self._is_deleted: dict[str, bool] = {}

    def deleted(self, image_set_ids: Collection[str]) -> list[str]:
        """Those that are confirmed deleted; asks about the ones that it has not asked about."""
        if unknown := [each for each in image_set_ids if each not in self._is_deleted]:
            confirmed = set(self._confirm_deleted(unknown))
            self._is_deleted |= {each: each in confirmed for each in unknown}
        return [each for each in image_set_ids if self._is_deleted[each]]


def _publish_once(store: Store, batch: Batch, answers: _Answers) -> Published:
    stored = store.get(batch.key)
    # Which image sets have a row is asked about where scans looked, or rows go.
    asked = stored if batch.scanned or batch.deleted else None
    places = read_object(batch.table, batch.key, asked, [batch.table.created, "image_set_id"])
    missing = unlisted(batch.table, places, batch.rows["image_set_id"], batch.scanned)
    gone = answers.deleted([*missing, *_removed_before(store, stored, batch)])
    batch = replace(batch, deleted=[*batch.deleted, *(each for each in gone if each not in missing)])
    deleted = [*gone, *batch.deleted]
    note_removals(store, batch.partition, places, deleted)
    with MERGING:
        merged, body = _merge(stored, batch, deleted)
    if body is not None:
        store.put(batch.key, body, expected=stored.etag if stored else None)
    return _published(merged, stored, body)


def _removed_before(store: Store, stored: Stored | None, batch: Batch) -> list[str]:
    """Ids of arriving rows that another run has removed since they were read; looked up after the object was read."""
    if batch.table is not IMAGE_SETS or stored is None or not len(batch.rows):
        return []
    ledger = store.get(batch.partition.key(REMOVALS))
    if ledger is None:
        return []
    try:
        removed = parquet.decode(REMOVALS, ledger.body, ["image_set_id"])["image_set_id"]
    except StateError:
        return []  # A verify tells of it; what is published does not depend on it.
    ids = batch.rows["image_set_id"]
    found: list[str] = ids.filter(pc.is_in(ids, removed)).to_pylist()
    return found


def _published(merged: Merged, stored: Stored | None, body: bytes | None) -> Published:
    return Published(
        new=merged.new,
        updated=merged.updated,
        unchanged=merged.unchanged,
        removed=merged.removed,
        bytes_written=len(body) if body is not None else 0,
        is_populated=stored is not None or body is not None,
        created=merged.created,
    )


def note_removals(store: Store, partition: Partition, rows: pa.Table, deleted: Collection[str]) -> None:
    """Write down in the table `removals` which rows of a partition are about to go.

    Args:
        store: Where the catalog lies.
        partition: Of the rows.
        rows: Of image sets, with their ids and times of creation at least.
        deleted: Ids of those among them that the service confirms deleted.

    Raises:
        DamagedError: The object of removals is damaged; it is left as it was.
        StateError: It was written by a later version; it is left as it was.
        StoreError: It cannot be read or written, or other runs win all the time.
    """
    gone = rows.filter(pc.is_in(rows["image_set_id"], pa.array(deleted, pa.string())))
    if not len(gone):
        return
    removed_at = pa.repeat(pa.scalar(datetime.now(UTC), REMOVALS.schema.field("removed_at").type), len(gone))
    removals = gone.select(["image_set_id", "created_at"]).append_column("removed_at", removed_at)
    batch = Batch(table=REMOVALS, partition=partition, rows=removals.cast(REMOVALS.schema), scanned=NOWHERE)
    publish(store, batch, confirm_deleted=lambda _: ())


def _merge(stored: Stored | None, batch: Batch, deleted: Collection[str]) -> tuple[Merged, bytes | None]:
    """The merge of a batch with what is stored, and the bytes to put; None where there is nothing to write."""
    table = batch.table
    # The rows that are there are named nowhere, so that they are gone before the result is encoded.
    arriving = without(batch.rows, batch.deleted)
    merged = merge(table, read_object(table, batch.key, stored), arriving, deleted)
    with named(batch.key):
        is_written = merged.is_change or (stored is not None and not parquet.is_of_this_version(table, stored.body))
    return merged, parquet.encode(table, merged.rows) if is_written else None


def read_object(table: Table, key: str, stored: Stored | None, names: Sequence[str] | None = None) -> pa.Table:
    """The rows of a data object, none where there is no object.

    Args:
        table: What the object holds.
        key: Of the object.
        stored: What is there.
        names: Of the columns to read; None: all.

    Raises:
        DamagedError: It cannot be read; says how to mend it.
        StateError: It was written by a later version.
    """
    if stored is None:
        return table.schema.empty_table().select(names or table.schema.names)
    with named(key):
        return parquet.decode(table, stored.body, names)


@contextmanager
def named(key: str) -> Iterator[None]:
    """Have what is wrong with an object name it.

    Raises:
        DamagedError: It cannot be read; says how to mend it.
        StateError: It was written by a later version.
    """
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{key}: {error.message}", remedy=Remedy.REPAIR) from None
    except StateError as error:
        raise StateError(f"{key}: {error.message}", remedy=error.remedy) from None
