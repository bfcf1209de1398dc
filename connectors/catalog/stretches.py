"""Rows in stretches of some thousand, as often as they are asked for, and how they lie. Pure.

A partition may be too large to hold, and so may what arrives for it. So neither is held whole to be merged: what is
there comes from its object (`parquet.DataObject`), what arrives from compressed pieces in memory (`packing.Packed`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.schemas import SCHEMA

ORDER: Final = ("created_at", "image_set_id")
"""How a partition's rows lie."""


class Stretches(Protocol):
    """Rows, some thousand at a time: as often as they are asked for, and every time the same."""

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


def whole(stretches: Stretches, names: Sequence[str] = SCHEMA.names) -> pa.Table:
    """All rows at once, in some columns of SCHEMA, or all."""
    return pa.concat_tables([SCHEMA.empty_table().select(names), *stretches.read(names)])


def lie_in_order(rows: pa.Table) -> bool:
    """Whether rows are sorted by created_at and image_set_id, and no two are the same in both."""
    last = max(len(rows) - 1, 0)
    return bool(pc.all(is_before(place(rows.slice(0, last)), place(rows.slice(1))), min_count=0).as_py())


def in_order(rows: pa.Table) -> pa.Table:
    """The rows sorted by created_at and image_set_id."""
    return rows.take(order(rows))


def order(rows: pa.Table) -> pa.Array:
    """The places of rows in the order of created_at and image_set_id."""
    return pc.sort_indices(rows, [(name, "ascending") for name in ORDER])


def place(rows: pa.Table) -> tuple[pa.ChunkedArray, ...]:
    """What rows are sorted by."""
    return tuple(rows[name] for name in ORDER)


def last_place(rows: pa.Table) -> tuple[pa.Scalar, ...]:
    """The place of the last of some rows."""
    return tuple(rows[name][-1] for name in ORDER)


def is_before(left: tuple[Any, ...], right: tuple[Any, ...]) -> pa.ChunkedArray:
    """For each row whether one pair of values comes before the other."""
    (first, second), (other_first, other_second) = left, right
    is_tied = pc.equal(first, other_first)
    return pc.or_(pc.less(first, other_first), pc.and_(is_tied, pc.less(second, other_second)))
