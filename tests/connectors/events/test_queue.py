"""A queue over real HTTP: bursts, deletion in batches, redelivery, and what is said where it refuses."""

import itertools
import threading
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from ahi_catalog.connectors.errors import QueueError, Remedy
from ahi_catalog.connectors.events import Event, Queue, open_queue
from tests.support.event_queue import EventQueue

STORE = "a" * 32
GOING = threading.Event()


def names(count: int) -> list[str]:
    return [f"{number:032d}" for number in range(count)]


def test_a_burst_is_gathered_and_deleted_in_batches(event_queue: EventQueue) -> None:
    """25 messages come as one burst, and are gone once they are deleted."""
    event_queue.tell("Image Set Created", STORE, *names(25))
    # However long a poll takes, three of them are within the wait.
    clock = itertools.count(0, 1 / 64).__next__
    queue = Queue(event_queue.url, boto3.Session().client("sqs"), clock=clock)
    events = queue.receive(5 / 64, GOING)
    assert sorted(event.image_set_id or "" for event in events) == names(25)
    assert event_queue.left() == 25
    queue.delete(events)
    assert event_queue.left() == 0


def test_what_is_not_deleted_comes_again(event_queue: EventQueue) -> None:
    """The same event, with another receipt."""
    event_queue.tell("Image Set Deleted", STORE, *names(1))
    queue = open_queue(event_queue.url)
    [first] = queue.receive(0, GOING)
    assert queue.receive(0, GOING) == []
    boto3.Session().client("sqs").change_message_visibility(
        QueueUrl=event_queue.url, ReceiptHandle=first.receipt, VisibilityTimeout=0
    )
    [again] = queue.receive(0, GOING)
    assert (again.image_set_id, again.deleted) == (first.image_set_id, True)
    assert again.receipt != first.receipt


def test_what_is_malformed_is_counted_and_left(event_queue: EventQueue) -> None:
    """It is no event, and stays for the dead-letter queue."""
    event_queue.send("{", '{"source": "aws.s3"}')
    event_queue.tell("Image Set Created", STORE, *names(1))
    queue = open_queue(event_queue.url)
    events = queue.receive(0.1, GOING)
    queue.delete(events)
    assert (len(events), queue.malformed, event_queue.left()) == (1, 2, 2)


def test_a_message_that_cannot_be_deleted_is_told(event_queue: EventQueue, caplog: pytest.LogCaptureFixture) -> None:
    """One bad receipt among good ones holds none of them up."""
    event_queue.tell("Image Set Created", STORE, *names(3))
    queue = open_queue(event_queue.url)
    events = queue.receive(0, GOING)
    queue.delete([Event(datastore_id=STORE, image_set_id=None, deleted=False, receipt="bad"), *events])
    assert event_queue.left() == 0
    assert "1 messages could not be deleted" in caplog.text


def test_a_stop_ends_the_wait(event_queue: EventQueue) -> None:
    """A process that is asked to stop polls no more."""
    stop = threading.Event()
    stop.set()
    assert open_queue(event_queue.url).receive(600, stop) == []


def test_a_long_wait_is_made_of_short_polls(event_queue: EventQueue) -> None:
    """No poll is longer than a few seconds, and the last one ends with the wait; by a clock of the test's own."""
    client: Any = boto3.Session().client("sqs")
    now = [0.0]
    asked: list[int] = []

    class Slow:
        def receive_message(self, **request: Any) -> dict[str, Any]:
            asked.append(request["WaitTimeSeconds"])
            now[0] += request["WaitTimeSeconds"]
            return {}

        delete_message_batch = client.delete_message_batch
        get_queue_attributes = client.get_queue_attributes

    assert Queue(event_queue.url, Slow(), clock=lambda: now[0]).receive(5, GOING) == []
    assert asked == [2, 2, 1]


def test_a_missing_queue_is_told(event_queue: EventQueue) -> None:
    """Its URL is to be checked."""
    with pytest.raises(QueueError, match="there is no such queue: check the URL of `queue`"):
        open_queue(f"{event_queue.url}-x").receive(0, GOING)


def test_a_queue_out_of_reach_is_told(event_queue: EventQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is to be checked, and the endpoint's variable."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
    with pytest.raises(QueueError, match=r"cannot be reached .* AWS_ENDPOINT_URL_SQS$"):
        open_queue(event_queue.url).receive(0, GOING)


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException"])
def test_a_refusal_names_the_permissions(event_queue: EventQueue, code: str) -> None:
    """Those of the queue, and of its key."""
    client = boto3.Session().client("sqs")
    with Stubber(client) as stubber:
        stubber.add_client_error("receive_message", code, "User arn:aws:iam::1:user/x is not authorized")
        with pytest.raises(QueueError, match=r"sqs:ReceiveMessage.*kms:Decrypt") as refused:
            Queue(event_queue.url, client).receive(0, GOING)
    assert refused.value.remedy is Remedy.POLICY
    assert "arn" not in str(refused.value)
