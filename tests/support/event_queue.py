"""A queue of HealthImaging's events on moto's SQS, over real HTTP."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import boto3


class EventQueue:
    """One queue, and what EventBridge would send to it.

    Attributes:
        url: Of the queue.
    """

    def __init__(self) -> None:
        self._client: Any = boto3.Session().client("sqs")
        self.url: str = self._client.create_queue(QueueName=f"events-{uuid.uuid4().hex[:8]}")["QueueUrl"]

    def send(self, *bodies: str) -> None:
        """Put messages on the queue."""
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies[start : start + 10])]
            self._client.send_message_batch(QueueUrl=self.url, Entries=entries)

    def tell(self, what: str, datastore_id: str, *image_set_ids: str) -> None:
        """Put HealthImaging's events on the queue: ``Image Set Created``, ``Image Set Deleted`` and so on."""
        self.send(*(json.dumps(envelope(what, datastore_id, name)) for name in image_set_ids))

    def redeliver(self, receipts: Sequence[str]) -> None:
        """Have messages that were delivered, and are not deleted, come again now."""
        for start in range(0, len(receipts), 10):
            entries = [
                {"Id": str(at), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for at, receipt in enumerate(receipts[start : start + 10])
            ]
            self._client.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)

    def left(self) -> int:
        """How many messages there are, those delivered and not deleted included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(map(int, found.values()))


def envelope(what: str, datastore_id: str, image_set_id: str) -> dict[str, Any]:
    """An event as EventBridge has it."""
    state = "DELETED" if what == "Image Set Deleted" else "ACTIVE"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": what,
        "source": "aws.medical-imaging",
        "account": "123456789012",
        "time": "2024-06-01T12:00:00Z",
        "region": "us-east-1",
        "resources": [
            f"arn:aws:medical-imaging:us-east-1:123456789012:datastore/{datastore_id}/imageset/{image_set_id}"
        ],
        "detail": {
            "imagingVersion": "1.0",
            "datastoreId": datastore_id,
            "imageSetId": image_set_id,
            "imageSetState": state,
            "imageSetWorkflowStatus": what.rpartition(" ")[2].upper(),
        },
    }
