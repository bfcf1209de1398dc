"""Merging rows into a partition: one row a key, the newest wins. Pure.

Of two rows of a key the greater version wins (for image sets ``(version, updated_at)``). Where versions are equal the
row that arrives wins, since storage tier and last access may move without a new version. So merging is idempotent,
and apart from such ties the order of merges does not matter.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.rows import pick
from ahi_catalog.schemas import Table

_OLDEST: Final = -(2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The result of a merge.

    Attributes:
        rows: The partition's rows afterwards, in the table's order.
        new: Keys that were not there.
        created: When the image sets of those were created.
        updated: Keys whose row has changed.
        unchanged: Keys that arrived and were there just so, or newer.
        removed: Keys taken out because their image set is deleted.
        duplicate: Rows beyond the one that a key should have; they are dropped.
        is_change: Whether the rows differ from those that were there, in values or in order.
    """

    rows: pa.Table = field(repr=False)
    new: int
    updated: int
    unchanged: int
    removed: int
    duplicate: int
    is_change: bool
    created: pa.ChunkedArray = field(repr=False)


def merge(table: Table, existing: pa.Table, arriving: pa.Table, deleted: Collection[str] = ()) -> Merged:
    """Merges rows into those of a partition.

    Args:
        table: What the rows are of.
        existing: The partition's rows.
        arriving: Rows to merge. Of several of one key the newest counts, and of equally new ones the last.
        deleted: Ids of image sets that the service confirms deleted; no row of theirs may arrive.
    """
    kept = without(existing, deleted)
    before, after = newest(table, kept), newest(table, arriving)
    old, new = matched(table, before, after)
    stays = pc.or_(is_newer(table, before, old, after, new), agrees(before, old, after, new, table.schema.names))
    unchanged, replaced = new.filter(stays), old.filter(pc.invert(stays))
    rows = in_order(table, pa.concat_tables([_at_other_places(before, replaced), _at_other_places(after, unchanged)]))
    removed = count_keys(table, existing) - len(before) if deleted else 0
    counts = {
        "new": len(after) - len(new),
        "updated": len(replaced),
        "removed": removed,
        "duplicate": len(kept) - len(before),
    }
    is_change = any(counts.values()) or not is_in_order(table, existing)
    created = _at_other_places(after.select([table.created]), new)[table.created]
    return Merged(rows=rows, unchanged=len(unchanged), is_change=is_change, created=created, **counts)


def renew(table: Table, existing: pa.Table, arriving: pa.Table, current: pa.ChunkedArray) -> Merged:
    """Puts the rows that were read of image sets in the place of all that were there of them.

    Args:
        table: What the rows are of: a table whose rows name their image set, and the version that they were read from.
        existing: The partition's rows.
        arriving: All rows of some image sets.
        current: What `origins_of` says of the image sets that there are; rows of any other are dropped.
    """
    fresh = pick(arriving, pc.is_in(origins_of(table, arriving), current))
    others = pick(existing, pc.invert(pc.is_in(existing["image_set_id"], fresh["image_set_id"])))
    left = pick(others, pc.is_in(origins_of(table, others), current))
    rows = in_order(table, pa.concat_tables([left, fresh]))
    is_change = not rows.equals(existing)
    updated = pc.sum(pc.is_in(fresh["image_set_id"], existing["image_set_id"]), min_count=0).as_py()
    return Merged(
        rows=rows,
        new=len(fresh) - updated,
        updated=updated if is_change else 0,
        unchanged=0 if is_change else updated,
        removed=len(others) - len(left),
        duplicate=0,
        is_change=is_change,
        created=fresh.slice(0, 0)[table.created],
    )


def origins_of(table: Table, rows: pa.Table) -> pa.ChunkedArray:
    """The image set of each row and its version, as one text."""
    version = pc.fill_null(pc.cast(rows[table.version[0]], pa.string()), "")
    return pc.binary_join_element_wise(rows["image_set_id"], version, "\0")


def newest(table: Table, rows: pa.Table) -> pa.Table:
    """The newest row of each key, and every row without one, in the table's order."""
    if count_keys(table, rows) == len(rows):
        return in_order(table, rows)
    arrival = pa.array(range(len(rows)), pa.int64())
    columns = [keys_of(table, rows), *_ranks(table, rows), arrival]
    by_rank = _sort_indices(columns)
    keys = columns[0].take(by_rank).combine_chunks()
    is_other = pc.fill_null(pc.not_equal(keys.slice(0, len(keys) - 1), keys.slice(1)), True)
    return in_order(table, rows.take(by_rank.filter(pa.concat_arrays([is_other, pa.array([True])]))))


def in_order(table: Table, rows: pa.Table) -> pa.Table:
    """The rows sorted by the table's order."""
    return rows if is_in_order(table, rows) else rows.take(_sort_indices(_places(table, rows)))


def is_in_order(table: Table, rows: pa.Table) -> bool:
    """Whether rows are sorted by the table's order, and no two have one place."""
    last = max(len(rows) - 1, 0)
    first, second = ([column.slice(start, last) for column in _places(table, rows)] for start in (0, 1))
    return bool(pc.all(_is_less(first, second), min_count=0).as_py())


def keys_of(table: Table, rows: pa.Table) -> pa.ChunkedArray:
    """The key of each row, as one text; null where the PHI policy leaves it no key, so that it is no other's equal."""
    first, *others = (rows[name] for name in table.key)
    return pc.binary_join_element_wise(first, *others, "\0") if others else first


def count_keys(table: Table, rows: pa.Table) -> int:
    """How many keys there are among rows; a row without one counts as one."""
    keys = keys_of(table, rows)
    count: int = pc.count_distinct(keys).as_py() + keys.null_count
    return count


def matched(table: Table, left: pa.Table, right: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The places on both sides of the keys that both have, in the order of the right side; a key once a side."""
    if len(left) == 0 or len(right) == 0:
        nowhere = pa.chunked_array([], pa.int32())  # as in a first sync: no key need be hashed
        return nowhere, nowhere
    found = pc.index_in(keys_of(table, right), keys_of(table, left))
    return found.drop_null(), pa.chunked_array([pc.indices_nonzero(pc.is_valid(found))])


def is_newer(
    table: Table, left: pa.Table, at: pa.ChunkedArray, right: pa.Table, also_at: pa.ChunkedArray
) -> pa.ChunkedArray:
    """For each pair of places whether the left row is the newer one by the table's version; null is the oldest."""
    ranks = [_ranks(table, rows.select(table.version).take(places)) for rows, places in ((left, at), (right, also_at))]
    return _is_less(ranks[1], ranks[0])


def agrees(
    left: pa.Table, at: pa.ChunkedArray, right: pa.Table, also_at: pa.ChunkedArray, names: Iterable[str]
) -> pa.ChunkedArray:
    """For each pair of places whether the two rows agree in some columns; null is null's equal.

    Columns are taken one by one, so that the pairs are never held whole.
    """
    return reduce(pc.and_, (_same_values(left[name].take(at), right[name].take(also_at)) for name in names))


def without(rows: pa.Table, image_set_ids: Collection[str]) -> pa.Table:
    """The rows of other image sets than those."""
    if not image_set_ids:
        return rows
    return pick(rows, pc.invert(pc.is_in(rows["image_set_id"], pa.array(sorted(image_set_ids), pa.string()))))


def _places(table: Table, rows: pa.Table) -> list[pa.ChunkedArray]:
    """What rows are sorted by; those without a key stay as they are to one another."""
    columns = (rows[name] for name in table.order)
    return [pc.fill_null(each, "") if pa.types.is_string(each.type) else each for each in columns]


def _at_other_places(rows: pa.Table, places: pa.ChunkedArray) -> pa.Table:
    if len(places) == 0:
        return rows
    every = pa.array(range(len(rows)), places.type)
    return pick(rows, pc.invert(pc.is_in(every, places)))


def _ranks(table: Table, rows: pa.Table) -> list[pa.ChunkedArray]:
    return [pc.fill_null(pc.cast(rows[name], pa.int64()), _OLDEST) for name in table.version]


def _sort_indices(columns: Sequence[pa.ChunkedArray | pa.Array]) -> pa.Array:
    named = pa.table({str(number): column for number, column in enumerate(columns)})
    return pc.sort_indices(named, [(name, "ascending") for name in named.column_names])


def _is_less(left: Sequence[pa.ChunkedArray], right: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """For each row whether the left values come before the right ones, compared column by column."""
    *pairs, (last, other_last) = zip(left, right, strict=True)
    result = pc.less(last, other_last)
    for one, other in reversed(pairs):
        result = pc.or_(pc.less(one, other), pc.and_(pc.equal(one, other), result))
    return result


def _same_values(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.ChunkedArray:
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    return pc.or_(both_null, pc.fill_null(pc.equal(left, right), False))
