"""Searching itself, without HTTP: every query against the plain way of answering it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.emulator.options import ServiceOptions
from ahi_catalog.emulator.records import Record, render
from ahi_catalog.emulator.search import Index, Position, Searcher, parse_query

STORE = "0" * 32
# Few values, so that ties and hits are common.
TIMES = st.sampled_from([0, 1, 999_999, 1_000_000, 1_000_001, 2_500_000])
DATES = st.sampled_from([None, "", "20240101", "1994.11.05", "20240102"])
CLOCKS = st.sampled_from([None, "", "093000", "11:20:00"])
PATIENTS = st.sampled_from([None, "", "a", 'b"\\', "ü"])
SORTS = st.sampled_from(["createdAt", "updatedAt", "DICOMStudyDateAndTime"])


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    found = []
    for number in range(draw(st.integers(0, 25))):
        tags = {
            "DICOMPatientId": draw(PATIENTS),
            "DICOMStudyDate": draw(DATES),
            "DICOMStudyTime": draw(CLOCKS),
        }
        found.append(
            render(
                {
                    "imageSetId": f"{draw(st.integers(0, 10**6)):026}{number:06}",
                    "createdAt": draw(TIMES),
                    "updatedAt": draw(TIMES),
                    "DICOMTags": {name: value for name, value in tags.items() if value is not None},
                    "isPrimary": draw(st.booleans()),
                }
            )
        )
    return found


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    field = draw(st.sampled_from(["createdAt", "updatedAt", "DICOMPatientId", "isPrimary", "DICOMStudyDateAndTime"]))
    values: st.SearchStrategy[Any] = {
        "createdAt": TIMES,
        "updatedAt": TIMES,
        "DICOMPatientId": PATIENTS.filter(lambda value: value is not None),
        "isPrimary": st.booleans(),
        "DICOMStudyDateAndTime": st.fixed_dictionaries(
            {"DICOMStudyDate": DATES.filter(lambda value: value is not None)},
            optional={"DICOMStudyTime": CLOCKS.filter(lambda value: value is not None)},
        ),
    }[field]
    operator = draw(st.sampled_from(["EQUAL", "BETWEEN"]))
    count = 1 if operator == "EQUAL" else 2
    return {"operator": operator, "values": [{field: draw(values)} for _ in range(count)]}


def sort_key(record: Record, field: str) -> tuple[Any, str]:
    tags = record.summary()["DICOMTags"]
    date = tags.get("DICOMStudyDate")
    study = "" if date is None else f"{date} {tags.get('DICOMStudyTime', '')}"
    keys = {"createdAt": record.created, "updatedAt": record.updated, "DICOMStudyDateAndTime": study}
    return keys[field], record.image_set_id


def matches(record: Record, condition: dict[str, Any], *, inclusive: bool) -> bool:
    (field, low), (_, high) = (
        next(iter(condition["values"][0].items())),
        next(iter(condition["values"][-1].items())),
    )
    summary = record.summary()
    value: Any = {"createdAt": record.created, "updatedAt": record.updated}.get(field)
    if field == "isPrimary":
        value = summary["isPrimary"]
    elif field == "DICOMPatientId":
        value = summary["DICOMTags"].get(field)
    elif field == "DICOMStudyDateAndTime":
        value = sort_key(record, field)[0]
        low = f"{low['DICOMStudyDate']} {low.get('DICOMStudyTime', '')}"
        all_day = f"{high['DICOMStudyDate']} \U0010ffff"
        high = f"{high['DICOMStudyDate']} {high['DICOMStudyTime']}" if "DICOMStudyTime" in high else all_day
    if value is None:
        return False
    if condition["operator"] == "EQUAL" or inclusive:
        return bool(low <= value <= high)
    return bool(low < value < high)


@settings(max_examples=250, deadline=None)
@given(
    rows=records(),
    conditions=st.lists(filters(), max_size=2),
    sort=st.tuples(SORTS, st.sampled_from(["ASC", "DESC"])),
    size=st.integers(1, 7),
    inclusive=st.booleans(),
    offset_tokens=st.booleans(),
)
def test_pages_hold_every_matching_row_once_in_order(
    *,
    rows: list[Record],
    conditions: list[dict[str, Any]],
    sort: tuple[str, str],
    size: int,
    inclusive: bool,
    offset_tokens: bool,
) -> None:
    """Any search of any rows, page after page, gives just the matching rows, each once, in a total order."""
    index = Index()
    index.add(rows)
    criteria: dict[str, Any] = {"sort": {"sortField": sort[0], "sortOrder": sort[1]}}
    if conditions:
        criteria["filters"] = conditions
    query = parse_query(STORE, criteria, ServiceOptions(between_inclusive=inclusive))
    searcher = Searcher(index)
    found: list[Record] = []
    position: Position | None = None
    for _ in range(len(rows) + 1):
        page = searcher.page(query, position, size, offset_tokens=offset_tokens)
        assert page.next is None or len(page.records) == size
        found += page.records
        position = page.next
        if position is None:
            break
    expected = [
        record
        for record in sorted(rows, key=lambda record: sort_key(record, sort[0]), reverse=sort[1] == "DESC")
        if all(matches(record, condition, inclusive=inclusive) for condition in conditions)
    ]
    assert [record.image_set_id for record in found] == [record.image_set_id for record in expected]


def test_a_worked_out_result_follows_changes() -> None:
    """A search by a tag sees a row that was added or removed since the same search was last asked."""
    index = Index()
    searcher = Searcher(index)
    rows = [render({"imageSetId": f"{n:032}", "createdAt": n, "DICOMTags": {"DICOMPatientId": "a"}}) for n in range(3)]
    criteria = {"filters": [{"operator": "EQUAL", "values": [{"DICOMPatientId": "a"}]}]}
    query = parse_query(STORE, criteria, ServiceOptions())

    def count() -> int:
        return len(searcher.page(query, None, 50, offset_tokens=False).records)

    assert count() == 0
    index.add(rows)
    assert count() == count() == 3
    index.remove(rows[1])
    assert count() == 2
    assert len(index) == 2


def test_an_offset_token_moves_with_changes_and_a_key_token_does_not() -> None:
    """Where the front grows between two pages, an offset repeats a row; a key goes on where it was."""
    rows = [render({"imageSetId": f"{n:032}", "createdAt": n + 1}) for n in range(4)]
    new = render({"imageSetId": "9" * 32, "createdAt": 0})
    query = parse_query(STORE, {"sort": {"sortField": "createdAt", "sortOrder": "ASC"}}, ServiceOptions())
    second = {}
    for offsets in (False, True):
        index = Index()
        index.add(rows)
        searcher = Searcher(index)
        position = searcher.page(query, None, 2, offset_tokens=offsets).next
        index.add([new])
        second[offsets] = searcher.page(query, position, 2, offset_tokens=offsets).records
    assert second[False] == (rows[2], rows[3])
    assert second[True] == (rows[1], rows[2])


def test_fingerprints_tell_queries_apart() -> None:
    """Another data store, sort or bound is another query; the same one written otherwise is the same."""
    moment = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp()) * 1_000_000

    def fingerprint(store: str = STORE, bound: int = moment, order: str = "ASC") -> str:
        criteria = {
            "sort": {"sortField": "createdAt", "sortOrder": order},
            "filters": [{"operator": "EQUAL", "values": [{"createdAt": bound}]}],
        }
        return parse_query(store, criteria, ServiceOptions()).fingerprint

    ways = {fingerprint(), fingerprint("1" * 32), fingerprint(bound=moment + 1), fingerprint(order="DESC")}
    assert len(ways) == 4
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize("field", ["createdAt", "updatedAt", "DICOMStudyDateAndTime"])
def test_counts_agree_with_rows(field: str) -> None:
    """Counting a stretch gives as many as walking it."""
    index = Index()
    index.add([render({"imageSetId": f"{n:032}", "createdAt": n}) for n in range(5)])
    assert index.count(field, None, None) == len(list(index.between(field, None, None))) == 5
