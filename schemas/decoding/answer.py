"""What an answer of SearchImageSets says once it is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa

Rows: TypeAlias = Sequence[Any] | pa.Table
"""The image sets of an answer, for `flatten`: typed objects, or the received columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of SearchImageSets.

    Attributes:
        rows: Its image sets, every value kept.
        ids: Their ids, in the order of the page.
        created: createdAt of each, epoch microseconds.
        updated: updatedAt of each, epoch microseconds; createdAt where the service sent none.
        next_token: Where the next page begins; None on the last.
        sort: (sortField, sortOrder) that the service says it used, if it says so.
    """

    rows: Rows = field(repr=False)
    ids: tuple[str, ...]
    created: tuple[int, ...]
    updated: tuple[int, ...]
    next_token: str | None
    sort: tuple[str, str] | None


class MalformedSummaryError(ValueError):
    """A page that is no list of image sets, or an image set without identifier or time of creation."""
