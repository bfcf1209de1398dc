"""Each kind of fault as a real client meets it."""

import http.client
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from ahi_catalog.emulator import FAULT_KINDS, FaultPlan

ERRORS = {
    "throttle": (429, "ThrottlingException"),
    "500": (500, "InternalServerException"),
    "503": (503, "ServiceUnavailableException"),
    "conflict": (409, "ConflictException"),
    "access_denied": (403, "AccessDeniedException"),
    "unknown_key": (403, "UnrecognizedClientException"),
    "expired_token": (400, "ValidationException"),
}
OTHERS = {"repeat_token", "swap_order", "reset", "cut", "garble", "garble_bytes", "shorten", "stall"}


def test_every_kind_is_tested_here() -> None:
    """A new kind of fault needs a test."""
    assert set(FAULT_KINDS) == {*ERRORS, *OTHERS}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_on_order(running: Any, kind: str) -> None:
    """The client sees the error once, with its status and its name, and then the service again."""
    running.service.faults.add(kind)
    with pytest.raises(ClientError) as failed:
        running.search()
    response = failed.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == ERRORS[kind]
    assert running.numbers()
    assert running.service.counters.faults == {kind: 1}
    assert running.service.counters.throttled == (kind == "throttle")


def test_reset_closes_without_an_answer(running: Any) -> None:
    """The connection breaks before a byte of the answer; the next request works."""
    running.service.faults.add("reset")
    with pytest.raises(ConnectionClosedError):
        running.search()
    running.service.faults.add("reset")
    with pytest.raises(ConnectionError):
        running.raw_search()
    assert running.numbers()


def test_shortened_json_comes_as_if_it_were_whole(running: Any) -> None:
    """The status is 200 and the length right, and the JSON, rows in it, ends too early; the next answer is whole."""
    whole = running.raw_search().body
    running.service.faults.add("shorten")
    reply = running.raw_search()
    assert (reply.status, reply.body) == (200, whole[: len(whole) * 9 // 10])
    with pytest.raises(ValueError, match="truncated"):
        _ = reply.json
    assert running.numbers()


def test_cut_ends_in_the_middle(running: Any) -> None:
    """The head promises the whole body, and half of it comes."""
    whole = running.raw_search().body
    running.service.faults.add("cut")
    with pytest.raises(http.client.IncompleteRead) as broken:
        running.raw_search()
    assert broken.value.partial == whole[: len(whole) // 2]
    assert len(broken.value.partial) + (broken.value.expected or 0) == len(whole)
    assert running.numbers()


def test_botocore_takes_half_a_body_for_an_empty_page(running: Any) -> None:
    """Why clients must look at the body themselves: boto3 hides cut and garbled answers as empty ones."""
    for kind in ("cut", "garble"):
        running.service.faults.add(kind)
        assert set(running.search()) == {"ResponseMetadata"}


@pytest.mark.parametrize("kind", ["garble", "garble_bytes"])
def test_garbled_answers_are_no_json(running: Any, kind: str) -> None:
    """Status 200, a whole body, and no JSON in it."""
    running.service.faults.add(kind)
    answer = running.raw_search()
    assert answer.status == 200
    assert len(answer.body) == int(answer.headers["content-length"])
    with pytest.raises(ValueError, match=r"unexpected character|UTF-8|JSON"):
        _ = answer.json


def test_stall_holds_the_answer_back(running: Any, signed: Any) -> None:
    """The answer comes late, and whole; a client that gives up first breaks nothing."""
    running.service.faults.add("stall", seconds=0.01)
    assert running.search()["imageSetsMetadataSummaries"]
    running.service.faults.add("stall", seconds=30.0)
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=0.05)
    connection.request("POST", f"/datastore/{running.store}/searchImageSets", headers=signed())
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    assert running.numbers()


def test_any_fault_may_come_late(running: Any) -> None:
    """Seconds given with another kind hold its answer back too."""
    running.service.faults.add("throttle", seconds=0.01)
    with pytest.raises(ClientError, match="ThrottlingException"):
        running.search()


def test_repeat_token_gives_the_requests_token_back(running: Any) -> None:
    """The answer's token is the request's; a first page, which has none, is not changed."""
    token = running.search(size=2)["nextToken"]
    running.service.faults.add("repeat_token", next=2)
    assert running.search(size=2)["nextToken"] != token
    assert running.search(token, 2)["nextToken"] == token


def test_swap_order_turns_a_page_round(running: Any) -> None:
    """The rows of one page come in the opposite order."""
    running.service.faults.add("swap_order", at=2)
    assert running.numbers() == [0, 1, 3, 2, 4, 5, 6, 7, 8, 9]


def test_a_fault_waits_for_its_request() -> None:
    """`at` counts requests of SearchImageSets unless another operation is named."""
    plan = FaultPlan()
    plan.add("500", at=2)
    plan.add("503", at=2, operation="GetImageSet")
    assert plan.take("SearchImageSets", 1) is None
    assert plan.take("GetDatastore", 2) is None
    assert plan.waiting == 2
    taken = [plan.take("GetImageSet", 2), plan.take("SearchImageSets", 2), plan.take("SearchImageSets", 2)]
    assert [fault and fault.name for fault in taken] == ["503", "500", None]


def test_the_next_requests_are_spoilt_in_the_order_of_the_orders() -> None:
    """`next` counts requests from now on; orders are served first come, first served."""
    plan = FaultPlan()
    plan.add("500", next=2)
    plan.add("503", operation="GetImageSet")
    plan.add("throttle")
    seen = [plan.take(operation, 9) for operation in ("GetImageSet", "SearchImageSets", "SearchImageSets")]
    assert [fault and fault.name for fault in seen] == ["500", "500", "throttle"]
    assert plan.waiting == 1
    assert plan.served == {"500": 2, "throttle": 1}
    plan.clear()
    assert plan.take("GetImageSet", 9) is None


@pytest.mark.parametrize(
    "order",
    [{"kind": "flood"}, {"kind": "500", "at": 1, "next": 1}, {"kind": "500", "at": 0}, {"kind": "500", "next": 0}],
)
def test_impossible_orders_are_refused(order: dict[str, Any]) -> None:
    """An unknown kind, both of at and next, or a number below 1."""
    with pytest.raises(ValueError, match=r"kind|at"):
        FaultPlan().add(**order)


def test_request_numbers_start_again_with_the_counters(running: Any) -> None:
    """Resetting the counters makes the next request number 1."""
    running.numbers()
    running.service.reset_counters()
    running.service.faults.add("500", at=1)
    with pytest.raises(ClientError, match="InternalServerException"):
        running.search()
