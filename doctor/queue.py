"""The queue of events: whether it is there, and what becomes of its messages. None is received: that is a delivery."""

import json

from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.connectors.events import open_queue
from ahi_catalog.doctor.check import Check, fix, note, ok

_SHORT_SECONDS = 60


def check_queue(url: str) -> Check:
    """Whether a queue can be asked, keeps what cannot be read apart, and is encrypted.

    Args:
        url: Of the queue.
    """
    name = "queue"
    try:
        found = open_queue(url).attributes()
    except AhiCatalogError as error:
        return fix(name, str(error))
    waiting = int(found.get("ApproximateNumberOfMessages", 0))
    tries = json.loads(found.get("RedrivePolicy", "{}")).get("maxReceiveCount")
    if tries is None:
        return note(name, f"{waiting:,} messages wait; no dead-letter queue: a malformed message comes again and again")
    if int(found.get("VisibilityTimeout", 0)) < _SHORT_SECONDS:
        return note(name, "its visibility timeout is under a minute: messages come again while a run goes on")
    key = found.get("KmsMasterKeyId")
    is_encrypted = key or found.get("SqsManagedSseEnabled") == "true"
    kept = f"{waiting:,} messages wait, {tries} deliveries before the dead-letter queue"
    if not is_encrypted:
        return note(name, f"{kept}; not encrypted: turn on SSE-SQS")
    return ok(name, f"{kept}; encrypted {'with a KMS key: allow kms:Decrypt on it' if key else 'by SQS'}")
