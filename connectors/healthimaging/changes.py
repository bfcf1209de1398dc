"""Following changes on an endpoint that does not sort: newest update first, back to a moment.

The API's older reference has neither ``sort`` nor a filter on updatedAt; its order is updatedAt descending. An image
set that is updated while others are read moves to the front: the scan of a window passes it over, and so may this
reading. So the front is read again, back to where the pass before began, until one page holds all of it (one page is
one moment, and nothing moves within it), or nothing has moved since the pass before.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.errors import InvalidRequestError, SourceError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search
from ahi_catalog.connectors.healthimaging.scan import Fetch
from ahi_catalog.connectors.windows import to_epoch_microseconds
from ahi_catalog.schemas import Rows, flatten

_BATCH_PAGES: Final = 40
_RESTARTS: Final = 5
_EVERYTHING: Final = Search(Field.UPDATED_AT, None)


def read_changes(fetch: Fetch, since: datetime, counts: RequestCounts) -> Iterator[pa.Table]:
    """Batches of image sets updated at or after a moment, and some older ones.

    Args:
        fetch: Asks the service for one page.
        since: Aware UTC.
        counts: Counts the requests.

    Raises:
        SourceError: The service refuses, or rejects page tokens again and again.
    """
    pages: list[Rows] = []
    met_before: int | None = None
    while True:
        reading = _Pass(fetch, since, counts)
        for page in reading.pages():
            pages.append(page.rows)
            if len(pages) == _BATCH_PAGES:
                yield flatten(pages)
                pages = []
        # In another order nothing moves to the front.
        if reading.pages_read <= 1 or not reading.is_newest_first or reading.met == met_before:
            break
        since, met_before = max(since, reading.began_at), reading.met
    if pages:
        yield flatten(pages)


class _Pass:
    """One reading from the newest change back to a moment; after it, what it has met.

    Attributes:
        pages_read: How many pages, those of restarts too.
        is_newest_first: Whether the rows came newest update first.
        began_at: The service's clock at the first page.
        met: A hash of which image sets came with which updatedAt, in their order.
    """

    def __init__(self, fetch: Fetch, since: datetime, counts: RequestCounts) -> None:
        self.pages_read = 0
        self.is_newest_first = True
        self.began_at = since
        self.met = 0
        self._fetch = fetch
        self._back_to = to_epoch_microseconds(since)
        self._counts = counts

    def pages(self) -> Iterator[Page]:
        """The pages; again from the front where a page token is rejected or repeats."""
        for _ in range(_RESTARTS):
            token: str | None = None
            tokens: set[str] = set()
            last: tuple[int, ...] = ()
            while True:
                try:
                    page = self._fetch(_EVERYTHING, token, self._counts)
                except InvalidRequestError:
                    if token is None:
                        raise
                    break
                self.began_at = page.served_at if self.pages_read == 0 else self.began_at
                self.pages_read += 1
                self.met = hash((self.met, page.ids, page.updated))
                yield page
                moments = (*last, *page.updated)
                self.is_newest_first &= list(moments) == sorted(moments, reverse=True)
                last = moments[-1:]
                token = page.next_token
                # Only where the order holds does an old page mean that all later ones are old too.
                if token is None or (self.is_newest_first and page.updated and page.updated[-1] < self._back_to):
                    return
                if token in tokens:
                    break
                tokens.add(token)
        raise SourceError("SearchImageSets: the service rejects or repeats its page tokens; run again later")
