"""HealthImaging's events as a queue of SQS keeps them. An event is never the truth: it wakes, and the service tells."""

from ahi_catalog.connectors.events.message import Event, parse_message
from ahi_catalog.connectors.events.queue import Queue, open_queue

__all__ = ["Event", "Queue", "open_queue", "parse_message"]
