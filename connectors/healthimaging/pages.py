"""One page of SearchImageSets, and what is asked for."""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from ahi_catalog.connectors.windows import SECOND, Window
from ahi_catalog.schemas import Answer, read

PAGE_ROWS: Final = 50
"""The most image sets that SearchImageSets puts on a page."""
_MARGIN: Final = timedelta(milliseconds=1)
"""What a search asks for before its window: the step of the times in AWS's examples."""


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

    @property
    def bounds(self) -> tuple[datetime, datetime] | None:
        """The ends of BETWEEN; None where all is asked for.

        Nobody documents whether BETWEEN includes its ends, or how finely the service compares; so they lie outside
        the window, and the scan drops what does. Where fractions of a second are cut off, the first is a second
        before. It is no further, for what lies there is read in vain: of an import job, a page or two; what lies
        behind the end is left out by stopping.
        """
        return None if self.window is None else (self.window.start - _MARGIN, self.window.end + SECOND)

    def criteria(self) -> dict[str, Any]:
        """The searchCriteria of the request."""
        if self.bounds is None:
            return {}
        return {
            "filters": [{"operator": "BETWEEN", "values": [{str(self.field): bound} for bound in self.bounds]}],
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
