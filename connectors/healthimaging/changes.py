"""Following changes where the service knows no `updatedAt` filter: newest update first, back to a moment.

The older API reference has neither `sort` nor that filter; its default order is updatedAt descending. Rows that
are updated while this walks move to the front and are not seen again; their update is later than the walk's
start, so the next run, which goes back to before it, follows them.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import pyarrow as pa

from ahi_catalog.connectors.errors import InvalidRequestError, SourceError
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search
from ahi_catalog.connectors.healthimaging.source import Tally
from ahi_catalog.connectors.healthimaging.walk import Fetch
from ahi_catalog.connectors.windows import to_epoch_microseconds
from ahi_catalog.schemas import Rows, flatten

_BATCH_PAGES: Final = 40
_RESTARTS: Final = 5
_EVERYTHING: Final = Search(Field.UPDATED_AT, None)


def walk_changes(fetch: Fetch, since: datetime, tally: Tally) -> Iterator[pa.Table]:
    """Batches of image sets updated at or after a moment, and some older ones; newest first.

    Args:
        fetch: Asks the service for one page.
        since: Aware UTC.
        tally: Counts the requests.

    Raises:
        SourceError: The service refuses, or rejects page tokens again and again.
    """
    back_to = to_epoch_microseconds(since)
    pages: list[Rows] = []
    for page in _pages(fetch, back_to, tally):
        pages.append(page.rows)
        if len(pages) == _BATCH_PAGES:
            yield flatten(pages)
            pages = []
    if pages:
        yield flatten(pages)


def _pages(fetch: Fetch, back_to: int, tally: Tally) -> Iterator[Page]:
    for _ in range(_RESTARTS):
        token: str | None = None
        tokens: set[str] = set()
        oldest: int | None = None
        is_newest_first = True
        while True:
            try:
                page = fetch(_EVERYTHING, token, tally)
            except InvalidRequestError:
                if token is None:
                    raise
                break
            yield page
            # Only where the order holds does an old page mean that all later ones are old too.
            moments = [*([] if oldest is None else [oldest]), *page.updated]
            is_newest_first &= moments == sorted(moments, reverse=True)
            oldest = moments[-1] if moments else None
            token = page.next_token
            if token is None or (is_newest_first and page.updated and page.updated[0] < back_to):
                return
            if token in tokens:
                break
            tokens.add(token)
    raise SourceError("SearchImageSets: the service rejects or repeats its page tokens; run again later")
