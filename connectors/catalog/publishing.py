"""Publishing: rows merged into one partition by one conditional put.

On a conflict the object is read and merged again, so any number of runs may publish the same partition; what
the merge does not change is not written. A row that a scan no longer finds is removed only when the service
confirms that the image set is gone.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.catalog.comparison import unlisted
from ahi_catalog.connectors.catalog.layout import Partition
from ahi_catalog.connectors.catalog.merge import Side, merge
from ahi_catalog.connectors.catalog.packing import Packed
from ahi_catalog.connectors.catalog.stretches import NO_ROWS, Stretches
from ahi_catalog.connectors.errors import DamagedError, StateError
from ahi_catalog.connectors.retrying import CONFLICT_BACKOFF, Backoff, retry_on_conflict
from ahi_catalog.connectors.storage import Store, Stored
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.schemas import SCHEMA

_MERGING: Final = threading.Lock()
"""Held while rows are merged: that is work for the processor, and takes memory; only what waits for the store or the
service gains from going on side by side."""

_LARGE: Final = threading.Lock()
"""Held as long as a large object is; where both are, it is taken first."""

_LARGE_ROWS: Final = 20_000
_LARGE_BYTES: Final = 1 << 20
"""So many rows, or an object of so many bytes, take so much to merge that it is worth making room first."""

ConfirmGone = Callable[[Collection[str]], Collection[str]]
"""Of image set ids, those that the service confirms deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a run has found out about one partition.

    Attributes:
        rows: Image sets to merge, all created in the partition; in the columns of SCHEMA.
        scanned: Ranges of createdAt in the partition whose every image set is among the rows.
    """

    partition: Partition
    rows: Packed = field(repr=False)
    scanned: Coverage


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing a batch came to; counts only.

    Attributes:
        is_populated: Whether the partition has an object now.
    """

    new: int
    updated: int
    unchanged: int
    removed: int
    bytes_written: int
    is_populated: bool


def publish(
    store: Store,
    batch: Batch,
    confirm_gone: ConfirmGone,
    *,
    backoff: Backoff = CONFLICT_BACKOFF,
) -> Published:
    """Merge a batch into its partition; when this returns, readers see the result.

    Args:
        store: Where the catalog lies.
        batch: The rows and what they prove.
        confirm_gone: Asks the service about image sets that the scan should have found.
        backoff: Seconds to wait after so many conflicts; a test hands in none.

    Raises:
        StateError: The partition's object is damaged, or of a later version; it is left as it was.
        StoreError: It cannot be read or written, or other runs win all the time.
    """
    return retry_on_conflict(_publish_once, store, batch, confirm_gone, backoff=backoff)


def _publish_once(store: Store, batch: Batch, confirm_gone: ConfirmGone) -> Published:
    key = batch.partition.key
    with in_turn(store, key) as stored:
        with _MERGING, _room_for(stored, batch):
            published, body = _merge(stored, batch, confirm_gone)
        if body is not None:
            store.put(key, body, expected=stored.etag if stored else None)
    return published


@contextmanager
def in_turn(store: Store, key: str) -> Iterator[Stored | None]:
    """The object at a key; while it is held, no other large one is.

    Otherwise as many of them as the store has writers would wait for each other, for the service or for the store.
    """
    stored = store.get(key)
    if not _is_large(stored):
        yield stored
        return
    is_first = _LARGE.acquire(blocking=False)
    if not is_first:
        stored = None
        _LARGE.acquire()
    try:
        yield stored if is_first else store.get(key)
    finally:
        _LARGE.release()


def _merge(stored: Stored | None, batch: Batch, confirm_gone: ConfirmGone) -> tuple[Published, bytes | None]:
    """What publishing comes to once the bytes are put; None where there is nothing to write."""
    key = batch.partition.key
    with named(key):
        existing: Stretches = NO_ROWS if stored is None else parquet.DataObject(stored.body)
        is_looked_at = stored is not None and bool(batch.scanned)
        missing = unlisted(Side.of(existing), Side.of(batch.rows).ids, batch.scanned) if is_looked_at else []
    gone: Collection[str] = ()
    if missing:
        # It asks the service, which may take minutes.
        with _released(_MERGING):
            gone = confirm_gone(missing)
    with named(key):
        merged = merge(existing, batch.rows, gone)
        body = parquet.encode(merged.rows) if merged.is_change else None
    published = Published(
        new=merged.new,
        updated=merged.updated,
        unchanged=merged.unchanged,
        removed=merged.removed,
        bytes_written=len(body) if body is not None else 0,
        is_populated=stored is not None or body is not None,
    )
    return published, body


@contextmanager
def _room_for(stored: Stored | None, batch: Batch) -> Iterator[None]:
    """Have what was freed in pieces between others that are in use handed back to the system, before and after."""
    pool = pa.default_memory_pool()
    is_worth_it = _is_large(stored) or len(batch.rows) > _LARGE_ROWS
    if is_worth_it:
        pool.release_unused()
    try:
        yield
    finally:
        if is_worth_it:
            pool.release_unused()


def _is_large(stored: Stored | None) -> bool:
    return stored is not None and len(stored.body) > _LARGE_BYTES


@contextmanager
def _released(lock: threading.Lock) -> Iterator[None]:
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


def read_object(key: str, stored: Stored | None) -> pa.Table:
    """The rows of a data object, none where there is no object.

    Raises:
        DamagedError: It cannot be read; says how to mend it.
        StateError: It was written by a later version.
    """
    with named(key):
        return SCHEMA.empty_table() if stored is None else parquet.decode(stored.body)


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
        raise DamagedError(f"{key}: {error}; mend it with: ahi-catalog verify --repair") from None
    except StateError as error:
        raise StateError(f"{key}: {error}") from None
