"""Rows that wait to be merged, compressed in memory. Pure."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import pyarrow as pa

from connectors.catalog.merge import newest
from connectors.catalog.stretches import lie_in_order
from schemas import SCHEMA

STRETCH_ROWS: Final = 4 * 1024
"""Rows that are read at a time."""
WORTH_PACKING: Final = 8 * 1024
"""As many rows have to wait before they are compressed."""

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

    def read(self, names: Sequence[str]) -> pa.Table:
        if isinstance(self.content, pa.Table):
            return self.content.select(names)
        columns = [SCHEMA.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=columns, use_threads=False)
        with pa.ipc.open_stream(self.content, options=options) as reader:
            return reader.read_all().select(names)

    def packed(self) -> "_Piece":
        if not isinstance(self.content, pa.Table):
            return self
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA, options=_PACKING) as writer:
            writer.write_table(self.content.combine_chunks())
        return _Piece(self.first, self.last, self.rows, sink.getvalue())


class Packed:
    """Rows that wait, in the order of their time; compressed, unless they are few.

    Args:
        rows: In the columns of SCHEMA, to begin with.
        loose: As many are worth compressing.
    """

    def __init__(self, *rows: pa.Table, loose: int = WORTH_PACKING) -> None:
        self._loose = loose
        self._pieces: list[_Piece] = []
        self._spans: list[tuple[int, int]] = []
        self._loose_rows = self._packed_rows = 0
        self._overlaps = False
        for each in rows:
            self.add(each)

    def __len__(self) -> int:
        """How many rows."""
        return self._loose_rows + self._packed_rows

    @property
    def weight(self) -> int:
        """How many rows take as much memory, uncompressed, as merging these does.

        Pieces that overlap, as changed image sets do, are put in order by one who holds them all.
        """
        return len(self) if self._overlaps else self._loose_rows + self._packed_rows // _PACKED_SHARE

    def add(self, rows: pa.Table) -> None:
        """Take in more, in the columns of SCHEMA."""
        if len(rows) == 0:
            return
        rows = rows.cast(SCHEMA)
        if not lie_in_order(rows):
            rows = newest(rows)
        times = rows["created_at"]
        piece = _Piece(times[0].value, times[-1].value, len(rows), rows)
        self._pieces.append(piece)
        at = bisect.bisect(self._spans, (piece.first, piece.last))
        self._spans.insert(at, (piece.first, piece.last))
        near = self._spans[max(at - 1, 0) : at + 2]
        self._overlaps |= any(before[1] >= after[0] for before, after in itertools.pairwise(near))
        self._loose_rows += len(rows)
        if self._loose_rows >= self._loose:
            self._pieces = [piece.packed() for piece in self._pieces]
            self._packed_rows += self._loose_rows
            self._loose_rows = 0

    def read(self, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
        """Some columns of them, or all: by time, or as they arrived where that is not to be had."""
        tables: list[pa.Table] = []
        rows = 0
        for piece in self._pieces if self._overlaps else sorted(self._pieces, key=attrgetter("first")):
            if tables and rows + piece.rows > STRETCH_ROWS:
                yield pa.concat_tables(tables)
                tables, rows = [], 0
            tables.append(piece.read(names))
            rows += piece.rows
        if tables:
            yield pa.concat_tables(tables)
