"""Walking a window, against the service's behaviour in memory: what is proven is complete, the rest remains."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.errors import InvalidRequestError, SourceError, StoppedError
from ahi_catalog.connectors.healthimaging.pages import Field, Page, Search, read_page
from ahi_catalog.connectors.healthimaging.scan import Fetch, Rest, Scan, Scanner
from ahi_catalog.connectors.healthimaging.source import Tally
from ahi_catalog.connectors.healthimaging.walk import Walk
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


def walk(fetch: Fetch, bounds: Window, *, budget: int = 10_000, by: Field = Field.CREATED_AT) -> Scan:
    return Scanner(fetch, settle=timedelta(), budget=budget).scan(by, bounds)


def ids(found: Scan) -> set[str]:
    return set(found.rows["image_set_id"].to_pylist())


def assert_tiles(found: Scan, bounds: Window) -> None:
    """The proven range and the remainder are the window, one after the other."""
    pieces = [piece for piece in (found.proven, found.remainder) if piece]
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
    assert found.tally.requests == service.requests


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
            waiting += result.remainder.split(1 if result.proven else 2)
    assert sorted(found) == sorted(rows)


@settings(max_examples=200, deadline=None)
@given(
    rows=image_sets,
    page_rows=st.integers(1, 4),
    offsets=st.booleans(),
    updates=st.dictionaries(st.integers(0, 25), st.lists(st.integers(0, 29), max_size=6), max_size=8),
    rejects=numbers,
    # With the three rejected tokens five restarts, as many as a walk forgives: an empty page's token may repeat.
    empty=st.sets(st.integers(0, 12), max_size=2),
)
def test_newest_first_is_complete_whatever_is_updated_meanwhile(
    *,
    rows: dict[str, int],
    page_rows: int,
    offsets: bool,
    updates: dict[int, list[int]],
    rejects: set[int],
    empty: set[int],
) -> None:
    """An endpoint that ignores `sort`: rows that move to the front while it is read are caught."""
    service = FakeSearch(
        created=rows,
        page_rows=page_rows,
        sorts=False,
        has_offset_tokens=offsets,
        updates={number: [f"i{i}" for i in several if f"i{i}" in rows] for number, several in updates.items()},
        rejects=rejects,
        empty=empty,
    )
    found = walk(service, window(0, 21))
    assert not found.is_sorted
    assert (found.proven, found.remainder) == (window(0, 21), None)
    assert ids(found) == set(rows)


@pytest.mark.parametrize(
    "meanwhile",
    [
        # i0 is passed by twice: i3 covers it on the first page of the second pass, then it moves on.
        {"updates": {2: ["i0", "i3"], 4: ["i0"]}},
        # The second pass begins with an empty page, behind which i0 has moved.
        {"updates": {1: ["i0"]}, "empty": [3]},
    ],
)
def test_the_front_is_read_until_it_brings_nothing_new(meanwhile: dict[str, Any]) -> None:
    """A row that keeps moving ahead of the walk is caught in the end."""
    rows = {f"i{n}": created(n) for n in range(4)}
    assert ids(walk(FakeSearch(created=rows, page_rows=1, sorts=False, **meanwhile), window(0, 5))) == set(rows)


def test_a_front_that_has_not_changed_is_read_once_more() -> None:
    """What the first pass has read is no news to the second, which needs to see no more than the first page."""
    service = FakeSearch(created={f"i{n}": created(n) for n in range(10)}, sorts=False)
    found = walk(service, window(0, 20))
    assert (len(ids(found)), found.remainder) == (10, None)
    assert service.requests == 4 + 1


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
    cuts=st.lists(st.integers(0, 2), max_size=12),
    wanted=st.lists(st.booleans(), max_size=20),
    ends=st.lists(st.integers(1, 21), max_size=30),
)
def test_walks_that_rest_and_go_on_and_are_shortened_miss_nothing(
    *, service: FakeSearch, budget: int, cuts: list[int], wanted: list[bool], ends: list[int]
) -> None:
    """Rests are scanned on whole or cut, in any order, by one scanner: each second is proven once, with its rows.

    So it is where others take over a part of a scan while it waits for a page.
    """

    def fetch(search: Search, token: str | None, tally: Tally) -> Page:
        for under_way, rest in scanner.rests().items():
            end = window(0, ends.pop()).end if ends else under_way.start
            if scanner.shorten(under_way, end):
                taken_over.append(Window(end, rest.window.end))
        return service(search, token, tally)

    scanner = Scanner(fetch, settle=timedelta(), budget=budget, is_wanted=lambda: bool(wanted) and wanted.pop())
    waiting = [window(0, 21)]
    proven: list[Window] = []
    while waiting:
        bounds = waiting.pop(0)
        taken_over: list[Window] = []
        found = scanner.scan(Field.CREATED_AT, bounds)
        assert_tiles(found, Window(bounds.start, min([bounds.end, *(part.start for part in taken_over)])))
        assert ids(found) == service.inside(found.proven)
        proven += [found.proven] if found.proven else []
        waiting += taken_over
        if found.remainder:
            parts = 1 + (cuts.pop() if cuts else 0) if found.proven else 2
            waiting += found.remainder.split(parts)
    assert Coverage(proven) == Coverage([window(0, 21)])
    assert sum(part.seconds for part in proven) == 21


def test_a_rest_that_is_scanned_on_costs_no_request() -> None:
    """However small the budget, a sorted window that is not cut takes as many requests as it has pages."""
    service = FakeSearch(created={f"i{n}": created(n / 3) for n in range(60)})
    scanner = Scanner(service, settle=timedelta(), budget=1)
    rest: Window | None = window(0, 21)
    scans = 0
    while rest:
        rest = scanner.scan(Field.CREATED_AT, rest).remainder
        scans += 1
    assert scans > 5
    assert service.requests == 20


def test_a_scan_under_way_tells_what_it_has_not_read_and_gives_up_a_part() -> None:
    """Nothing is known before the first page; what is read, or ended, is not given up; the part is not asked for."""
    service = FakeSearch(created={f"i{n}": created(n) for n in range(60)})
    bounds, rests = window(0, 60), []

    def fetch(search: Search, token: str | None, tally: Tally) -> Page:
        rests.append(scanner.rests().get(bounds))
        assert not scanner.shorten(window(0, 30), window(0, 20).end)  # no such scan
        if service.requests == 2:
            assert not scanner.shorten(bounds, window(0, 5).end)  # read, though not proven
            assert not scanner.shorten(bounds, bounds.end)
            assert scanner.shorten(bounds, window(0, 9).end)
        return service(search, token, tally)

    scanner = Scanner(fetch, settle=timedelta(), budget=99)
    found = scanner.scan(Field.CREATED_AT, bounds)
    # Three image sets a page, a second apart.
    assert rests[:3] == [None, Rest(window(3, 60), timedelta(seconds=2)), Rest(window(6, 60), timedelta(seconds=2.5))]
    assert (found.proven, found.remainder) == (window(0, 9), None)
    assert ids(found) == {f"i{n}" for n in range(9)}
    assert service.requests == 4
    assert scanner.rests() == {}
    assert not scanner.shorten(bounds, window(0, 3).end)


@pytest.mark.parametrize(("sorts", "pages"), [(True, [16, 12, 8, 4, 16]), (False, [16] * 5)])
def test_scans_that_begin_together_do_not_end_together(*, sorts: bool, pages: list[int]) -> None:
    """First budgets differ, later ones are whole; so are those of scans that prove nothing before their end."""
    service = FakeSearch(
        created={f"i{number:02d}": created(number / 2) for number in range(40)}, page_rows=1, sorts=sorts
    )
    scanner = Scanner(service, settle=timedelta(), budget=16)
    bounds = window(0, 20)
    scans = [scanner.scan(Field.CREATED_AT, bounds) for _ in pages]
    assert [scan.tally.requests for scan in scans] == pages
    remainder = scans[-2].remainder
    assert remainder is not None
    assert scanner.scan(Field.CREATED_AT, remainder).tally.requests == 16


def test_a_walk_is_shortened_only_while_it_is_under_way_and_in_order() -> None:
    """What it has handed out, or read to the end, stays as it was; where the order fails, nobody knows what is left."""
    rows = {f"i{n}": created(n) for n in range(60)}
    sorted_walk = Walk(FakeSearch(created=rows), Field.CREATED_AT, window(0, 60), timedelta(), 4)
    sorted_walk.step()
    rests = [sorted_walk.rest]
    remainder = sorted_walk.take().remainder
    assert remainder is not None
    assert [*rests, sorted_walk.rest] == [Rest(window(3, 60), timedelta(seconds=2)), None]
    assert not sorted_walk.shorten(window(0, 9).end)
    sorted_walk.go_on(remainder, 4)
    assert sorted_walk.shorten(window(0, 9).end)
    while not sorted_walk.is_complete:
        sorted_walk.step()
    assert not sorted_walk.shorten(window(0, 8).end)
    assert sorted_walk.take().proven == Window(remainder.start, window(0, 9).end)
    newest_first = Walk(FakeSearch(created=rows, sorts=False), Field.CREATED_AT, window(0, 60), timedelta(), 4)
    newest_first.step()
    assert newest_first.rest is None
    assert not newest_first.shorten(window(0, 9).end)


def test_others_without_work_have_a_scan_without_order_hand_back() -> None:
    """Where the order fails, a scan whose window is wanted hands it back after two pages, or reads it to its end."""
    rows = {f"i{n}": created(n) for n in range(60)}
    early = Scanner(FakeSearch(created=rows, sorts=False), settle=timedelta(), budget=99, is_wanted=lambda: True)
    found = early.scan(Field.CREATED_AT, window(0, 60))
    assert (found.proven, found.remainder, found.tally.requests) == (None, window(0, 60), 2)
    answers = iter([False, False, False])
    unsorted = FakeSearch(created=rows, sorts=False)
    late = Scanner(unsorted, settle=timedelta(), budget=99, is_wanted=lambda: next(answers, True))
    assert late.scan(Field.CREATED_AT, window(0, 60)).remainder is None


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
    assert (found.proven, found.remainder) == (None, window(0, 5))
    assert len(found.rows) == 0


def test_an_order_that_breaks_after_a_restart_puts_the_first_part_in_doubt() -> None:
    """What was proven before the restart is read again, with no trust in the order."""
    rows = {"a": created(1), "b": created(5), "withheld": created(3)}

    def fetch(search: Search, token: str | None, tally: Tally) -> Page:
        tally.requests += 1
        assert search.window is not None
        if token == "rejected":
            raise InvalidRequestError("SearchImageSets: the service refuses the request as invalid")
        body: dict[str, Any] = {}
        if tally.requests == 1:
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

    def fetch(search: Search, token: str | None, tally: Tally) -> Page:
        if tally.requests == 3:
            raise StoppedError("stopped while waiting for the request quota")
        return service(search, token, tally)

    bounds = window(0, 30)
    for found in (
        walk(fetch, bounds),
        Scanner(
            service,
            settle=timedelta(),
            budget=99,
            is_stopping=lambda: service.requests >= 6,
        ).scan(Field.CREATED_AT, bounds),
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
