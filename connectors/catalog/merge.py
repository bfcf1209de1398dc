"""Merging rows into a partition: one row an image set, the newest wins. Pure.

By image_set_id the greater ``(version, updated_at)`` wins; where they are equal the row that arrives wins,
since storage tier and last access may move without a new version. So merging is idempotent, and apart from
such ties the order of merges does not matter.

Neither what is there nor what arrives is held whole: both come in stretches, more than once: their ids and times, to
see what meets; whole, where something does, to be compared side by side; and again to be written together.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog.stretches import (
    ORDER,
    Held,
    Stretches,
    in_order,
    is_before,
    last_place,
    lie_in_order,
    order,
    place,
    whole,
)
from ahi_catalog.connectors.rows import pick
from ahi_catalog.schemas import SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What a merge comes to.

    Attributes:
        rows: The partition's rows afterwards, sorted by created_at and image_set_id, in stretches; read as they are
            asked for, and once only.
        new: Image sets that were not there.
        updated: Image sets whose row has changed.
        unchanged: Image sets that arrived and were there just so, or newer.
        removed: Image sets taken out.
        doubled: Rows beyond the one that an image set should have, which are dropped.
        is_reordered: Whether the rows that were there lay in another order, which something else has written.
    """

    rows: Iterator[pa.Table] = field(repr=False)
    new: int
    updated: int
    unchanged: int
    removed: int
    doubled: int
    is_reordered: bool

    @property
    def is_change(self) -> bool:
        """Whether the partition has to be written."""
        return bool(self.new or self.updated or self.removed or self.doubled or self.is_reordered)


def merge(existing: Stretches, arriving: Stretches, gone: Collection[str] = ()) -> Merge:
    """The rows of a partition after others arrive.

    Args:
        existing: The partition's rows. They lie in order, one an image set, unless something went wrong: then they are
            held, and put right.
        arriving: Rows to merge; of several of one image set the same rule decides, and later ones win ties (by
            createdAt, should it have moved). They are held, too, where they do not lie in order.
        gone: Ids of image sets that the service confirms deleted; none of them may arrive.
    """
    found = Side.of(existing)
    there, coming = found.righted(), Side.of(arriving).righted()
    kept = without(there.keys, gone)
    stays: list[pa.Array] = []
    replaced: list[pa.Array] = []
    for before, after in side_by_side(there, coming):
        ids, is_kept = after["image_set_id"], _stays(before, after)
        stays += ids.filter(is_kept).chunks
        replaced += ids.filter(pc.invert(is_kept)).chunks
    staying = pa.chunked_array(stays, pa.string())
    dropped = pa.chunked_array([*replaced, _ids(gone)])
    updated = sum(map(len, replaced))
    return Merge(
        rows=_interleaved(
            (_without(stretch, dropped) for stretch in there.stretches.read()),
            (_without(stretch, staying) for stretch in coming.stretches.read()),
        ),
        new=len(coming.keys) - len(staying) - updated,
        updated=updated,
        unchanged=len(staying),
        removed=len(there.keys) - len(kept),
        doubled=len(without(found.keys, gone)) - len(kept),
        is_reordered=found is not there and not lie_in_order(found.keys),
    )


@dataclass(frozen=True, slots=True)
class Side:
    """Rows that are to meet others.

    Attributes:
        stretches: The rows.
        keys: Of all of them, created_at and image_set_id.
    """

    stretches: Stretches
    keys: pa.Table = field(repr=False)

    @classmethod
    def of(cls, stretches: Stretches) -> "Side":
        """Read their ids and times."""
        return cls(stretches, whole(stretches, ORDER))

    @property
    def ids(self) -> pa.ChunkedArray:
        """Of all of them, image_set_id."""
        return self.keys["image_set_id"]

    def righted(self) -> "Side":
        """The same where they lie in order, one an image set; or they are held, and put so."""
        if lie_in_order(self.keys) and _distinct(self.keys) == len(self.keys):
            return self
        rows = newest(whole(self.stretches))
        return Side(Held(rows), rows.select(ORDER))


def side_by_side(left: Side, right: Side) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of image sets that both have, some thousand at a time: of the same ones in the same order.

    Args:
        left: Rows in order, one an image set.
        right: Others.
    """
    if len(left.keys) == 0 or len(right.keys) == 0:
        return  # as in a first sync: nothing need be hashed
    met = left.keys.filter(pc.is_in(left.ids, right.ids))
    if len(met) == 0:
        return
    # What has one time on both sides is there where both have got to it. Nobody has seen the service move one.
    born = met["created_at"].take(pc.index_in(right.ids, met["image_set_id"]))
    moved = right.ids.filter(pc.fill_null(pc.not_equal(born, right.keys["created_at"]), False))
    for several in _in_step(left.stretches.read(), right.stretches.read()):
        yield _alike(*(_without(part, moved) for part in several))
    if len(moved):
        yield _alike(*(pa.concat_tables(_of(side.stretches, moved)) for side in (left, right)))


def _alike(left: pa.Table, right: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Of two tables the rows of image sets that both have, in the order of the second."""
    places = pc.index_in(right["image_set_id"], left["image_set_id"])
    return left.take(places.drop_null()), right.filter(pc.is_valid(places))


def _of(stretches: Stretches, ids: pa.ChunkedArray) -> Iterator[pa.Table]:
    return (stretch.filter(pc.is_in(stretch["image_set_id"], ids)) for stretch in stretches.read())


def newest(rows: pa.Table) -> pa.Table:
    """One row an image set, sorted by created_at and image_set_id."""
    rows = rows.cast(SCHEMA)
    if lie_in_order(rows) and _distinct(rows) == len(rows):
        return rows
    version, updated = _rank(rows)
    arrival = pa.array(range(len(rows)), pa.int64())
    keys = pa.table({"id": rows["image_set_id"], "version": version, "updated": updated, "arrival": arrival})
    by_rank = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    ids = keys["id"].take(by_rank).combine_chunks()
    is_last = pa.concat_arrays([pc.not_equal(ids.slice(0, len(ids) - 1), ids.slice(1)), pa.array([True])])
    winners = by_rank.filter(is_last)
    # The order is settled on two columns, so that whole rows are copied once.
    return rows.take(winners.take(order(rows.select(ORDER).take(winners))))


def without(rows: pa.Table, ids: Collection[str]) -> pa.Table:
    """The rows of other image sets than those."""
    return _without(rows, pa.chunked_array([_ids(ids)]))


def same_rows(left: pa.Table, right: pa.Table, names: Iterable[str]) -> pa.ChunkedArray:
    """For each row whether two tables of the same length agree in some columns; null is null's equal."""
    return reduce(pc.and_, (_same_values(left[name], right[name]) for name in names))


def is_newer(left: pa.Table, right: pa.Table) -> pa.ChunkedArray:
    """For each row whether the left one is the newer by (version, updated_at); null is the oldest."""
    return is_before(_rank(right), _rank(left))


def _stays(before: pa.Table, after: pa.Table) -> pa.ChunkedArray:
    """For each row that arrives whether the one that is there stays as it is."""
    return pc.or_(is_newer(before, after), same_rows(before, after, SCHEMA.names))


def _without(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    return pick(rows, pc.invert(pc.is_in(rows["image_set_id"], ids))) if len(ids) else rows


def _interleaved(left: Iterator[pa.Table], right: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Rows in order and others in order, together in order; no image set is among both."""
    for several in _in_step(left, right):
        parts = [part for part in several if len(part)]
        yield in_order(pa.concat_tables(parts)) if len(parts) > 1 else parts[0]


def _in_step(*sides: Iterator[pa.Table]) -> Iterator[list[pa.Table]]:
    """Rows in order, of each side those up to the same place: as far as the stretches of all go that are held."""
    heads = [_next(side) for side in sides]
    while ends := [last_place(head) for head in heads if len(head)]:
        end = min(ends, key=lambda values: tuple(value.as_py() for value in values))
        counts = [len(head) - _count(is_before(end, place(head))) for head in heads]
        yield [head.slice(0, count) for head, count in zip(heads, counts, strict=True)]
        heads = [
            head.slice(count) if count < len(head) else _next(side)
            for head, count, side in zip(heads, counts, sides, strict=True)
        ]


def _next(stretches: Iterator[pa.Table]) -> pa.Table:
    """The next one with rows; one without at the end."""
    return next((stretch for stretch in stretches if len(stretch)), SCHEMA.empty_table())


def _rank(rows: pa.Table) -> tuple[pa.ChunkedArray, ...]:
    """What rows of an image set are judged by: (version, updated_at); null is the least."""
    updated = pc.cast(rows["updated_at"], pa.int64())
    return pc.fill_null(rows["version"], -(2**31)), pc.fill_null(updated, -(2**63))


def _distinct(rows: pa.Table) -> int:
    count: int = pc.count_distinct(rows["image_set_id"]).as_py()
    return count


def _same_values(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.ChunkedArray:
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    return pc.or_(both_null, pc.fill_null(pc.equal(left, right), False))


def _count(flags: pa.ChunkedArray) -> int:
    return pc.sum(flags).as_py() or 0


def _ids(ids: Collection[str]) -> pa.Array:
    return pa.array(sorted(ids), pa.string())
