"""Scanning a window, against the service's behaviour in memory: what is proven is complete, the rest remains."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.errors import InvalidRequestError, SourceError, StoppedError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search, read_page
from ahi_catalog.connectors.healthimaging.scan import Fetch, ScanRequest, ScanResult, scan
from ahi_catalog.connectors.windows import Coverage, Window
from tests.support.fake_search import NOW, FakeSearch, created, micros, window

# Ties, bursts within a second, whole seconds, and the last microsecond before one.
seconds = st.one_of(
    st.integers(0, 20).map(float),
    st.integers(0, 19).map(lambda second: second + 0.999999),
    st.integers(7_000_000, 7_999_999).map(lambda number: number / 1e6),
)
numbers = st.sets(st.integers(0, 30), max_size=3)
image_sets = st.lists(seconds, max_size=30).map(lambda moments: {f"i{n}": created(s) for n, s in enumerate(moments)})


def walk(
    fetch: Fetch,
    bounds: Window,
    *,
    budget: int = 10_000,
    by: Field = Field.CREATED_AT,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ScanResult:
    return scan_request(fetch, ScanRequest(by=by, window=bounds), budget=budget, is_stopping=is_stopping)


def scan_request(fetch: Fetch, request: ScanRequest, *, budget: int, **more: Any) -> ScanResult:
    return scan(fetch, request, page_budget=budget, protect=lambda rows: rows, **more)


def ids(found: ScanResult) -> set[str]:
    return set(found.rows["image_set_id"].to_pylist())


def assert_tiles(found: ScanResult, bounds: Window) -> None:
    """The proven range and the remainder are the window, one after the other."""
    pieces = [piece for piece in (found.proven, found.remainder and found.remainder.window) if piece]
    assert pieces[0].start == bounds.start
    assert pieces[-1].end == bounds.end
    assert len(pieces) == 1 or pieces[0].end == pieces[1].start


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        FakeSearch,
        created=image_sets,
        page_rows=st.integers(1, 5),
        is_inclusive=st.booleans(),
        has_offset_tokens=st.booleans(),
        rejects=numbers,
        repeats=st.sets(st.integers(1, 30), max_size=2),
        empty=numbers,
    ),
    st.integers(0, 10),
    st.integers(1, 10),
    st.integers(1, 8),
)
def test_the_rows_are_exactly_those_of_the_proven_range(
    service: FakeSearch, start: int, length: int, budget: int
) -> None:
    """Whatever the pages, bounds, tokens and faults: proven and remainder tile the window, no row lacks."""
    bounds = window(start, start + length)
    found = walk(service, bounds, budget=budget)
    assert_tiles(found, bounds)
    assert ids(found) == service.inside(found.proven)
    assert found.counts.requests == service.requests


@settings(max_examples=100, deadline=None)
@given(rows=image_sets, page_rows=st.integers(1, 5), budget=st.integers(1, 5), sorts=st.booleans())
def test_walking_remainders_reads_the_whole_window(
    *, rows: dict[str, int], page_rows: int, budget: int, sorts: bool
) -> None:
    """Remainders, halved where nothing was proven, lead to every row, and each row lies in one proven range."""
    service = FakeSearch(created=rows, page_rows=page_rows, sorts=sorts)
    waiting = [window(0, 21)]
    found: list[str] = []
    while waiting:
        result = walk(service, waiting.pop(), budget=budget)
        found += sorted(ids(result))
        if result.remainder:
            waiting += result.remainder.window.split(1 if result.proven else 2)
    assert sorted(found) == sorted(rows)


@settings(max_examples=200, deadline=None)
@given(
    rows=image_sets,
    page_rows=st.integers(1, 4),
    offsets=st.booleans(),
    updates=st.dictionaries(st.integers(0, 25), st.lists(st.integers(0, 29), max_size=6), max_size=8),
    rejects=numbers,
    empty=st.sets(st.integers(0, 12), max_size=2),
)
def test_what_a_scan_that_is_not_sorted_passes_over_was_updated_meanwhile(
    *,
    rows: dict[str, int],
    page_rows: int,
    offsets: bool,
    updates: dict[int, list[int]],
    rejects: set[int],
    empty: set[int],
) -> None:
    """With both kinds of page tokens: only rows that moved to the front may lack, and the change feed brings those."""
    touched = {number: [f"i{i}" for i in several if f"i{i}" in rows] for number, several in updates.items()}
    service = FakeSearch(
        created=rows,
        page_rows=page_rows,
        sorts=False,
        has_offset_tokens=offsets,
        updates=touched,
        rejects=rejects,
        empty=empty,
    )
    found = walk(service, window(0, 21))
    assert not found.is_sorted
    assert (found.proven, found.remainder) == (window(0, 21), None)
    assert set(rows) - ids(found) <= {name for several in touched.values() for name in several}


@settings(max_examples=60, deadline=None)
@given(image_sets, st.integers(1, 5), st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 29)), max_size=4))
def test_updates_do_not_disturb_the_order_of_creation(
    rows: dict[str, int], page_rows: int, updates: dict[int, list[int]]
) -> None:
    """Oldest first, an update moves nothing: one pass is complete."""
    touched = {number: [f"i{i}" for i in several if f"i{i}" in rows] for number, several in updates.items()}
    service = FakeSearch(created=rows, page_rows=page_rows, updates=touched)
    found = walk(service, window(0, 21))
    assert ids(found) == set(rows)
    assert service.requests <= len(rows) // page_rows + 1


@settings(max_examples=150, deadline=None)
@given(
    service=st.builds(
        FakeSearch,
        created=image_sets,
        page_rows=st.integers(1, 5),
        is_inclusive=st.booleans(),
        rejects=st.sets(st.integers(0, 30), max_size=2),
        repeats=st.sets(st.integers(1, 30), max_size=1),
        empty=st.sets(st.integers(0, 30), max_size=2),
        sorts=st.booleans(),
    ),
    budget=st.integers(1, 4),
    splits=st.lists(st.integers(0, 2), max_size=12),
)
def test_remainders_that_are_split_and_scanned_on_miss_nothing(
    *, service: FakeSearch, budget: int, splits: list[int]
) -> None:
    """Each second is proven once, with its rows, however remainders are split; the first part has the page token."""
    waiting = [ScanRequest(by=Field.CREATED_AT, window=window(0, 21))]
    proven: list[Window] = []
    while waiting:
        request = waiting.pop(0)
        found = scan_request(service, request, budget=budget)
        assert_tiles(found, request.window)
        assert ids(found) == service.inside(found.proven)
        proven += [found.proven] if found.proven else []
        if remainder := found.remainder:
            near, *far = remainder.window.split(1 + (splits.pop() if splits else 0) if found.proven else 2)
            waiting.append(replace(remainder, window=near))
            waiting += [ScanRequest(by=Field.CREATED_AT, window=part) for part in far]
    assert Coverage(proven) == Coverage([window(0, 21)])
    assert sum(part.seconds for part in proven) == 21


def test_a_remainder_that_is_scanned_on_costs_no_request() -> None:
    """However small the budget, a sorted window that is not split takes as many requests as it has pages."""
    service = FakeSearch(created={f"i{n}": created(n / 3) for n in range(60)})
    request: ScanRequest | None = ScanRequest(by=Field.CREATED_AT, window=window(0, 21))
    scans = 0
    while request:
        request = scan_request(service, request, budget=1).remainder
        scans += 1
    assert scans > 5
    assert service.requests == 20


def test_rows_leave_a_scan_under_the_policy_those_of_the_remainder_too() -> None:
    """What is proven and what waits for the next scan are protected once each, and counted before that."""
    service = FakeSearch(created={f"i{n}": created(n / 2) for n in range(12)})

    def protect(rows: pa.Table) -> pa.Table:
        seen.extend(rows["image_set_id"].to_pylist())
        return rows

    seen: list[str] = []
    request: ScanRequest | None = ScanRequest(by=Field.CREATED_AT, window=window(0, 21))
    found: list[str] = []
    while request:
        result = scan(service, request, page_budget=1, protect=protect)
        found += result.rows["image_set_id"].to_pylist()
        request = result.remainder
    assert sorted(seen) == sorted(found) == sorted(service.created)


def test_a_dense_second_is_read_through() -> None:
    """A second that holds more than the budget is proven all the same, and what lies behind it remains."""
    rows = {f"i{n}": created(5 + n / 1000) for n in range(200)}
    late = {f"late{n}": created(9) for n in range(9)}
    found = walk(FakeSearch(created=rows | late), window(5, 20), budget=2)
    assert found.proven == window(5, 9)
    assert ids(found) == set(rows)
    newest_first = walk(FakeSearch(created=rows | late, sorts=False), window(5, 6), budget=2)
    assert newest_first.remainder is None
    assert ids(newest_first) == set(rows)


def test_a_budget_in_an_empty_stretch_costs_one_request() -> None:
    """A window without rows is proven by its first page."""
    service = FakeSearch(created={})
    assert walk(service, window(0, 10**9), budget=1).remainder is None
    assert service.requests == 1


def test_rows_behind_the_window_end_the_walk() -> None:
    """Oldest first, the first row past the end proves the window; the pages behind it are not read."""
    service = FakeSearch(created={f"i{n}": created(3 + n / 100) for n in range(500)})
    assert walk(service, window(0, 3)).remainder is None
    assert service.requests == 1


def test_order_that_is_not_promised_stops_nothing_early() -> None:
    """Rows that happen to come oldest first prove nothing, as long as the service does not say that it sorted."""
    rows = {f"i{n}": created(n) for n in range(12)}
    updated = {name: micros(NOW) - moment for name, moment in rows.items()}
    service = FakeSearch(created=rows, updated=updated, sorts=False)
    found = walk(service, window(0, 5), budget=1)
    assert (found.proven, found.remainder) == (window(0, 5), None)
    assert service.requests == 3  # all of them


def test_an_order_that_breaks_after_a_restart_puts_the_first_part_in_doubt() -> None:
    """What was proven before the restart is read again, with no trust in the order."""
    rows = {"a": created(1), "b": created(5), "withheld": created(3)}

    def fetch(search: Search, token: str | None, counts: RequestCounts) -> Page:
        counts.requests += 1
        assert search.window is not None
        if token == "rejected":
            raise InvalidRequestError("SearchImageSets: the service refuses the request as invalid")
        body: dict[str, Any] = {}
        if counts.requests == 1:
            shown = ["a", "b"]
            body = {"nextToken": "rejected", "sort": {"sortField": "createdAt", "sortOrder": "ASC"}}
        elif search.window.start > window(0, 1).start:
            shown = ["b"]
        elif token is None:
            shown, body = ["b"], {"nextToken": "rest"}
        else:
            shown = ["withheld", "a"]
        summaries = [{"imageSetId": name, "createdAt": rows[name] / 1e6} for name in shown]
        return read_page(json.dumps({"imageSetsMetadataSummaries": summaries, **body}).encode(), NOW)

    found = walk(fetch, window(0, 10))
    assert found.remainder is None
    assert ids(found) == {"a", "b", "withheld"}


@pytest.mark.parametrize("habit", [{"repeats": range(1, 100)}, {"rejects": range(100)}])
@pytest.mark.parametrize("sorts", [True, False])
def test_tokens_that_lead_nowhere_end_in_an_error(*, habit: dict[str, Any], sorts: bool) -> None:
    """A service that always repeats or rejects its tokens within one second is given up, in one line."""
    rows = {f"i{n}": created(5 + n / 1000) for n in range(20)}
    with pytest.raises(SourceError, match="page tokens") as caught:
        walk(FakeSearch(created=rows, sorts=sorts, **habit), window(0, 20))
    assert "\n" not in str(caught.value)


def test_progress_forgives_restarts() -> None:
    """A service that rejects every second token is read all the same, as long as seconds are proven between."""
    rows = {f"i{n}": created(n) for n in range(60)}
    service = FakeSearch(created=rows, rejects=range(0, 10_000, 2))
    assert ids(walk(service, window(0, 60))) == set(rows)


def test_the_margin_of_a_search_is_no_progress() -> None:
    """A service that cuts bounds to seconds shows the second before again after each restart: no progress."""
    rows = {f"i{n}": created(n / 4) for n in range(80)}
    service = FakeSearch(created=rows, cuts_bounds=True, rejects=range(2, 10_000, 3))
    with pytest.raises(SourceError, match="within one second of"):
        walk(service, window(0, 20))


def test_a_refused_search_is_the_callers() -> None:
    """A first page that is refused as invalid is no matter of tokens."""

    def fetch(*_: Any) -> Page:
        raise InvalidRequestError("SearchImageSets: the service refuses the request as invalid")

    with pytest.raises(InvalidRequestError):
        walk(fetch, window(0, 5))


@pytest.mark.parametrize("sorts", [True, False])
def test_a_stop_keeps_what_is_proven(*, sorts: bool) -> None:
    """Asked to stop, by the limiter or between pages, a scan hands back the rest: all of it where order fails."""
    service = FakeSearch(created={f"i{n}": created(n) for n in range(30)}, sorts=sorts)

    def fetch(search: Search, token: str | None, counts: RequestCounts) -> Page:
        if counts.requests == 3:
            raise StoppedError("stopped while waiting for the request quota")
        return service(search, token, counts)

    bounds = window(0, 30)
    for found in (
        walk(fetch, bounds),
        walk(service, bounds, is_stopping=lambda: service.requests >= 6),
    ):
        assert_tiles(found, bounds)
        assert found.proven == (window(0, 8) if sorts else None)
        assert ids(found) == service.inside(found.proven)


def test_changes_are_walked_by_their_own_time() -> None:
    """A scan by updatedAt proves a range of updatedAt, whenever its rows were created."""
    rows = {f"i{n}": created(-(10**6) * n) for n in range(10)}
    service = FakeSearch(created=rows, updated={name: created(n) for n, name in enumerate(rows)})
    found = walk(service, window(0, 20), budget=2, by=Field.UPDATED_AT)
    assert found.proven == window(0, 5)
    assert ids(found) == {f"i{n}" for n in range(5)}
