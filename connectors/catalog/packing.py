"""Rows that wait to be merged, compressed in memory. Pure."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.catalog.merge import newest
from ahi_catalog.connectors.catalog.stretches import lie_in_order
from ahi_catalog.schemas import SCHEMA

STRETCH_ROWS: Final = 4 * 1024
"""Rows that are read at a time, at most."""
WORTH_PACKING: Final = 8 * 1024
"""As many rows have to wait before they are compressed."""
_LEAST_SHARE: Final = 16
"""A sixteenth of a stretch, 256 rows, has to arrive at once to be compressed. What lies between two pieces may come
later, so each is compressed for itself, which takes some kilobytes: single rows took ten times what they were."""

_PACKING: Final = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
"""Takes a microsecond a row, both ways, and leaves a fifth. LZ4 takes as long, and leaves twice as much."""
_PACKED_SHARE: Final = 5


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows in order, packed or not yet, and when the first and the last of them was created, epoch microseconds."""

    first: int
    last: int
    rows: int
    content: pa.Table | pa.Buffer = field(repr=False)

    @property
    def is_packed(self) -> bool:
        return not isinstance(self.content, pa.Table)

    def read(self, names: Sequence[str], stretch: int) -> Iterator[pa.Table]:
        if not self.is_packed:
            rows = self.content.select(names)
            yield from (rows.slice(start, stretch) for start in range(0, len(rows), stretch))
            return
        columns = [SCHEMA.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=columns, use_threads=False)
        with pa.ipc.open_stream(self.content, options=options) as batches:
            for batch in batches:
                yield pa.Table.from_batches([batch]).select(names)

    def packed(self, stretch: int) -> "_Piece":
        """The same packed, to be read a stretch at a time."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA, options=_PACKING) as writer:
            writer.write_table(self.content.combine_chunks(), max_chunksize=stretch)
        return replace(self, content=sink.getvalue())


class Packed:
    """Rows that wait, in the order of their time; compressed, unless they are few.

    Args:
        rows: In the columns of SCHEMA, to begin with.
        loose: As many are worth compressing.
        stretch: As many are read at a time.
    """

    def __init__(self, *rows: pa.Table, loose: int = WORTH_PACKING, stretch: int = STRETCH_ROWS) -> None:
        self._loose = loose
        self._stretch = stretch
        self._pieces: list[_Piece] = []
        """By time; from the first that overlaps another on as they arrive."""
        self._rows = self._packed_rows = self._packable_rows = 0
        self._overlaps = False
        for each in rows:
            self.add(each)

    def __len__(self) -> int:
        """How many rows."""
        return self._rows

    @property
    def weight(self) -> int:
        """How many rows take as much memory, uncompressed, as merging these does.

        Pieces that overlap, as changed image sets do, are put in order by one who holds them all.
        """
        if self._overlaps:
            return self._rows
        return self._rows - self._packed_rows + self._packed_rows // _PACKED_SHARE

    def add(self, rows: pa.Table) -> None:
        """Take in more, in the columns of SCHEMA."""
        if len(rows) == 0:
            return
        rows = rows.cast(SCHEMA)
        if not lie_in_order(rows):
            rows = newest(rows)
        times = rows["created_at"]
        piece = _Piece(times[0].value, times[-1].value, len(rows), rows)
        at = bisect.bisect(self._pieces, piece.first, key=attrgetter("first"))
        near = [*self._pieces[max(at - 1, 0) : at], piece, *self._pieces[at : at + 1]]
        self._overlaps = self._overlaps or any(before.last >= after.first for before, after in itertools.pairwise(near))
        self._pieces.insert(len(self._pieces) if self._overlaps else at, piece)
        self._rows += len(rows)
        if self._is_worth_packing(piece):
            self._packable_rows += len(rows)
        if self._packable_rows >= self._loose and not self._overlaps:
            self._pack()

    def read(self, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
        """Some columns of them, or all: by time, or as they arrived where that is not to be had."""
        tables: list[pa.Table] = []
        rows = 0
        for table in itertools.chain.from_iterable(piece.read(names, self._stretch) for piece in self._pieces):
            if tables and rows + len(table) > self._stretch:
                yield pa.concat_tables(tables)
                tables, rows = [], 0
            tables.append(table)
            rows += len(table)
        if tables:
            yield pa.concat_tables(tables)

    def _pack(self) -> None:
        for at, piece in enumerate(self._pieces):
            if self._is_worth_packing(piece) and not piece.is_packed:
                self._pieces[at] = piece.packed(self._stretch)
        self._packed_rows += self._packable_rows
        self._packable_rows = 0

    def _is_worth_packing(self, piece: _Piece) -> bool:
        return piece.rows >= self._stretch // _LEAST_SHARE
