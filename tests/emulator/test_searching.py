"""SearchImageSets through boto3, and each option that changes what it answers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

ASC = {"sortField": "createdAt", "sortOrder": "ASC"}
FIRST = datetime(2026, 4, 1, 8, 30, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def created(low: datetime, high: datetime) -> list[dict[str, Any]]:
    return [{"operator": "BETWEEN", "values": [{"createdAt": low}, {"createdAt": high}]}]


def test_the_newest_update_comes_first_by_default(running: Any) -> None:
    """Without a sort the order is updatedAt DESC, and the answer says so."""
    assert running.numbers() == list(range(10))
    assert running.search()["sort"] == {"sortField": "updatedAt", "sortOrder": "DESC"}


@pytest.mark.parametrize("order", ["ASC", "DESC"])
@pytest.mark.parametrize("field", ["createdAt", "updatedAt", "DICOMStudyDateAndTime"])
def test_a_sort_is_honoured_and_repeated(running: Any, field: str, order: str) -> None:
    """Each sort field in both directions."""
    sort = {"sortField": field, "sortOrder": order}
    ascending = list(range(10)) if field != "updatedAt" else list(range(9, -1, -1))
    assert running.numbers(sort=sort) == (ascending if order == "ASC" else ascending[::-1])
    assert running.search(sort=sort)["sort"] == sort


def test_every_field_comes_back_to_the_microsecond(running: Any) -> None:
    """boto3 gives back just what was inserted."""
    row = running.search(sort=ASC)["imageSetsMetadataSummaries"][3]
    assert row["createdAt"] == FIRST + 3 * SECOND
    assert row["updatedAt"].microsecond == 1_000_000 - 654_321
    assert row["DICOMTags"] == {"DICOMPatientId": "patient-3", "DICOMStudyDate": "20240104"}
    assert (row["version"], row["isPrimary"]) == (1, False)


def test_pages_are_of_the_size_asked_for(start: Any) -> None:
    """Fifty by default, maxResults where given, a token only where more follows."""
    running = start(count=100)
    page = running.search()
    assert len(page["imageSetsMetadataSummaries"]) == 50
    last = running.search(page["nextToken"])
    assert len(last["imageSetsMetadataSummaries"]) == 50
    assert "nextToken" not in last
    assert len(running.search(size=7)["imageSetsMetadataSummaries"]) == 7


def test_bounds_are_taken_with_their_fractions(running: Any) -> None:
    """BETWEEN includes its ends by default, to the microsecond."""
    assert running.numbers(filters=created(FIRST, FIRST + 2 * SECOND), sort=ASC) == [0, 1, 2]
    microsecond = timedelta(microseconds=1)
    inside = created(FIRST + microsecond, FIRST + 2 * SECOND - microsecond)
    assert running.numbers(filters=inside, sort=ASC) == [1]


def test_between_may_exclude_its_ends(start: Any) -> None:
    """The option between_inclusive=False leaves rows at the bounds out; EQUAL stays equal."""
    running = start(between_inclusive=False)
    assert running.numbers(filters=created(FIRST, FIRST + 2 * SECOND), sort=ASC) == [1]
    equal = [{"operator": "EQUAL", "values": [{"createdAt": FIRST}]}]
    assert running.numbers(filters=equal) == [0]


def test_bounds_may_be_cut_to_seconds(start: Any) -> None:
    """The option truncate_filter_seconds drops the fraction of both bounds."""
    running = start(truncate_filter_seconds=True)
    # 08:30:00.123456 .. 08:30:02.123456 becomes 08:30:00 .. 08:30:02, where the third row is out.
    assert running.numbers(filters=created(FIRST, FIRST + 2 * SECOND), sort=ASC) == [0, 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"DICOMPatientId": "patient-2"}, [2, 7]),
        ({"isPrimary": True}, [0, 2, 4, 6, 8]),
        ({"DICOMStudyDateAndTime": {"DICOMStudyDate": "20240104"}}, [3]),
        ({"DICOMAccessionNumber": "none"}, []),
        ({"DICOMStudyId": "none"}, []),
        ({"DICOMStudyInstanceUID": "1.2"}, []),
        ({"DICOMSeriesInstanceUID": "1.2"}, []),
    ],
)
def test_every_attribute_can_be_searched(running: Any, value: dict[str, Any], expected: list[int]) -> None:
    """EQUAL on each member of the union."""
    assert running.numbers(filters=[{"operator": "EQUAL", "values": [value]}], sort=ASC) == expected


def test_two_filters_hold_together(running: Any) -> None:
    """Filters are combined with AND, in any order of the answer."""
    filters = [
        *created(FIRST + SECOND, FIRST + 8 * SECOND),
        {"operator": "EQUAL", "values": [{"DICOMPatientId": "patient-2"}]},
    ]
    assert running.numbers(filters=filters) == [2, 7]


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        ("BETWEEN", [{"createdAt": FIRST}]),
        ("EQUAL", [{"createdAt": FIRST}, {"createdAt": FIRST}]),
        ("BETWEEN", [{"createdAt": FIRST}, {"updatedAt": FIRST}]),
    ],
)
def test_an_operator_takes_its_number_of_values(running: Any, operator: str, values: list[dict[str, Any]]) -> None:
    """EQUAL takes one value, BETWEEN two of the same field."""
    with pytest.raises(ClientError, match="ValidationException"):
        running.search(filters=[{"operator": operator, "values": values}])


def test_the_older_api_knows_no_sort(start: Any) -> None:
    """With older_api the order is updatedAt DESC whatever is asked, and no sort is answered."""
    running = start(older_api=True)
    assert running.numbers(sort=ASC | {"sortOrder": "DESC"}) == list(range(10))
    assert "sort" not in running.search(sort=ASC)
    assert running.numbers(filters=created(FIRST, FIRST + 3 * SECOND), sort=ASC) == [0, 1, 2, 3]


def test_the_older_api_filters_by_no_update(start: Any) -> None:
    """With older_api a filter on updatedAt is a ValidationException."""
    running = start(older_api=True)
    with pytest.raises(ClientError, match="ValidationException"):
        running.search(filters=[{"operator": "EQUAL", "values": [{"updatedAt": FIRST}]}])


def test_a_sort_may_be_ignored_openly(start: Any) -> None:
    """With ignore_sort the order is updatedAt DESC, and the answer says that it is."""
    running = start(ignore_sort=True)
    assert running.numbers(sort=ASC | {"sortOrder": "DESC"}) == list(range(10))
    assert running.search(sort=ASC)["sort"] == {"sortField": "updatedAt", "sortOrder": "DESC"}


def test_a_token_belongs_to_its_query(running: Any) -> None:
    """With other criteria, another data store, or made up, a token is a ValidationException."""
    token = running.search(size=3, sort=ASC)["nextToken"]
    assert running.search(token, 3, sort=ASC)["imageSetsMetadataSummaries"]
    with pytest.raises(ClientError, match="ValidationException"):
        running.search(token, 3)
    with pytest.raises(ClientError, match="ValidationException"):
        running.search("made-up", 3, sort=ASC)
    other = running.service.create_datastore(name="other")
    with pytest.raises(ClientError, match="ValidationException"):
        running.client.search_image_sets(datastoreId=other, searchCriteria={"sort": ASC}, nextToken=token)


def test_tokens_expire_by_the_services_clock(start: Any) -> None:
    """With token_ttl a token is refused once the service's clock has passed it."""
    running = start(token_ttl=60.0)
    token = running.search(size=3)["nextToken"]
    running.service.advance(timedelta(seconds=60))
    assert running.search(token, 3)
    running.service.advance(timedelta(seconds=1))
    with pytest.raises(ClientError, match=r"ValidationException.*expired"):
        running.search(token, 3)


@pytest.mark.parametrize("offset_tokens", [False, True])
def test_an_update_between_pages_moves_rows_in_the_default_order(start: Any, *, offset_tokens: bool) -> None:
    """An updated row jumps to the front: a key token then misses it, an offset token repeats another."""
    running = start(offset_tokens=offset_tokens)
    page = running.search(size=5)
    running.service.update(running.store, f"{9:032x}", {})
    rest = running.search(page["nextToken"], 50)["imageSetsMetadataSummaries"]
    expected = [4, 5, 6, 7, 8] if offset_tokens else [5, 6, 7, 8]
    assert [int(row["imageSetId"], 16) for row in rest] == expected


def test_a_change_waits_for_the_visibility_lag(start: Any, summary: Callable[..., dict[str, Any]]) -> None:
    """Until the lag has passed, search shows no new row, the old version, and the deleted one still."""
    running = start(visibility_lag=60.0)
    service, store = running.service, running.store
    service.insert(store, [summary(50, createdAt=service.now(), updatedAt=service.now())])
    service.update(store, f"{1:032x}", {"storageTier": "FREQUENT_ACCESS"})
    service.update(store, f"{1:032x}", {"storageTier": "ARCHIVE_INSTANT_ACCESS"})
    service.delete(store, f"{2:032x}")

    def versions() -> dict[int, int]:
        rows = running.search(sort=ASC)["imageSetsMetadataSummaries"]
        return {int(row["imageSetId"], 16): row["version"] for row in rows}

    service.advance(timedelta(seconds=59))
    assert versions() == dict.fromkeys(range(10), 1)
    seen = running.client.get_image_set(datastoreId=store, imageSetId=f"{1:032x}")
    assert seen["versionId"] == "3"
    assert {int(row["imageSetId"], 16) for row in service.rows(store)} == {*range(10), 50} - {2}
    service.advance(timedelta(seconds=1))
    assert versions() == {number: 1 for number in [*range(10), 50] if number != 2} | {1: 3}


def test_rows_are_what_a_search_of_everything_shows(running: Any) -> None:
    """service.rows() equals the rows of the answer's JSON, in createdAt order."""
    answer = running.raw_search({"sort": ASC})
    assert answer.json["imageSetsMetadataSummaries"] == running.service.rows(running.store)


def test_latency_delays_and_changes_nothing(start: Any) -> None:
    """With latency the answers are the same."""
    assert start(latency=0.001).numbers(sort=ASC) == list(range(10))
