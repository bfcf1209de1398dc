"""The checkpoint of one data store: what is covered, and how far changes are followed. Pure: JSON and back.

Both only grow (a set union, the later of two moments), so the updates of any number of runs commute.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from connectors.errors import StateError
from connectors.windows import Coverage, Window

FORMAT: Final = 1
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is proven about a data store's part of the catalog.

    Attributes:
        datastore_id: The data store.
        coverage: Ranges of createdAt whose every image set has its row.
        followed_to: Changes are merged up to this updatedAt; aware UTC on a whole second.
    """

    datastore_id: str
    coverage: Coverage
    followed_to: datetime

    def covering(self, windows: Iterable[Window]) -> "Checkpoint":
        """With more windows covered."""
        return replace(self, coverage=self.coverage.union(windows))

    def following(self, to: datetime) -> "Checkpoint":
        """With changes followed at least to a moment."""
        return replace(self, followed_to=max(self.followed_to, to))


def encode(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as JSON; the watermark stands there for people and is not read back."""
    watermark = checkpoint.coverage.watermark
    document = {
        "format": FORMAT,
        "datastore_id": checkpoint.datastore_id,
        "watermark": format_time(watermark) if watermark else None,
        "followed_to": format_time(checkpoint.followed_to),
        "coverage": [[format_time(w.start), format_time(w.end)] for w in checkpoint.coverage],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def decode(body: bytes, datastore_id: str) -> Checkpoint:
    """The checkpoint of a data store.

    Raises:
        StateError: The bytes are no checkpoint, or one of another format or data store.
    """
    advice = "restore it, or delete it and backfill the range again: no row is doubled"
    document = parse_state(body, "the checkpoint", FORMAT, advice)
    if document.get("datastore_id") != datastore_id:
        raise StateError(f"the checkpoint belongs to another data store; {advice}")
    try:
        return Checkpoint(
            datastore_id=datastore_id,
            coverage=Coverage(Window(parse_time(start), parse_time(end)) for start, end in document["coverage"]),
            followed_to=parse_time(document["followed_to"]),
        )
    except (KeyError, TypeError, ValueError):
        raise StateError(f"the checkpoint is damaged; {advice}") from None


def parse_state(body: bytes, what: str, expected_format: int, advice: str) -> dict[str, Any]:
    """A JSON object of the expected format.

    Raises:
        StateError: The bytes are something else; says what to do.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise StateError(f"{what} is damaged; {advice}")
    if document["format"] != expected_format:
        raise StateError(
            f"{what} is of format {document['format']}, this version reads {expected_format}; upgrade ahi-catalog"
        )
    return document


def format_time(moment: datetime) -> str:
    """A whole second in UTC as ISO 8601."""
    # Not strftime, which writes the year 1 as "1".
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def parse_time(text: str) -> datetime:
    """The moment of `format_time`, aware UTC.

    Raises:
        ValueError: The text is none.
    """
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
