"""One version of an image set as search shows it: kept as the very bytes that go on the wire.

A million rows as dicts would take gigabytes and be rendered again for every page; as rendered JSON they
take their 700 bytes or so each, and a page is one join.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from ahi_catalog.emulator.clock import epoch_number, from_wire, to_micros

_TIMES = ("createdAt", "updatedAt", "lastAccessedAt")
_ID = re.compile(r"[0-9a-z]{32}")


class Record(NamedTuple):
    """What search needs to know of one version.

    Attributes:
        image_set_id: 32 characters of `[0-9a-z]`.
        created: createdAt, epoch microseconds.
        updated: updatedAt, epoch microseconds.
        body: The summary as JSON, UTF-8, exactly as it is sent.
    """

    image_set_id: str
    created: int
    updated: int
    body: bytes

    def summary(self) -> dict[str, Any]:
        """The summary as a client decodes it: timestamps are floats, epoch seconds."""
        decoded: dict[str, Any] = orjson.loads(self.body)
        return decoded


def render(summary: Mapping[str, Any]) -> Record:
    """The record of a raw summary.

    Args:
        summary: The keys of the API's ImageSetsMetadataSummary (unknown ones are kept as they are);
            imageSetId and createdAt must be there; an absent updatedAt orders as createdAt.
            The three times are aware datetimes or ints of epoch microseconds.

    Raises:
        ValueError: imageSetId or createdAt is missing or malformed. The text names the field only.
    """
    image_set_id = summary.get("imageSetId")
    if not isinstance(image_set_id, str) or not _ID.fullmatch(image_set_id):
        raise ValueError("imageSetId must be 32 characters of [0-9a-z]")
    if "createdAt" not in summary:
        raise ValueError("createdAt is missing")
    document: dict[str, Any] = dict(summary)
    micros: dict[str, int] = {}
    for name in _TIMES:
        if name in document:
            micros[name] = to_micros(document[name])
            # Rendered here, not by the encoder: always six decimals, never an exponent.
            document[name] = orjson.Fragment(epoch_number(micros[name]))
    created = micros["createdAt"]
    return Record(image_set_id, created, micros.get("updatedAt", created), orjson.dumps(document))


def changed(
    record: Record, changes: Mapping[str, Any], *, updated_at: datetime | int | None, new_version: bool
) -> Record:
    """The next version of a record.

    Args:
        record: The version before.
        changes: Top-level keys to replace; those inside DICOMTags are replaced one by one. A None removes
            the key, since the service never answers null.
        updated_at: When it changed; None leaves updatedAt alone.
        new_version: Whether version goes up by one.
    """
    document = record.summary()
    for name in _TIMES:
        if name in document:
            document[name] = from_wire(document[name])
    for name, value in changes.items():
        if name == "DICOMTags":
            document[name] = _merged(document.get(name, {}), value)
        elif value is None:
            document.pop(name, None)
        else:
            document[name] = value
    if new_version and "version" not in changes:
        document["version"] = document.get("version", 1) + 1
    if updated_at is not None:
        document["updatedAt"] = to_micros(updated_at)
    return render(document)


def _merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**before, **changes}.items() if value is not None}
