"""The strict decoder: exactly the declared fields in their declared types, decoded straight into typed objects.

It refuses anything else, a field that the API has grown or a value of another type, with ValueError;
:mod:`ahi_catalog.schemas.decoding.lenient` reads that page. One pass over the bytes checks a page and holds its rows:
half the CPU of json and Arrow's reader for the one and the other.
"""

import types
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta

from ahi_catalog.schemas.decoding.answer import Answer
from ahi_catalog.schemas.image_sets import RECEIVED, RECEIVED_SCHEMA, SUMMARIES, TAGS
from ahi_catalog.schemas.tables import EARLIEST, LATEST, TIMESTAMP, Column

_MICROSECONDS: Final = 1e6
_WIRE_TYPES: Final[dict[pa.DataType, Any]] = {
    pa.string(): str,
    pa.bool_(): bool,
    pa.int32(): Annotated[int, Meta(ge=-(2**31), lt=2**31)],
    pa.int64(): Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    TIMESTAMP: Annotated[float, Meta(ge=EARLIEST, le=LATEST)],
}


def _declare(name: str, columns: Iterable[Column], *more: tuple[str, Any, None]) -> Any:
    """A struct of the columns' fields, under the service's own names."""
    fields = [
        (column.source[-1], _WIRE_TYPES[column.type] | None, None)
        if column.nullable
        else (column.source[-1], _WIRE_TYPES[column.type])
        for column in columns
    ]
    return msgspec.defstruct(name, [*fields, *more], kw_only=True, forbid_unknown_fields=True, gc=False)


_Tags: Final = _declare("_Tags", (column for column in RECEIVED if column.source[0] == TAGS))
_Summary: Final[Any] = _declare(
    "_Summary", (column for column in RECEIVED if len(column.source) == 1), (TAGS, _Tags | None, None)
)
_Sort: Final = msgspec.defstruct("_Sort", [("sortField", str | None, None), ("sortOrder", str | None, None)])
_Page: Final[Any] = msgspec.defstruct(
    "_Page",
    [(SUMMARIES, types.GenericAlias(list, (_Summary,))), ("nextToken", str | None, None), ("sort", _Sort | None, None)],
)
_DECODER: Final = msgspec.json.Decoder(_Page)
_NO_TAGS: Final = _Tags()


def read(body: bytes) -> Answer:
    """A page as declared.

    Raises:
        ValueError: It is another. The error may quote it.
    """
    page = _DECODER.decode(body)
    summaries = page.imageSetsMetadataSummaries
    created = tuple([round(summary.createdAt * _MICROSECONDS) for summary in summaries])
    updated = [summary.updatedAt for summary in summaries]
    return Answer(
        rows=summaries,
        ids=tuple([summary.imageSetId for summary in summaries]),
        created=created,
        updated=tuple(
            [
                born if changed is None else round(changed * _MICROSECONDS)
                for born, changed in zip(created, updated, strict=True)
            ]
        ),
        next_token=page.nextToken or None,
        sort=page.sort and (str(page.sort.sortField), str(page.sort.sortOrder)),
    )


def to_table(summaries: Sequence[Any]) -> pa.Table:
    """The received columns of summaries that `read` has read."""
    tags = [summary.DICOMTags or _NO_TAGS for summary in summaries]

    def array(column: Column) -> pa.Array:
        values = list(map(attrgetter(column.source[-1]), tags if column.source[0] == TAGS else summaries))
        return _to_timestamp(values) if column.type == TIMESTAMP else pa.array(values, column.type)

    arrays = [*map(array, RECEIVED), pa.nulls(len(summaries), pa.string())]
    return pa.Table.from_arrays(arrays, schema=RECEIVED_SCHEMA)


def _to_timestamp(seconds: list[float | None]) -> pa.Array:
    # A double holds today's epoch seconds to a quarter of a microsecond, so rounding gives the very one sent.
    microseconds = pc.round(pc.multiply(pa.array(seconds, pa.float64()), _MICROSECONDS))
    return pc.cast(pc.cast(microseconds, pa.int64()), TIMESTAMP)
