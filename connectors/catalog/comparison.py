"""Comparing a partition's rows with what a scan of the service found. Pure.

A row is judged by the merge's own order, ``(version, updated_at)``. Storage tier and last access are left out of
it: they may move without a new version, and between two reads they are not promised.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from connectors.catalog.layout import Partition
from connectors.catalog.merge import Stretches, aligned, is_newer, newest, same_rows, survey, without
from connectors.rows import lies_in, pick
from connectors.windows import Coverage
from schemas import SCHEMA

_MOVING = frozenset({"storage_tier", "last_accessed_at"})
_JUDGED = tuple(name for name in SCHEMA.names if name not in _MOVING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Where a partition and the service differ, by image set id.

    Attributes:
        missing: Found by the scan, and not in the partition.
        stale: Their row is older than what the scan found, and the change was to be followed by now.
        altered: Their row is of the very version that the scan found, and says something else.
        ahead: Their row is newer than what the scan found; another run may have published it meanwhile. With the
            version of the row, 0 where it has none.
        unlisted: Their row lies where the scan looked, and the scan did not find them.
        pending: How many rows are older than what the scan found, by a change that no run was to follow yet.
    """

    missing: list[str]
    stale: list[str]
    altered: list[str]
    ahead: Mapping[str, int]
    unlisted: list[str]
    pending: int


class Belonging:
    """The rows of a partition's object that belong there, as often as they are asked for.

    Args:
        stretches: The object's rows.
        partition: Rows of others are left out.
        leaving: So are the rows of these image sets.
    """

    def __init__(self, stretches: Stretches, partition: Partition, leaving: Collection[str] = ()) -> None:
        self._stretches = stretches
        self._partition = partition
        self._leaving = leaving

    def read(self, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
        """Some columns of them, or all."""
        for stretch in self._stretches.read(sorted({*names, "created_at", "image_set_id"})):
            yield without(belonging(stretch, self._partition), self._leaving).select(names)


def compare(existing: Stretches, found: pa.Table, scanned: Coverage, followed_to: datetime) -> Comparison:
    """Compare the rows of a partition with those of a scan.

    Args:
        existing: The partition's rows; of several of an image set the newest is judged.
        found: What the scan found, in the same columns.
        scanned: Ranges of createdAt whose every image set is among the rows found.
        followed_to: Changes before this moment are to be in the catalog; aware UTC.
    """
    found = newest(found)
    keys, met = survey(existing, found["image_set_id"])
    before = aligned(newest(met), found["image_set_id"])
    is_there = pc.is_valid(before["image_set_id"])
    is_later, is_older = is_newer(found, before), is_newer(before, found)
    changed_at = pc.coalesce(found["updated_at"], found["created_at"])
    is_due = pc.less(changed_at, pa.scalar(followed_to, changed_at.type))
    is_equal = pc.and_(is_there, pc.invert(pc.or_(is_later, is_older)))
    is_behind = pc.and_(is_there, is_later)
    is_ahead, versions = pc.and_(is_there, is_older), pc.fill_null(before["version"], 0)
    is_listed = pc.is_in(keys["image_set_id"], found["image_set_id"])
    is_unlisted = pc.and_(lies_in(keys["created_at"], scanned), pc.invert(is_listed))

    def ids(table: pa.Table, mask: pa.ChunkedArray) -> list[str]:
        chosen: list[str] = table.filter(mask)["image_set_id"].unique().to_pylist()
        return chosen

    return Comparison(
        missing=ids(found, pc.invert(is_there)),
        stale=ids(found, pc.and_(is_behind, is_due)),
        altered=ids(found, pc.and_(is_equal, pc.invert(same_rows(before, found, _JUDGED)))),
        ahead=dict(zip(ids(before, is_ahead), versions.filter(is_ahead).to_pylist(), strict=True)),
        unlisted=ids(keys, is_unlisted),
        pending=len(ids(found, pc.and_(is_behind, pc.invert(is_due)))),
    )


def tidy(existing: pa.Table, partition: Partition) -> pa.Table:
    """A partition's rows without those that make an image set stand twice in the table.

    Those are second rows of an image set, and rows that belong to another partition by their created_at.
    """
    return newest(belonging(existing, partition))


def belonging(rows: pa.Table, partition: Partition) -> pa.Table:
    """The rows that belong to a partition by their created_at."""
    return pick(rows, lies_in(rows["created_at"], [partition.window]))
