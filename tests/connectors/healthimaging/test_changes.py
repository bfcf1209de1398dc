"""Following changes newest first: nothing updated since is left out, and nothing old is read for long."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.errors import SourceError
from ahi_catalog.connectors.healthimaging.changes import read_changes
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Page, Search, read_page
from ahi_catalog.schemas.image_sets import SUMMARIES
from tests.support.fake_search import NOW, FakeSearch, created, micros


def service(count: int, **habits: Any) -> FakeSearch:
    """Image sets updated a second apart, the last of them a second before NOW."""
    updated = {f"i{n}": micros(NOW) - (count - n) * 1_000_000 for n in range(count)}
    return FakeSearch(created=dict.fromkeys(updated, created(0)), updated=updated, sorts=False, **habits)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(0, 45),
    st.integers(1, 5),
    st.dictionaries(st.integers(0, 15), st.lists(st.integers(0, 39), max_size=4), max_size=4),
    st.sets(st.integers(0, 20), max_size=3),
)
def test_every_change_since_is_found_whatever_is_updated_meanwhile(
    count: int, back: int, page_rows: int, updates: dict[int, list[int]], disturbed: set[int]
) -> None:
    """What was updated since, and before the reading began, is found, also where it moves on while others are read."""
    touched = {number: [f"i{i}" for i in several if i < count] for number, several in updates.items()}
    walked = service(count, page_rows=page_rows, updates=touched, rejects=disturbed, empty=disturbed)
    since = NOW - timedelta(seconds=back)
    before = dict(walked.updated)
    found = {
        name for table in read_changes(walked, since, RequestCounts()) for name in table["image_set_id"].to_pylist()
    }
    assert {name for name, moment in before.items() if moment >= micros(since)} <= found


def test_a_page_of_old_changes_ends_the_walk() -> None:
    """Of a large data store only the pages with news, and one more, are read."""
    walked, counts = service(5_000, page_rows=50), RequestCounts()
    tables = list(read_changes(walked, NOW - timedelta(seconds=100), counts))
    assert counts.requests == walked.requests <= 4
    assert sum(map(len, tables)) >= 100


def test_where_the_order_does_not_hold_all_is_read() -> None:
    """An old page proves nothing on an endpoint that sorts in some other way."""
    pages = [[-9, -8], [-7, 1], [-6, 2]]

    def fetch(_: Search, token: str | None, counts: RequestCounts) -> Page:
        number = int(token or "0")
        counts.requests += 1
        summaries = [
            {"imageSetId": f"i{seconds}", "createdAt": 0, "updatedAt": NOW.timestamp() + seconds}
            for seconds in pages[number]
        ]
        following = str(number + 1) if number + 1 < len(pages) else None
        return read_page(msgspec.json.encode({SUMMARIES: summaries, "nextToken": following}), NOW)

    [table] = read_changes(fetch, NOW, RequestCounts())
    assert table["image_set_id"].to_pylist() == ["i-9", "i-8", "i-7", "i1", "i-6", "i2"]


def test_tokens_that_are_always_rejected_end_in_an_error() -> None:
    """The walk begins again a few times, and then says so."""
    with pytest.raises(SourceError, match="page tokens"):
        list(read_changes(service(50, rejects=range(1_000)), NOW - timedelta(days=1), RequestCounts()))


def test_more_than_a_page_of_one_moment_ends_where_nothing_moves() -> None:
    """While the service's clock stands, or its second goes on, all of it is read twice at most."""
    walked, counts = service(0, page_rows=50), RequestCounts()
    walked.updated = {f"i{number:03d}": micros(NOW) for number in range(120)}
    walked.created = dict.fromkeys(walked.updated, created(0))
    tables = list(read_changes(walked, NOW - timedelta(seconds=100), counts))
    assert {name for table in tables for name in table["image_set_id"].to_pylist()} == walked.updated.keys()
    assert counts.requests == 6
