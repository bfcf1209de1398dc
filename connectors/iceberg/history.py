"""What an Iceberg table remembers: snapshots that expire, and the files that no snapshot needs any more.

PyIceberg's expiry takes snapshots out of the metadata and deletes no file, so that a removed row would stay.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final

import pyarrow.parquet as pq
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.iceberg.files import TableFiles
from ahi_catalog.connectors.iceberg.mirror import LONGEST_RUN, conflicts, copied_at, data_folder
from ahi_catalog.connectors.retrying import retry_on_conflict

_THREADS: Final = 16
_ID: Final = "image_set_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What an expiry took away, or would.

    Attributes:
        snapshots: Of the table.
        files: Data files, manifests and lists of manifests of theirs.
        orphans: Copies that no snapshot names: of runs that ended early, or that another one overtook.
    """

    snapshots: int = 0
    files: int = 0
    orphans: int = 0


def expire(found: IcebergTable, before: datetime, now: datetime, *, is_dry: bool = False) -> Expired:
    """Expire snapshots that are older than a moment, and delete what no other needs; branches and tags keep theirs.

    Args:
        found: The table, of a catalog loaded with `TableFiles`.
        before: The moment, aware.
        now: Aware; tells which copies are of a run under way.
        is_dry: Whether only to tell what would be done.

    Raises:
        StoreError: A file cannot be read or deleted; the next expiry goes on.
    """
    limit = before.timestamp() * 1000
    return retry_on_conflict(_expire, found, lambda each, _: each.timestamp_ms < limit, now, is_dry, {})


def forget(found: IcebergTable, image_set_id: str, now: datetime, *, is_dry: bool = False) -> Expired:
    """Expire the snapshots that have a row of an image set, whatever their age, and delete what no other needs.

    Args:
        found: The table, of a catalog loaded with `TableFiles`.
        image_set_id: The image set.
        now: Aware.
        is_dry: Whether only to tell what would be done.

    Raises:
        UsageError: The newest snapshot has a row of it, or one that a branch or tag keeps.
        StoreError: A file cannot be read or deleted.
    """
    known: dict[str, bool] = {}

    def holds(path: str) -> bool:
        with found.io.new_input(path).open() as file:
            known[path] = bool(pq.read_table(file, columns=[_ID], filters=[(_ID, "=", image_set_id)]).num_rows)
        return known[path]

    def is_holding(snapshot: Snapshot, needs: _Needs) -> bool:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(holds, needs.data(snapshot) - known.keys()))
        has = any(known[path] for path in needs.data(snapshot))
        if has and snapshot.snapshot_id in _kept(found):
            raise UsageError(
                f"the newest snapshot of {'.'.join(found.name())}, or one that a branch or tag keeps, has a row of "
                "that image set: delete it in HealthImaging, verify with `repair`, and drop branches and tags"
            )
        return has

    return retry_on_conflict(_expire, found, is_holding, now, is_dry, {})


class _Needs:
    """The files that snapshots need; each manifest is read once.

    Args:
        found: The table.
    """

    def __init__(self, found: IcebergTable) -> None:
        self._io = found.io
        self._manifests: dict[int, list[ManifestFile]] = {}
        self._data: dict[str, frozenset[str]] = {}

    def load(self, snapshots: Iterable[Snapshot]) -> None:
        """Read what is not known yet, several files at a time."""
        with ThreadPoolExecutor(_THREADS) as threads:
            new = [each for each in snapshots if each.snapshot_id not in self._manifests]
            for snapshot, manifests in zip(new, threads.map(lambda each: each.manifests(self._io), new), strict=True):
                self._manifests[snapshot.snapshot_id] = manifests
            every = chain.from_iterable(self._manifests.values())
            unread = {each.manifest_path: each for each in every if each.manifest_path not in self._data}
            for path, files in zip(unread, threads.map(self._read, unread.values()), strict=True):
                self._data[path] = files

    def data(self, snapshot: Snapshot) -> set[str]:
        """Where the live files of a snapshot lie."""
        return set().union(*(self._data[each.manifest_path] for each in self._manifests[snapshot.snapshot_id]))

    def all(self, snapshots: Iterable[Snapshot]) -> set[str]:
        """Where the files of snapshots lie, manifests and their lists included."""
        needed: set[str] = set()
        for snapshot in snapshots:
            paths = {each.manifest_path for each in self._manifests[snapshot.snapshot_id]}
            needed |= self.data(snapshot) | paths | {snapshot.manifest_list}
        return needed

    def _read(self, manifest: ManifestFile) -> frozenset[str]:
        return frozenset(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(self._io))


def _expire(
    found: IcebergTable,
    is_chosen: Callable[[Snapshot, _Needs], bool],
    now: datetime,
    is_dry: bool,  # noqa: FBT001  # as retry_on_conflict hands it on
    expired: dict[int, set[str]],
) -> Expired:
    """Expire and delete; `expired` holds the files of snapshots of attempts before, which may have landed."""
    needs = _Needs(found)
    with conflicts(found.name(), found):
        found.refresh()
        needs.load(found.metadata.snapshots)
        kept = _kept(found)
        chosen = [each for each in found.metadata.snapshots if is_chosen(each, needs) and each.snapshot_id not in kept]
        expired |= {each.snapshot_id: needs.all([each]) for each in chosen}
        if chosen and not is_dry:
            found.maintenance.expire_snapshots().by_ids([each.snapshot_id for each in chosen]).commit()
            found.refresh()
        left = [each for each in found.metadata.snapshots if not (is_dry and each.snapshot_id in expired)]
        needs.load(left)
    needed = needs.all(left)
    # What others added from elsewhere, as the catalog's own objects, is not the table's to delete.
    own = f"{found.location()}/"
    unneeded = {path for path in set().union(*expired.values()) - needed if path.startswith(own)}
    assert isinstance(found.io, TableFiles)  # noqa: S101  # as its catalog was loaded
    orphans = {path for path in found.io.list(data_folder(found)) if _is_old(found, path, now)} - needed - unneeded
    if not is_dry:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(found.io.delete, sorted(unneeded | orphans)))
    return Expired(snapshots=len(expired), files=len(unneeded), orphans=len(orphans))


def _kept(found: IcebergTable) -> set[int]:
    """The snapshots that branches and tags name, the current one among them."""
    return {each.snapshot_id for each in found.metadata.refs.values()}


def _is_old(found: IcebergTable, path: str, now: datetime) -> bool:
    """Whether a copy is older than any run that may still be under way."""
    copied = copied_at(found, path)
    return copied is not None and now - copied > 2 * LONGEST_RUN
