"""Comparing a partition's rows with what a scan of the service found. Pure.

A row is judged by the merge's own order, ``(version, updated_at)``. Storage tier and last access are left out of
it: they may move without a new version, and between two reads they are not promised.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog.layout import Partition
from ahi_catalog.connectors.catalog.merge import Side, is_newer, newest, same_rows, side_by_side, without
from ahi_catalog.connectors.catalog.stretches import Stretches
from ahi_catalog.connectors.rows import lies_in, pick
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.schemas import SCHEMA

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


def compare(existing: Stretches, found: Stretches, scanned: Coverage, followed_to: datetime) -> Comparison:
    """Compare the rows of a partition with those of a scan.

    Args:
        existing: The partition's rows; of several of an image set the newest is judged.
        found: What the scan found, in the same columns.
        scanned: Ranges of createdAt whose every image set is among the rows found.
        followed_to: Changes before this moment are to be in the catalog; aware UTC.
    """
    there, listed = Side.of(existing).righted(), Side.of(found).righted()
    stale, altered, pending = list[str](), list[str](), 0
    ahead: dict[str, int] = {}
    for before, after in side_by_side(there, listed):
        is_behind, is_ahead = is_newer(after, before), is_newer(before, after)
        changed_at = pc.coalesce(after["updated_at"], after["created_at"])
        is_due = pc.less(changed_at, pa.scalar(followed_to, changed_at.type))
        is_other = pc.invert(same_rows(before, after, _JUDGED))
        stale += _ids(after, pc.and_(is_behind, is_due))
        altered += _ids(after, pc.and_(is_other, pc.invert(pc.or_(is_behind, is_ahead))))
        versions = pc.fill_null(before["version"], 0).filter(is_ahead).to_pylist()
        ahead |= zip(_ids(before, is_ahead), versions, strict=True)
        pending += len(_ids(after, pc.and_(is_behind, pc.invert(is_due))))
    return Comparison(
        missing=_ids(listed.keys, pc.invert(pc.is_in(listed.ids, there.ids))),
        stale=stale,
        altered=altered,
        ahead=ahead,
        unlisted=unlisted(there, listed.ids, scanned),
        pending=pending,
    )


def unlisted(there: Side, found: pa.ChunkedArray, scanned: Coverage) -> list[str]:
    """Ids of rows that lie where a scan looked, and that it did not find.

    Args:
        there: The partition's rows.
        found: Ids of what the scan found.
        scanned: Where it looked: ranges of createdAt.
    """
    lies_there = lies_in(there.keys["created_at"], scanned)
    return _ids(there.keys, pc.and_(lies_there, pc.invert(pc.is_in(there.ids, found))))


def _ids(rows: pa.Table, picked: pa.ChunkedArray) -> list[str]:
    ids: list[str] = rows["image_set_id"].filter(picked).to_pylist()
    return ids


def tidy(existing: pa.Table, partition: Partition) -> pa.Table:
    """A partition's rows without those that make an image set stand twice in the table.

    Those are second rows of an image set, and rows that belong to another partition by their created_at.
    """
    return newest(belonging(existing, partition))


def belonging(rows: pa.Table, partition: Partition) -> pa.Table:
    """The rows that belong to a partition by their created_at."""
    return pick(rows, lies_in(rows["created_at"], [partition.window]))
