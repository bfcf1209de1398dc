"""The searching service in memory, without HTTP: a `Fetch` whose habits and faults a test chooses."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ahi_catalog.connectors.errors import InvalidRequestError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search, read_page
from ahi_catalog.connectors.windows import Window

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BASE = datetime(2024, 2, 28, 23, 59, 0, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def created(seconds: float) -> int:
    """Epoch microseconds of so many seconds after BASE."""
    return micros(BASE) + round(seconds * 1_000_000)


def window(start: int, end: int) -> Window:
    return Window(BASE + timedelta(seconds=start), BASE + timedelta(seconds=end))


@dataclass(kw_only=True)
class FakeSearch:
    """Image sets, and how they are handed out.

    Attributes:
        created: createdAt by id, epoch microseconds.
        updated: updatedAt by id; before NOW at first.
        page_rows: Rows on a page.
        sorts: Whether it sorts as it is asked, and says so; else newest update first, and says nothing.
        is_inclusive: Whether BETWEEN includes its ends.
        cuts_bounds: Whether it cuts the fractions of seconds off the bounds of a search.
        has_offset_tokens: Whether a token counts rows instead of naming the last one.
        rejects: Numbers of requests whose token is refused; a request without one goes through.
        repeats: Numbers of requests whose answer repeats its own token.
        empty: Numbers of requests answered by an empty page that is not the last.
        updates: Image sets that are updated just before a request is answered, by its number.
        requests: Made so far.
    """

    created: dict[str, int]
    updated: dict[str, int] = field(default_factory=dict)
    page_rows: int = 3
    sorts: bool = True
    is_inclusive: bool = True
    cuts_bounds: bool = False
    has_offset_tokens: bool = False
    rejects: Collection[int] = ()
    repeats: Collection[int] = ()
    empty: Collection[int] = ()
    updates: Mapping[int, Collection[str]] = field(default_factory=dict)
    requests: int = 0

    def __post_init__(self) -> None:
        self.updated = {name: micros(NOW) - 10**9 + number for number, name in enumerate(self.created)} | self.updated

    def __call__(self, search: Search, token: str | None, tally: RequestCounts) -> Page:
        number = self.requests
        self.requests += 1
        tally.requests += 1
        for order, name in enumerate(self.updates.get(number, ())):
            self.updated[name] = micros(NOW) + number * 1_000_000 + order
        if token is not None and number in self.rejects:
            raise InvalidRequestError("SearchImageSets: the service refuses the request as invalid")
        names = self._order(search)
        start = self._position(names, token, search)
        shown = [] if number in self.empty else names[start : start + self.page_rows]
        end = start + len(shown)
        is_last = end >= len(names)
        following = f"{end}" if self.has_offset_tokens else (shown[-1] if shown else token or "front")
        if token is not None and number in self.repeats:
            following, is_last = token, False
        summaries = [self._summary(name) for name in shown]
        document: dict[str, Any] = {
            "imageSetsMetadataSummaries": summaries,
            "nextToken": None if is_last else self._token(following),
        }
        if self.sorts and search.window is not None:
            document["sort"] = {"sortField": str(search.field), "sortOrder": "ASC"}
        return read_page(json.dumps(document).encode(), NOW + timedelta(seconds=number))

    def inside(self, bounds: Window | None) -> set[str]:
        """The ids of image sets created in a window."""
        if bounds is None:
            return set()
        start, end = micros(bounds.start), micros(bounds.end)
        return {name for name, moment in self.created.items() if start <= moment < end}

    def _order(self, search: Search) -> list[str]:
        times = self.created if search.field is Field.CREATED_AT else self.updated
        names = [name for name in self.created if self._passes(times[name], search)]
        if self.sorts and search.window is not None:
            return sorted(names, key=lambda name: (times[name], name))
        return sorted(names, key=lambda name: (-self.updated[name], name))

    def _passes(self, moment: int, search: Search) -> bool:
        if search.bounds is None:
            return True
        start, end = (micros(bound.replace(microsecond=0) if self.cuts_bounds else bound) for bound in search.bounds)
        return start <= moment <= end if self.is_inclusive else start < moment < end

    def _token(self, name: str) -> str:
        if self.has_offset_tokens or name not in self.created:
            return name
        # A token names a place in the order, not an image set: that one may have moved on.
        return f"{name}@{self.created[name]}@{self.updated[name]}"

    def _position(self, names: list[str], token: str | None, search: Search) -> int:
        if token is None or token == "front":
            return 0
        if self.has_offset_tokens:
            return int(token)
        name, born, changed = token.split("@")
        if self.sorts and search.window is not None:
            times = self.created if search.field is Field.CREATED_AT else self.updated
            last = (int(born if search.field is Field.CREATED_AT else changed), name)
            return sum((times[other], other) <= last for other in names)
        return sum((-self.updated[other], other) <= (-int(changed), name) for other in names)

    def _summary(self, name: str) -> dict[str, object]:
        return {
            "imageSetId": name,
            "createdAt": self.created[name] / 1e6,
            "updatedAt": self.updated[name] / 1e6,
        }
