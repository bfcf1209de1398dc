"""Merging rows into a partition: one row an image set, the newest wins. Pure.

By image_set_id the greater ``(version, updated_at)`` wins; where they are equal the row that arrives wins,
since storage tier and last access may move without a new version. So merging is idempotent, and apart from
such ties the order of merges does not matter.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from schemas import SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What a merge comes to.

    Attributes:
        rows: The partition's rows afterwards, sorted by created_at and image_set_id.
        new: Image sets that were not there.
        updated: Image sets whose row has changed.
        unchanged: Image sets that arrived and were there just so, or newer.
        removed: Image sets taken out.
        doubled: Rows beyond the one that an image set should have, which are dropped.
    """

    rows: pa.Table = field(repr=False)
    new: int
    updated: int
    unchanged: int
    removed: int
    doubled: int

    @property
    def is_change(self) -> bool:
        """Whether the partition has to be written."""
        return bool(self.new or self.updated or self.removed or self.doubled)


def merge(existing: pa.Table, arriving: pa.Table, gone: Collection[str] = ()) -> Merge:
    """The rows of a partition after others arrive.

    Args:
        existing: The partition's rows, in the columns of SCHEMA; one an image set, unless something went wrong.
        arriving: Rows to merge; of several of one image set the same rule decides, and later ones win ties.
        gone: Ids of image sets that the service confirms deleted; none of them may arrive.
    """
    kept = existing.filter(pc.invert(pc.is_in(existing["image_set_id"], _ids(gone)))) if gone else existing
    arriving = newest(arriving)
    if len(existing) == 0:
        return Merge(rows=arriving, new=len(arriving), updated=0, unchanged=0, removed=0, doubled=0)
    rows = newest(pa.concat_tables([kept, arriving]))
    before = pc.index_in(arriving["image_set_id"], existing["image_set_id"])
    after = pc.index_in(arriving["image_set_id"], rows["image_set_id"])
    was_there = pc.is_valid(before)
    # Column by column: a partition of a hundred thousand rows is not copied twice over to be compared.
    same = reduce(pc.and_, (_same_values(existing[name].take(before), rows[name].take(after)) for name in SCHEMA.names))
    unchanged = _count(pc.and_(was_there, same))
    there = _count(was_there)
    return Merge(
        rows=rows,
        new=len(arriving) - there,
        updated=there - unchanged,
        unchanged=unchanged,
        removed=len(existing) - len(kept),
        doubled=len(kept) - pc.count_distinct(kept["image_set_id"]).as_py(),
    )


def newest(rows: pa.Table) -> pa.Table:
    """One row an image set, sorted by created_at and image_set_id."""
    if len(rows) == 0:
        return rows.cast(SCHEMA)
    keys = pa.table(
        {
            "id": rows["image_set_id"],
            "version": pc.fill_null(rows["version"], -(2**31)),
            "updated": pc.fill_null(pc.cast(rows["updated_at"], pa.int64()), -(2**63)),
            "arrival": pa.array(range(len(rows)), pa.int64()),
        }
    )
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    ids = keys["id"].take(order).combine_chunks()
    is_last = pa.concat_arrays([pc.not_equal(ids.slice(0, len(ids) - 1), ids.slice(1)), pa.array([True])])
    winners = order.filter(is_last)
    # The order is settled on two columns, so that whole rows are copied once.
    places = rows.select(["created_at", "image_set_id"]).take(winners)
    settled = pc.sort_indices(places, [(name, "ascending") for name in places.column_names])
    return rows.take(winners.take(settled))


def aligned(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The rows of those ids, in their order; all null where there is none."""
    return rows.take(pc.index_in(ids, rows["image_set_id"]))


def same_rows(left: pa.Table, right: pa.Table, names: Iterable[str]) -> pa.ChunkedArray:
    """For each row whether two tables of the same length agree in some columns; null is null's equal."""
    return reduce(pc.and_, (_same_values(left[name], right[name]) for name in names))


def _same_values(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.ChunkedArray:
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    return pc.or_(both_null, pc.fill_null(pc.equal(left, right), False))


def _count(flags: pa.ChunkedArray) -> int:
    return pc.sum(flags).as_py() or 0


def _ids(ids: Collection[str]) -> pa.Array:
    return pa.array(sorted(ids), pa.string())
