"""Merging rows into a partition: one row an image set, the newest wins. Pure.

By image_set_id the greater ``(version, updated_at)`` wins; where they are equal the row that arrives wins,
since storage tier and last access may move without a new version. So merging is idempotent, and apart from
such ties the order of merges does not matter.

A partition may be too large to hold, and what arrives never is. So a partition's rows come in stretches, more than
once: their ids and times, to see what arriving rows meet there; whole, where they meet any, to be compared; and again
to be written with them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from connectors.rows import pick
from schemas import SCHEMA

_ORDER: Final = ("created_at", "image_set_id")
"""How a partition's rows lie."""


class Stretches(Protocol):
    """The rows of a partition, some thousand at a time: as often as they are asked for, and every time the same."""

    def read(self, names: Sequence[str] = ...) -> Iterator[pa.Table]:
        """Some columns of SCHEMA, or all."""
        ...


class Held:
    """Rows that are held anyway.

    Args:
        stretches: In the columns of SCHEMA.
    """

    def __init__(self, *stretches: pa.Table) -> None:
        self._stretches = stretches

    def read(self, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
        """Some columns of them, or all."""
        return (stretch.select(names) for stretch in self._stretches)


NO_ROWS: Final = Held()
"""Of a partition without an object."""


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


def merge(existing: Stretches, arriving: pa.Table, gone: Collection[str] = ()) -> Merge:
    """The rows of a partition after others arrive.

    Args:
        existing: The partition's rows. They lie in order, one an image set, unless something went wrong: then they are
            held, and put right.
        arriving: Rows to merge; of several of one image set the same rule decides, and later ones win ties.
        gone: Ids of image sets that the service confirms deleted; none of them may arrive.
    """
    arriving = newest(arriving)
    ids = arriving["image_set_id"]
    keys, met = survey(existing, ids)
    kept = without(keys, gone)
    distinct = _distinct(kept)
    removed = _distinct(keys) - distinct if gone else 0
    doubled = len(kept) - distinct
    is_reordered = not _lies_in_order(keys)
    if doubled or is_reordered:
        existing = Held(newest(pa.concat_tables(existing.read())))
        _, met = survey(existing, ids)
    stays = _stays(met, arriving)
    written = pick(arriving, pc.invert(stays))
    replaced = pick(met, pc.is_in(met["image_set_id"], written["image_set_id"]))
    dropped = pa.chunked_array([*replaced["image_set_id"].chunks, _ids(gone)])
    unchanged = _count(stays)
    return Merge(
        rows=_interleaved((_without(stretch, dropped) for stretch in existing.read()), written),
        new=len(arriving) - len(met),
        updated=len(met) - unchanged,
        unchanged=unchanged,
        removed=removed,
        doubled=doubled,
        is_reordered=is_reordered,
    )


def survey(stretches: Stretches, ids: pa.ChunkedArray) -> tuple[pa.Table, pa.Table]:
    """Of all rows, created_at and image_set_id; and the whole rows of some ids."""
    keys = pa.concat_tables([SCHEMA.empty_table().select(_ORDER), *stretches.read(_ORDER)])
    is_met = pc.is_in(keys["image_set_id"], ids)
    met = [SCHEMA.empty_table()]
    if _count(is_met):
        for stretch in stretches.read():
            met.append(stretch.filter(is_met.slice(0, len(stretch))))
            is_met = is_met.slice(len(stretch))
    return keys, pa.concat_tables(met)


def newest(rows: pa.Table) -> pa.Table:
    """One row an image set, sorted by created_at and image_set_id."""
    rows = rows.cast(SCHEMA)
    if _lies_in_order(rows) and _distinct(rows) == len(rows):
        return rows
    version, updated = _rank(rows)
    arrival = pa.array(range(len(rows)), pa.int64())
    keys = pa.table({"id": rows["image_set_id"], "version": version, "updated": updated, "arrival": arrival})
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    ids = keys["id"].take(order).combine_chunks()
    is_last = pa.concat_arrays([pc.not_equal(ids.slice(0, len(ids) - 1), ids.slice(1)), pa.array([True])])
    winners = order.filter(is_last)
    # The order is settled on two columns, so that whole rows are copied once.
    return rows.take(winners.take(_order(rows.select(_ORDER).take(winners))))


def without(rows: pa.Table, ids: Collection[str]) -> pa.Table:
    """The rows of other image sets than those."""
    return _without(rows, pa.chunked_array([_ids(ids)]))


def aligned(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The rows of those ids, in their order; all null where there is none."""
    return rows.take(pc.index_in(ids, rows["image_set_id"]))


def same_rows(left: pa.Table, right: pa.Table, names: Iterable[str]) -> pa.ChunkedArray:
    """For each row whether two tables of the same length agree in some columns; null is null's equal."""
    return reduce(pc.and_, (_same_values(left[name], right[name]) for name in names))


def is_newer(left: pa.Table, right: pa.Table) -> pa.ChunkedArray:
    """For each row whether the left one is the newer by (version, updated_at); null is the oldest."""
    return _is_less(_rank(right), _rank(left))


def _stays(met: pa.Table, arriving: pa.Table) -> pa.ChunkedArray:
    """For each arriving row whether the one of its image set stays as it is."""
    if len(met) == 0:
        return pa.chunked_array([pa.repeat(False, len(arriving))])
    before = aligned(met, arriving["image_set_id"])
    loses = pc.or_(is_newer(before, arriving), same_rows(before, arriving, SCHEMA.names))
    return pc.and_(pc.is_valid(before["image_set_id"]), loses)


def _without(rows: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    return pick(rows, pc.invert(pc.is_in(rows["image_set_id"], ids))) if len(ids) else rows


def _interleaved(stretches: Iterable[pa.Table], arriving: pa.Table) -> Iterator[pa.Table]:
    """Rows in order and others in order, together in order; no image set is among both."""
    for stretch in stretches:
        if len(stretch) == 0:
            continue
        before = _count(_is_less(_place(arriving), tuple(stretch[name][-1] for name in _ORDER)))
        together = pa.concat_tables([stretch, arriving.slice(0, before)])
        yield together.take(_order(together)) if before else stretch
        arriving = arriving.slice(before)
    yield arriving


def _lies_in_order(rows: pa.Table) -> bool:
    """Whether rows are sorted by created_at and image_set_id."""
    last = max(len(rows) - 1, 0)
    return _count(_is_less(_place(rows.slice(0, last)), _place(rows.slice(1)))) == last


def _place(rows: pa.Table) -> tuple[pa.ChunkedArray, ...]:
    """What rows are sorted by."""
    return tuple(rows[name] for name in _ORDER)


def _rank(rows: pa.Table) -> tuple[pa.ChunkedArray, ...]:
    """What rows of an image set are judged by: (version, updated_at); null is the least."""
    updated = pc.cast(rows["updated_at"], pa.int64())
    return pc.fill_null(rows["version"], -(2**31)), pc.fill_null(updated, -(2**63))


def _is_less(left: tuple[Any, ...], right: tuple[Any, ...]) -> pa.ChunkedArray:
    """For each row whether one pair of values comes before the other."""
    (first, second), (other_first, other_second) = left, right
    is_tied = pc.equal(first, other_first)
    return pc.or_(pc.less(first, other_first), pc.and_(is_tied, pc.less(second, other_second)))


def _order(rows: pa.Table) -> pa.Array:
    return pc.sort_indices(rows, [(name, "ascending") for name in _ORDER])


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
