"""One page of SearchImageSets: its body, untouched, and what a scan must know of it."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from connectors.windows import SECOND, Window
from schemas.columns import SUMMARIES
from schemas.slow import MalformedSummaryError, load_page, to_microseconds


class Field(StrEnum):
    """The time by which a search is bounded and sorted."""

    CREATED_AT = "createdAt"
    UPDATED_AT = "updatedAt"

    @property
    def column(self) -> str:
        """The catalog's column of that time."""
        return "created_at" if self is Field.CREATED_AT else "updated_at"


@dataclass(frozen=True, slots=True)
class Search:
    """Image sets whose ``field`` lies in ``window``, oldest first; window None: all, in the service's own order."""

    field: Field
    window: Window | None

    def criteria(self) -> dict[str, Any]:
        """The searchCriteria of the request.

        Nobody documents whether BETWEEN includes its ends, and older SDKs cut fractions of a second off, so
        the bounds are a second wider on both sides; the scan drops what lies outside its window.
        """
        if self.window is None:
            return {}
        bounds = (self.window.start - SECOND, self.window.end + SECOND)
        return {
            "filters": [{"operator": "BETWEEN", "values": [{str(self.field): bound} for bound in bounds]}],
            "sort": {"sortField": str(self.field), "sortOrder": "ASC"},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer of SearchImageSets.

    Attributes:
        body: JSON as received.
        ids: Image set ids, in the order of the page.
        created: createdAt of each, epoch microseconds.
        updated: updatedAt of each, epoch microseconds; createdAt where the service sent none.
        next_token: Where the next page begins; None on the last.
        sort: (sortField, sortOrder) that the service says it used, if it says so.
        served_at: The service's clock, from the Date header, cut to the second, aware UTC.
    """

    body: bytes = field(repr=False)
    ids: tuple[str, ...]
    created: tuple[int, ...]
    updated: tuple[int, ...]
    next_token: str | None
    sort: tuple[str, str] | None
    served_at: datetime

    def moments(self, field: Field) -> tuple[int, ...]:
        """The times of one field, epoch microseconds, in the order of the page."""
        return self.created if field is Field.CREATED_AT else self.updated

    def is_sorted_by(self, field: Field) -> bool:
        """Whether the service says that it sorted by the field, ascending, and the rows bear it out."""
        moments = self.moments(field)
        return self.sort == (str(field), "ASC") and all(a <= b for a, b in itertools.pairwise(moments))


def read_page(body: bytes, served_at: datetime) -> Page:
    """What a scan must know of a page.

    Raises:
        MalformedSummaryError: The body is no page, or an image set on it has no id or no time of creation.
    """
    loaded = load_page(body)
    ids, created, updated = [], [], []
    for summary in loaded[SUMMARIES]:
        if not isinstance(summary, dict) or not isinstance(summary.get("imageSetId"), str):
            raise MalformedSummaryError("an image set in a page of the service has no usable imageSetId")
        if (born := to_microseconds(summary.get("createdAt"))) is None:
            raise MalformedSummaryError("an image set in a page of the service has no usable createdAt")
        changed = to_microseconds(summary.get("updatedAt"))
        ids.append(summary["imageSetId"])
        created.append(born)
        updated.append(born if changed is None else changed)
    token = loaded.get("nextToken")
    return Page(
        body=body,
        ids=tuple(ids),
        created=tuple(created),
        updated=tuple(updated),
        next_token=token if isinstance(token, str) and token else None,
        sort=_sort(loaded.get("sort")),
        served_at=served_at,
    )


def _sort(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, Mapping):
        return None
    return str(value.get("sortField")), str(value.get("sortOrder"))
