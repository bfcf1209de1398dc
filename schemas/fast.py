"""Many pages at once through Arrow's JSON reader: exactly the declared fields in their declared types.

Anything else, a field that the API has grown or a value of another type, is refused with ArrowInvalid, and
:mod:`schemas.slow` reads that page.
"""

import io
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from schemas.columns import RECEIVED, SUMMARIES, TAGS, TIMESTAMP, Column

_MICROSECONDS: Final = 1e6
_BLOCK_BYTES: Final = 8 << 20


def _wire_type(column: Column) -> pa.DataType:
    return pa.float64() if column.type == TIMESTAMP else column.type


def _page_schema() -> pa.Schema:
    flat = [pa.field(c.source[-1], _wire_type(c)) for c in RECEIVED if len(c.source) == 1]
    tags = [pa.field(c.source[-1], _wire_type(c)) for c in RECEIVED if c.source[0] == TAGS]
    sort = pa.struct([("sortField", pa.string()), ("sortOrder", pa.string())])
    summary = pa.struct([*flat, pa.field(TAGS, pa.struct(tags))])
    return pa.schema([(SUMMARIES, pa.list_(summary)), ("nextToken", pa.string()), ("sort", sort)])


_PARSE: Final = pj.ParseOptions(explicit_schema=_page_schema(), unexpected_field_behavior="error")
_READ: Final = pj.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)


def read_pages(pages: Sequence[bytes]) -> pa.Table:
    """The received columns of well-formed pages; ArrowInvalid where one is not as declared."""
    block = max(_BLOCK_BYTES, max(map(len, pages)) + 1)
    read = _READ if block == _BLOCK_BYTES else pj.ReadOptions(block_size=block, use_threads=False)
    lists = pj.read_json(io.BytesIO(b"\n".join(pages)), read, _PARSE)[SUMMARIES]
    if lists.null_count or len(lists) != len(pages):
        raise pa.ArrowInvalid("a page without its list, or one that is not one line")
    summaries = pc.list_flatten(lists)
    if summaries.null_count:
        raise pa.ArrowInvalid("a summary that is null")

    def column(source: tuple[str, ...], type_: pa.DataType) -> pa.ChunkedArray:
        values = pc.struct_field(summaries, list(source))
        return _to_timestamp(values) if type_ == TIMESTAMP else values

    arrays = {c.name: column(c.source, c.type) for c in RECEIVED}
    if any(arrays[c.name].null_count for c in RECEIVED if not c.nullable):
        raise pa.ArrowInvalid("a summary without identifier or time of creation")
    arrays["extra"] = pa.nulls(len(summaries), pa.string())
    return pa.table(arrays)


def _to_timestamp(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    # A double holds today's epoch seconds to a quarter of a microsecond, so rounding gives the very one sent.
    return pc.cast(pc.cast(pc.round(pc.multiply(seconds, _MICROSECONDS)), pa.int64()), TIMESTAMP)
