"""One page of SearchImageSets, and what is asked for."""

import itertools
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from connectors.windows import SECOND, Window
from schemas import Answer, read


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
class Page(Answer):
    """An answer of SearchImageSets, and when it was given.

    Attributes:
        served_at: The service's clock, from the Date header, cut to the second, aware UTC.
    """

    served_at: datetime

    def moments(self, field: Field) -> tuple[int, ...]:
        """The times of one field, epoch microseconds, in the order of the page."""
        return self.created if field is Field.CREATED_AT else self.updated

    def is_sorted_by(self, field: Field) -> bool:
        """Whether the service says that it sorted by the field, ascending, and the rows bear it out."""
        moments = self.moments(field)
        return self.sort == (str(field), "ASC") and all(a <= b for a, b in itertools.pairwise(moments))


def read_page(body: bytes, served_at: datetime) -> Page:
    """The page of an answer's body.

    Raises:
        MalformedSummaryError: It is none, or an image set on it has no id or no time of creation.
    """
    answer = read(body)
    return Page(
        rows=answer.rows,
        ids=answer.ids,
        created=answer.created,
        updated=answer.updated,
        next_token=answer.next_token,
        sort=answer.sort,
        served_at=served_at,
    )
