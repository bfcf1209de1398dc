"""Operations beside the search through boto3, and errors in the service's form."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

UNKNOWN = "f" * 32


def image_set(running: Any, number: int, **more: str) -> dict[str, Any]:
    answer: dict[str, Any] = running.client.get_image_set(
        datastoreId=running.store, imageSetId=f"{number:032x}", **more
    )
    return answer


def test_an_image_set_is_described(running: Any) -> None:
    """GetImageSet answers its version, state and exact times."""
    answer = image_set(running, 3)
    row = running.service.rows(running.store)[3]
    assert (answer["imageSetState"], answer["versionId"]) == ("ACTIVE", "1")
    assert answer["createdAt"].timestamp() == row["createdAt"]
    assert answer["imageSetArn"].endswith(f"datastore/{running.store}/imageset/{3:032x}")
    assert "deletedAt" not in answer


def test_an_update_is_a_new_version_now(running: Any) -> None:
    """An updated image set has the next version and the service's time; the old version is not kept."""
    running.service.advance(timedelta(hours=1))
    updated = running.service.update(running.store, f"{3:032x}", {"lastAccessedAt": running.service.now()})
    assert updated["version"] == 2
    answer = image_set(running, 3, versionId="2")
    assert answer["updatedAt"] == answer["lastAccessedAt"] == running.service.now()
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        image_set(running, 3, versionId="1")


def test_a_deleted_image_set_says_so(running: Any) -> None:
    """Deleted, it leaves search, and GetImageSet answers DELETED with the time."""
    running.service.delete(running.store, f"{3:032x}")
    assert 3 not in running.numbers()
    answer = image_set(running, 3)
    assert (answer["imageSetState"], answer["deletedAt"]) == ("DELETED", running.service.now())


def test_a_deleted_image_set_may_be_gone(start: Any) -> None:
    """With deleted_is_gone GetImageSet no longer knows it."""
    running = start(deleted_is_gone=True)
    running.service.delete(running.store, f"{3:032x}")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        image_set(running, 3)


def test_a_deleted_id_can_be_inserted_again(running: Any, summary: Any) -> None:
    """An id is free once its image set is deleted, and taken before."""
    with pytest.raises(ValueError, match="already"):
        running.service.insert(running.store, [summary(3)])
    running.service.delete(running.store, f"{3:032x}")
    running.service.insert(running.store, [summary(3)])
    assert image_set(running, 3)["imageSetState"] == "ACTIVE"


def test_what_is_unknown_is_not_found(running: Any) -> None:
    """An unknown data store or image set is a 404, on the wire and in Python."""
    not_found = running.client.exceptions.ResourceNotFoundException
    with pytest.raises(not_found):
        running.client.search_image_sets(datastoreId=UNKNOWN)
    with pytest.raises(not_found):
        running.client.get_datastore(datastoreId=UNKNOWN)
    with pytest.raises(not_found):
        running.client.get_image_set(datastoreId=UNKNOWN, imageSetId=UNKNOWN)
    with pytest.raises(not_found):
        running.client.get_image_set(datastoreId=running.store, imageSetId=UNKNOWN)
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        running.service.delete(running.store, UNKNOWN)


def test_a_data_store_is_described(running: Any) -> None:
    """GetDatastore answers its name, its state and when it was made."""
    properties = running.client.get_datastore(datastoreId=running.store)["datastoreProperties"]
    assert (properties["datastoreName"], properties["datastoreStatus"]) == ("test", "ACTIVE")
    assert properties["createdAt"].isoformat().endswith(".123456+00:00")
    assert properties["datastoreArn"].endswith(running.store)


def test_data_stores_are_listed_page_by_page(running: Any) -> None:
    """ListDatastores gives each once, filters by status, and refuses a search's token."""
    made = {running.store} | {running.service.create_datastore(name=f"more-{n}") for n in range(4)}
    pages = running.client.get_paginator("list_datastores").paginate(PaginationConfig={"PageSize": 2})
    listed = [store["datastoreId"] for page in pages for store in page["datastoreSummaries"]]
    assert len(listed) == 5
    assert set(listed) == made
    assert running.client.list_datastores(datastoreStatus="DELETED")["datastoreSummaries"] == []
    token = running.search(size=3)["nextToken"]
    with pytest.raises(running.client.exceptions.ValidationException):
        running.client.list_datastores(nextToken=token)


def test_ids_follow_from_names(running: Any) -> None:
    """The same name gives the same id anywhere; a taken or malformed one is refused."""
    with pytest.raises(ValueError, match="already"):
        running.service.create_datastore(name="test")
    with pytest.raises(ValueError, match="name"):
        running.service.create_datastore(name="no blanks")
    with pytest.raises(ValueError, match="32 characters"):
        running.service.create_datastore(name="fine", datastore_id="SHORT")
    assert running.service.create_datastore(name="fine", datastore_id="a" * 32) == "a" * 32


def test_denied_operations_are_denied(start: Any) -> None:
    """An operation in `denied` answers AccessDeniedException, the others work."""
    running = start(denied=frozenset({"GetDatastore"}))
    with pytest.raises(running.client.exceptions.AccessDeniedException):
        running.client.get_datastore(datastoreId=running.store)
    assert running.numbers()


def test_errors_have_the_services_form(running: Any) -> None:
    """Status, x-amzn-ErrorType and a JSON message; the request's values are in none of them."""
    body = {"filters": [{"operator": "EQUAL", "values": [{"DICOMStudyInstanceUID": "Doe^Jane"}]}]}
    answer = running.raw_search(body)
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "ValidationException"
    assert list(answer.json) == ["message"]
    assert b"Doe" not in answer.body


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("DELETE", "/datastore"), ("POST", "/")])
def test_other_requests_are_unknown_operations(running: Any, method: str, path: str) -> None:
    """What is no operation of ours is a 404, in the same form."""
    answer = running.http(method, path)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")


def test_answers_carry_the_services_time_and_their_own_id(running: Any) -> None:
    """Date is the service's clock, on errors too; request ids never repeat."""
    running.service.advance(timedelta(days=1))
    answers = [running.raw_search(), running.raw_search(), running.raw_search(b"{")]
    assert {answer.headers["date"] for answer in answers} == {"Sat, 02 May 2026 12:00:00 GMT"}
    assert len({answer.headers["x-amzn-requestid"] for answer in answers}) == 3
    assert "server" not in answers[0].headers


def test_the_quota_throttles_and_counts(start: Any) -> None:
    """Beyond burst and rate come 429s, which are counted; time fills the bucket again."""
    now = [0.0]
    running = start(rate=2.0, burst=3, monotonic=lambda: now[0])

    def ask(times: int) -> list[int]:
        return [running.raw_search().status for _ in range(times)]

    assert ask(4) == [200, 200, 200, 429]
    now[0] = 1.0
    assert ask(3) == [200, 200, 429]
    # The two metered operations share the bucket; the others have none.
    with pytest.raises(running.client.exceptions.ThrottlingException):
        image_set(running, 1)
    assert running.client.get_datastore(datastoreId=running.store)
    counters = running.service.counters
    assert counters.requests == {"SearchImageSets": 7, "GetImageSet": 1, "GetDatastore": 1}
    assert counters.throttled == 3
    running.service.reset_counters()
    assert (running.service.counters.requests, running.service.counters.throttled) == ({}, 0)
