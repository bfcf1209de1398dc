"""What a scan reads off a page, and what it asks for."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.healthimaging.pages import Field, Search, read_page
from ahi_catalog.connectors.windows import Window
from ahi_catalog.schemas import MalformedSummaryError, flatten
from ahi_catalog.schemas.image_sets import SUMMARIES

AT = datetime(2024, 2, 29, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def body(*created: float, sort: object = None, **more: object) -> bytes:
    summaries = [{"imageSetId": f"i{number}", "createdAt": moment} for number, moment in enumerate(created)]
    return json.dumps({SUMMARIES: summaries, "sort": sort, **more}).encode()


def test_bounds_lie_outside_the_window_and_are_aware() -> None:
    """What is asked for: the two ends, just outside the window, and the order."""
    criteria = Search(Field.UPDATED_AT, Window(AT, AT + timedelta(days=1))).criteria()
    [given_filter] = criteria["filters"]
    assert given_filter["operator"] == "BETWEEN"
    assert given_filter["values"] == [
        {"updatedAt": AT - timedelta(milliseconds=1)},
        {"updatedAt": AT + timedelta(days=1, seconds=1)},
    ]
    assert criteria["sort"] == {"sortField": "updatedAt", "sortOrder": "ASC"}
    assert Search(Field.UPDATED_AT, None).criteria() == {}


@settings(max_examples=300, deadline=None)
@given(
    start=st.integers(1, 4_000_000_000),
    length=st.integers(1, 3),
    place=st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.000001, 0.4996, 0.999, 0.999999])),
    bound_step=st.sampled_from([1, 1_000, 1_000_000]),
    time_step=st.sampled_from([1, 1_000, 1_000_000]),
    is_rounded=st.booleans(),
)
def test_the_bounds_hold_the_window_however_the_service_compares(
    *, start: int, length: int, place: float, bound_step: int, time_step: int, is_rounded: bool
) -> None:
    """Ends left out, cut to milliseconds or seconds, times kept so coarsely, cut or rounded: no row is missed."""
    moment = start * 1_000_000 + int(place * length * 1_000_000)
    window = Window(EPOCH + timedelta(seconds=start), EPOCH + timedelta(seconds=start + length))
    bounds = Search(Field.CREATED_AT, window).bounds
    assert bounds is not None
    low, high = ((bound - EPOCH) // timedelta(microseconds=bound_step) * bound_step for bound in bounds)
    kept = (moment + is_rounded * time_step // 2) // time_step * time_step
    assert low < kept < high


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4_000_000_000_000_000), max_size=10))
def test_a_page_and_its_rows_have_the_same_times(moments: list[int]) -> None:
    """The scan decides by the very microseconds that the catalog will hold."""
    page = read_page(body(*(moment / 1e6 for moment in moments)), AT)
    held = flatten([page.rows])["created_at"].to_pylist()
    assert list(page.created) == moments == [(at - EPOCH) // timedelta(microseconds=1) for at in held]
    assert page.updated == page.created


@pytest.mark.parametrize(
    ("sort", "created", "expected"),
    [
        ({"sortField": "createdAt", "sortOrder": "ASC"}, [1, 1, 2], True),
        ({"sortField": "createdAt", "sortOrder": "ASC"}, [], True),
        ({"sortField": "createdAt", "sortOrder": "ASC"}, [2, 1], False),
        ({"sortField": "createdAt", "sortOrder": "DESC"}, [1, 2], False),
        ({"sortField": "updatedAt", "sortOrder": "ASC"}, [1, 2], False),
        ("createdAt", [1, 2], False),
        (None, [1, 2], False),
    ],
)
def test_order_is_believed_only_with_word_and_proof(sort: object, created: list[float], *, expected: bool) -> None:
    """The service has to say that it sorted so, and the rows have to bear it out."""
    assert read_page(body(*created, sort=sort), AT).is_sorted_by(Field.CREATED_AT) is expected


@pytest.mark.parametrize(("token", "expected"), [("t", "t"), ("", None), (None, None), (7, None)])
def test_a_page_token_is_a_text(token: object, expected: str | None) -> None:
    """What is none ends the walk."""
    assert read_page(body(nextToken=token), AT).next_token == expected


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff\xfe Tester",
        b"[" * 5_000,
        body()[:-1],
        b'{"imageSetsMetadataSummaries": ["Tester"]}',
        b'{"imageSetsMetadataSummaries": [{"createdAt": 1, "name": "Tester"}]}',
        b'{"imageSetsMetadataSummaries": [{"imageSetId": "x", "createdAt": NaN}]}',
        b'{"imageSetsMetadataSummaries": [{"imageSetId": "x", "createdAt": 1e999}]}',
        b'{"imageSetsMetadataSummaries": [{"imageSetId": "x", "createdAt": 1%s}]}' % (b"0" * 400),
    ],
)
def test_a_page_that_makes_no_sense_is_refused_without_a_value(bad: bytes) -> None:
    """Half bodies, garbage and times beyond all bounds are malformed pages."""
    with pytest.raises(MalformedSummaryError) as caught:
        read_page(bad, AT)
    assert "Tester" not in str(caught.value)
