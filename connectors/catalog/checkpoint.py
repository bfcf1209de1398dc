"""The checkpoint of one data store: what is covered, and how far changes are followed. Pure: JSON and back.

Coverage only grows, and ``followed_to`` too but where a run gains coverage (pipeline/checkpointer.py), so the updates
of any number of runs commute. The exceptions are `without_coverage`, for a repair that has found a data object
unreadable and reads its range again, and `forgetting`, which a user asks for.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from ahi_catalog.connectors.errors import DamagedError, Remedy, StateError, UsageError
from ahi_catalog.connectors.windows import NOWHERE, Coverage, Window, format_time, parse_time

FORMAT: Final = 1
_MOST_FIELDS: Final = 100
"""Names of unknown fields that are kept: a service that invents them must not make the checkpoint grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is proven about a data store's part of the catalog.

    Attributes:
        datastore_id: The data store.
        coverage: Ranges of createdAt whose every image set has its row.
        followed_to: Changes are merged up to this updatedAt; aware UTC on a whole second.
        populated: The ranges of the partitions that have an object, as far as runs have noted it; so that one
            that is lost can be named.
        catalog_id: The catalog that it belongs to.
        datastore_created_at: When the data store was created; aware UTC on a whole second. None where no run has
            asked for it yet.
        start: Where coverage begins, if the first sync was told; aware UTC on a whole second. None: with the data
            store, or no sync has begun yet.
        unknown_fields: Fields that the service sent and the declaration does not know, and since when, aware UTC.
    """

    datastore_id: str
    coverage: Coverage
    followed_to: datetime
    populated: Coverage = NOWHERE
    catalog_id: str = ""
    datastore_created_at: datetime | None = None
    start: datetime | None = None
    unknown_fields: Mapping[str, datetime] = field(default_factory=dict)

    def with_coverage(self, windows: Iterable[Window], populated: Iterable[Window] = ()) -> "Checkpoint":
        """With more windows covered, and more partitions that have an object."""
        return replace(self, coverage=self.coverage.union(windows), populated=self.populated.union(populated))

    def without_coverage(self, windows: Iterable[Window]) -> "Checkpoint":
        """Without windows whose rows are lost; they are read again."""
        return replace(self, coverage=self.coverage.minus(windows), populated=self.populated.minus(windows))

    def forgetting(self, window: Window) -> "Checkpoint":
        """Without a window, whose rows stay; it is read again."""
        return replace(self, coverage=self.coverage.minus([window]))

    @property
    def begins_at(self) -> datetime | None:
        """Where syncs begin to read; None where none has begun yet."""
        return self.start or self.datastore_created_at

    @property
    def watermark(self) -> datetime | None:
        """End of the covered window in which coverage begins; None where its beginning is not covered yet.

        Where no sync has said yet where that is, it is the end of the first window.
        """
        begins_at = self.begins_at
        if begins_at is None:
            return self.coverage.watermark
        return next((window.end for window in self.coverage if window.start <= begins_at < window.end), None)

    def created(self, at: datetime | None) -> "Checkpoint":
        """With the moment when the data store was created, if it is known."""
        return replace(self, datastore_created_at=at or self.datastore_created_at)

    def beginning(self, start: datetime | None) -> "Checkpoint":
        """With the start of coverage, which the first sync fixes.

        Args:
            start: What a sync is told; aware UTC on a whole second. None: whatever it is.

        Raises:
            UsageError: It is another one.
        """
        begins_at = self.begins_at
        if start is None or start == begins_at:
            return self
        if begins_at is not None:
            raise UsageError(
                f"coverage of this data store begins at {format_time(begins_at)}, which its first sync fixed, not at "
                f"{format_time(start)}; leave `start` out, and read what lies before by a backfill"
            )
        return replace(self, start=start)

    def meeting(self, unknown: Iterable[str], at: datetime) -> "Checkpoint":
        """With fields that a run has met which the declaration does not know."""
        since = dict(self.unknown_fields)
        for name in sorted(unknown):
            if name in since or len(since) < _MOST_FIELDS:
                since[name] = min(since.get(name, at), at)
        return replace(self, unknown_fields=since)

    def following(self, to: datetime) -> "Checkpoint":
        """With changes followed at least to a moment."""
        return replace(self, followed_to=max(self.followed_to, to))


def encode(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as JSON."""
    return json.dumps({"format": FORMAT, **document(checkpoint)}, indent=1).encode() + b"\n"


def document(checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint as JSON goes; the watermark stands there for people and is not read back."""
    watermark, created, start = checkpoint.watermark, checkpoint.datastore_created_at, checkpoint.start
    return {
        "catalog_id": checkpoint.catalog_id,
        "datastore_id": checkpoint.datastore_id,
        "watermark": format_time(watermark) if watermark else None,
        "followed_to": format_time(checkpoint.followed_to),
        "datastore_created_at": format_time(created) if created else None,
        "start": format_time(start) if start else None,
        "coverage": format_windows(checkpoint.coverage),
        "populated": format_windows(checkpoint.populated),
        "unknown_fields": {name: format_time(since) for name, since in sorted(checkpoint.unknown_fields.items())},
    }


def decode(body: bytes, datastore_id: str, catalog_id: str) -> Checkpoint:
    """The checkpoint of a data store in a catalog.

    Raises:
        DamagedError: The bytes are no checkpoint, or one of another data store or catalog.
        StateError: They are of a later format.
    """
    document = parse_state(body, "the checkpoint", FORMAT, remedy=Remedy.REPAIR)
    if document.get("datastore_id") != datastore_id:
        raise DamagedError("the checkpoint belongs to another data store", remedy=Remedy.REPAIR)
    if document.get("catalog_id", "") != catalog_id:
        raise DamagedError("the checkpoint belongs to another catalog", remedy=Remedy.REPAIR)
    try:
        created, start = document.get("datastore_created_at"), document.get("start")
        return Checkpoint(
            datastore_id=datastore_id,
            coverage=parse_windows(document["coverage"]),
            followed_to=parse_time(document["followed_to"]),
            populated=parse_windows(document.get("populated", [])),
            catalog_id=catalog_id,
            datastore_created_at=None if created is None else parse_time(created),
            start=None if start is None else parse_time(start),
            unknown_fields={name: parse_time(since) for name, since in document.get("unknown_fields", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamagedError("the checkpoint is damaged", remedy=Remedy.REPAIR) from None


def parse_state(
    body: bytes, what: str, expected_format: int, advice: str = "", *, remedy: Remedy | None = None
) -> dict[str, Any]:
    """A JSON object of the expected format.

    Args:
        body: JSON.
        what: Names it, for the text of an error.
        expected_format: What its ``format`` has to be.
        advice: What to do about damage, where no remedy says it.
        remedy: What helps against damage.

    Raises:
        DamagedError: The bytes are something else; says what to do.
        StateError: They are of another format.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise DamagedError(f"{what} is damaged{f'; {advice}' if advice else ''}", remedy=remedy)
    if document["format"] != expected_format:
        raise StateError(
            f"{what} is of format {document['format']}, this version reads {expected_format}; upgrade ahi-catalog"
        )
    return document


def format_windows(windows: Iterable[Window]) -> list[list[str]]:
    """Windows as JSON has them: a list of pairs of times."""
    return [[format_time(window.start), format_time(window.end)] for window in windows]


def parse_windows(pairs: Any) -> Coverage:
    """The windows of `format_windows`.

    Raises:
        TypeError, ValueError: It is something else.
    """
    return Coverage(Window(parse_time(start), parse_time(end)) for start, end in pairs)
