"""A queue of SQS: long polls, bursts gathered, and messages deleted only when they are told to be done.

Deliveries are at least once and in no order. What is not deleted comes again after the queue's visibility timeout, and
goes to its dead-letter queue after as many deliveries as its redrive policy allows.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import botocore.exceptions as boto

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.aws_failures import REFUSED_CREDENTIALS, UNANSWERED, error_code, no_answer
from ahi_catalog.connectors.errors import QueueError, Remedy
from ahi_catalog.connectors.events.message import Event, parse_message

_log = logging.getLogger(__name__)

_BATCH: Final = 10
"""Messages of one request, as SQS bounds them."""
_POLL_SECONDS: Final = 2
"""Of one long poll, so that a stop is heeded soon; SQS allows 20, and a million requests cost forty cents."""
_GATHER_SECONDS: Final = 1.0
"""For which more is waited for after the first message of a burst."""
_MOST: Final = 1_000
"""Messages of one burst: what GetImageSet confirms in forty seconds at the default quota, if all tell of deletions."""
_TRIES: Final = 3
_ATTEMPTS: Final = 2

_CHECK: Final = "check the URL of `queue`, its account and the region"
_WHAT_TO_DO: Final = {
    **REFUSED_CREDENTIALS,
    "QueueDoesNotExist": f"there is no such queue: {_CHECK}",
    "NonExistentQueue": f"there is no such queue: {_CHECK}",
    "InvalidAddress": f"that is no queue's URL: {_CHECK}",
    "AccessDenied": "allow sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes on it, and kms:Decrypt on "
    "its key where it has one",
}
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "KmsAccessDenied", "KMS.AccessDeniedException"})


class Queue:
    """One queue of HealthImaging's events.

    Args:
        url: Of the queue.
        client: boto3's.
        clock: Seconds that never run back.

    Attributes:
        malformed: Messages received that hold no event of HealthImaging's; they are left to the dead-letter queue.
    """

    def __init__(self, url: str, client: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self.malformed = 0

    def receive(self, wait: float, stop: threading.Event) -> list[Event]:
        """The events that are there, waiting for the first of them; then those of a second or two more.

        Args:
            wait: Seconds to wait for the first; 0: do not wait.
            stop: Set when the process is asked to stop; the poll under way is the last then.

        Raises:
            QueueError: The queue refuses, or cannot be reached.
        """
        events: list[Event] = []
        received = 0
        until = self._clock() + wait
        while not stop.is_set() and received < _MOST:
            messages = self._poll(max(0, min(_POLL_SECONDS, math.ceil(until - self._clock()))))
            if messages and not received:
                until = self._clock() + min(_GATHER_SECONDS, wait)
            received += len(messages)
            events += filter(None, map(self._parse, messages))
            if self._clock() >= until:
                break
        return events

    def delete(self, events: Collection[Event]) -> None:
        """Deletes the messages of events whose word is published; one that is not deleted comes again, and harms none.

        Raises:
            QueueError: The queue refuses, or cannot be reached.
        """
        receipts = [event.receipt for event in events]
        failed = sum(self._delete(receipts[at : at + _BATCH]) for at in range(0, len(receipts), _BATCH))
        if failed:
            _log.warning("%d messages could not be deleted from the queue; they come again", failed)

    def attributes(self) -> Mapping[str, str]:
        """What the queue says of itself, by the names of GetQueueAttributes.

        Raises:
            QueueError: The queue refuses, or cannot be reached.
        """
        request = {"QueueUrl": self._url, "AttributeNames": ["All"]}
        attributes: Mapping[str, str] = _call(self._client.get_queue_attributes, request)["Attributes"]
        return attributes

    def _poll(self, seconds: int) -> list[dict[str, Any]]:
        request = {"QueueUrl": self._url, "MaxNumberOfMessages": _BATCH, "WaitTimeSeconds": seconds}
        messages: list[dict[str, Any]] = _call(self._client.receive_message, request).get("Messages", [])
        return messages

    def _parse(self, message: dict[str, Any]) -> Event | None:
        event = parse_message(message["Body"], message["ReceiptHandle"])
        self.malformed += event is None
        return event

    def _delete(self, receipts: Collection[str]) -> int:
        """Deletes some messages; how many are left."""
        left = {str(number): receipt for number, receipt in enumerate(receipts)}
        for _ in range(_TRIES):
            entries = [{"Id": number, "ReceiptHandle": receipt} for number, receipt in left.items()]
            answer = _call(self._client.delete_message_batch, {"QueueUrl": self._url, "Entries": entries})
            left = {failed["Id"]: left[failed["Id"]] for failed in answer.get("Failed", [])}
            if not left:
                break
        return len(left)


def open_queue(url: str) -> Queue:
    """A queue, with boto3's credentials, region and endpoint; nothing is asked of it yet.

    Args:
        url: Of the queue.

    Raises:
        UsageError: boto3 finds no region, or a profile that does not exist.
    """
    return Queue(url, aws.make_client("sqs", read_timeout=10 * _POLL_SECONDS, attempts=_ATTEMPTS))


def _call(function: Callable[..., dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
    try:
        return function(**request)
    except boto.ClientError as error:
        code = error_code(error).removeprefix("AWS.SimpleQueueService.")
    except UNANSWERED as error:
        advice = no_answer(error, "AWS_ENDPOINT_URL_SQS").advice
        raise QueueError(f"the queue: {advice}") from None
    denied = code in _DENIED
    advice = _WHAT_TO_DO.get("AccessDenied" if denied else code, "see SQS's documentation of that error")
    raise QueueError(f"the queue: {code}: {advice}", remedy=Remedy.POLICY if denied else None)
