"""What a message says, however it was sent; and what holds no event of HealthImaging's."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.connectors.events import Event, parse_message
from tests.support.event_queue import envelope

STORE, IMAGE_SET = "a" * 32, "b" * 32
DELETED = envelope("Image Set Deleted", STORE, IMAGE_SET)
CREATED = envelope("Image Set Created", STORE, IMAGE_SET)


def with_detail(**changes: Any) -> dict[str, Any]:
    return CREATED | {"detail": CREATED["detail"] | changes}


@pytest.mark.parametrize(
    ("document", "deleted"),
    [
        (CREATED, False),
        (DELETED, True),
        (envelope("Image Set Deleting", STORE, IMAGE_SET), False),
        (DELETED["detail"], True),
        (CREATED["detail"], False),
        ({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": json.dumps(DELETED)}, True),
        ({"messageId": "1", "eventSource": "aws:sqs", "body": json.dumps(DELETED)}, True),
        ({"body": json.dumps({"Type": "Notification", "Message": json.dumps(CREATED)})}, False),
        ({"source": "aws.medical-imaging", "detail": {"datastoreId": STORE, "imagesetId": IMAGE_SET}}, False),
    ],
    ids=["envelope", "deleted", "deleting", "detail", "detail-created", "sns", "pipe", "pipe-of-sns", "other-spelling"],
)
def test_an_event_is_found_however_it_was_sent(document: dict[str, Any], deleted: bool) -> None:  # noqa: FBT001
    """EventBridge's envelope, its detail alone, and both wrapped as text."""
    wanted = Event(datastore_id=STORE, image_set_id=IMAGE_SET, deleted=deleted, receipt="r")
    assert parse_message(json.dumps(document), "r") == wanted


def test_an_import_job_is_an_event_without_an_image_set() -> None:
    """It wakes, and names nothing."""
    detail = {"datastoreId": STORE, "jobId": "c" * 32, "jobStatus": "COMPLETED", "inputS3Uri": "s3://b/x"}
    body = json.dumps(CREATED | {"detail-type": "Import Job Completed", "detail": detail})
    assert parse_message(body, "r") == Event(datastore_id=STORE, image_set_id=None, deleted=False, receipt="r")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        json.dumps([CREATED]),
        "[" * 100_000,
        json.dumps(CREATED | {"source": "aws.s3"}),
        json.dumps(CREATED | {"detail": "text"}),
        json.dumps(with_detail(datastoreId="../x")),
        json.dumps(with_detail(datastoreId=None)),
        json.dumps(with_detail(imageSetId="x'; drop")),
        json.dumps(with_detail(imageSetId=7)),
        json.dumps({"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"}),
        json.dumps({"Message": {"Message": 1}}),
    ],
)
def test_what_holds_no_event_is_none(body: str) -> None:
    """Nothing of it is taken, and nothing raises."""
    assert parse_message(body, "r") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.sampled_from(["detail", "source", "Message", "body", "x"]), each),
)


@given(st.text() | JSON.map(json.dumps))
def test_no_body_raises(body: str) -> None:
    """Whatever a message holds, it is an event or none."""
    parse_message(body, "r")
