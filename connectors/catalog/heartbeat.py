"""The heartbeat of a watch, kept in the catalog's state: is it alive, how fresh is what it publishes. Pure.

That of any other run is its report (pipeline/heart.py); both are silent after the same time.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ahi_catalog.connectors.catalog.checkpoint import parse_state
from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.connectors.errors import DamagedError
from ahi_catalog.connectors.windows import format_time, parse_time

_FORMAT: Final = 1
BEAT_SECONDS: Final = 60
"""Seconds at least between two heartbeats: each is a put."""
RUNNING: Final = "running"
"""The outcome of a run report that is the heartbeat of a run under way."""
_MISSED: Final = 5
_ADVICE: Final = "delete that file"


def is_silent(beat_at: datetime, now: datetime, every_seconds: float = 0) -> bool:
    """Whether several heartbeats are missing.

    Args:
        beat_at: The last one, aware.
        now: Aware.
        every_seconds: Between two of them, where that is more than usual.
    """
    return (now - beat_at).total_seconds() > _MISSED * max(BEAT_SECONDS, every_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """How a watch of a data store is.

    Attributes:
        started_at: When the watch began; aware UTC.
        beat_at: When this was written.
        ended_at: When it ended in order, or gave up; None while it goes on, and where it was killed.
        every_seconds: From the start of a pass to that of the next.
        passes, failed_passes: Since the watch began.
        failure: What the last pass failed with, in one line; None where it did not.
        freshness: Of new rows since the last run report.
    """

    started_at: datetime
    beat_at: datetime
    ended_at: datetime | None
    every_seconds: float
    passes: int
    failed_passes: int
    failure: str | None
    freshness: Freshness

    def is_silent(self, now: datetime) -> bool:
        """Whether it has missed several heartbeats without having ended: it was killed, or has nothing to run on."""
        return self.ended_at is None and is_silent(self.beat_at, now, self.every_seconds)

    def document(self) -> dict[str, Any]:
        """As JSON goes."""
        return {
            "format": _FORMAT,
            "started_at": format_time(self.started_at),
            "beat_at": format_time(self.beat_at),
            "ended_at": None if self.ended_at is None else format_time(self.ended_at),
            "every_seconds": self.every_seconds,
            "passes": self.passes,
            "failed_passes": self.failed_passes,
            "failure": self.failure,
            "freshness": self.freshness.document(),
        }


def encode(heartbeat: Heartbeat) -> bytes:
    """The heartbeat as JSON."""
    return json.dumps(heartbeat.document(), indent=1).encode() + b"\n"


def decode(body: bytes) -> Heartbeat:
    """The heartbeat of `encode`.

    Raises:
        DamagedError: The bytes are none.
        StateError: They are of a later format.
    """
    found = parse_state(body, "the heartbeat of a watch (watch.json)", _FORMAT, _ADVICE)
    try:
        return Heartbeat(
            started_at=parse_time(found["started_at"]),
            beat_at=parse_time(found["beat_at"]),
            ended_at=None if found["ended_at"] is None else parse_time(found["ended_at"]),
            every_seconds=float(found["every_seconds"]),
            passes=int(found["passes"]),
            failed_passes=int(found["failed_passes"]),
            failure=None if found["failure"] is None else str(found["failure"]),
            freshness=Freshness.parse(found["freshness"]),
        )
    except (KeyError, TypeError, ValueError):
        raise DamagedError(f"the heartbeat of a watch (watch.json) is damaged; {_ADVICE}") from None
