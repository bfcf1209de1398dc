"""What a message says that EventBridge sent on HealthImaging's behalf. Pure.

Source: https://docs.aws.amazon.com/healthimaging/latest/devguide/event-notifications.html
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from ahi_catalog.connectors.settings import DATASTORE_ID

_SOURCE: Final = "aws.medical-imaging"
_WRAPPED_IN: Final = ("Message", "body")
"""Where the event is, as text, in what SNS sends without raw delivery, and in a record of a queue or a pipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something has happened in a data store.

    Attributes:
        datastore_id: The data store; not necessarily one that is read here.
        image_set_id: The image set; None: an event of an import job, or of the data store itself.
        deleted: Whether it says that the image set is deleted.
        receipt: Names the message to the queue, for this delivery.
    """

    datastore_id: str
    image_set_id: str | None
    deleted: bool
    receipt: str = field(repr=False)


def parse_message(body: str, receipt: str) -> Event | None:
    """The event in the body of a message; None where there is none of HealthImaging's.

    Taken are the envelope of EventBridge, that envelope wrapped by SNS or a pipe, and its `detail` alone, as a rule's
    input path or a pipe leaves it.

    Args:
        body: Of the message.
        receipt: Of the message.
    """
    envelope = _unwrapped(_parse(body))
    detail = envelope.get("detail", envelope)
    if envelope.get("source", _SOURCE) != _SOURCE or not isinstance(detail, dict):
        return None
    datastore_id = _id(detail.get("datastoreId"))
    # AWS's own examples spell it in both ways.
    named = detail.get("imageSetId", detail.get("imagesetId"))
    image_set_id = _id(named)
    if datastore_id is None or (named is not None and image_set_id is None):
        return None
    states = (envelope.get("detail-type"), detail.get("imageSetState"))
    deleted = image_set_id is not None and ("Image Set Deleted" in states or "DELETED" in states)
    return Event(datastore_id=datastore_id, image_set_id=image_set_id, deleted=deleted, receipt=receipt)


def _unwrapped(document: dict[str, Any]) -> dict[str, Any]:
    # Twice at most: a pipe may read from a queue that SNS fills.
    for _ in range(2):
        inner = next((document[name] for name in _WRAPPED_IN if name in document), None)
        document = document if inner is None else _parse(inner) if isinstance(inner, str) else {}
    return document


def _parse(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(DATASTORE_ID, value) else None
