"""Durations and moments as people write them: ``10m``, ``2026-05-01``. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

PATTERN: Final = r"^(\d{1,6}[smhd]|0)$"
"""What a duration looks like, for forms that check it."""

_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(given: Any) -> timedelta:
    """The duration that a text names; 0 needs no unit. A duration stays what it is.

    Raises:
        ValueError: It is none; the message says what one looks like.
    """
    if isinstance(given, timedelta):
        return given
    text = str(given).strip()
    if not re.fullmatch(PATTERN, text):
        raise ValueError("a duration is a number and a unit: 90s, 10m, 12h, 1d, or 0")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])}) if text != "0" else timedelta()


def format_duration(duration: timedelta) -> str:
    """A duration in the largest unit that leaves no fraction; below a second there is none."""
    seconds = int(duration.total_seconds())
    for unit, name in _UNITS.items():
        length = int(timedelta(**{name: 1}).total_seconds())
        if seconds and not seconds % length:
            return f"{seconds // length}{unit}"
    return "0"


def parse_moment(given: Any) -> datetime:
    """The aware UTC moment that an ISO 8601 date, or date and time, names; UTC where it has no zone.

    Args:
        given: A text, or a date of Python's or TOML's.

    Raises:
        ValueError: It is none; the message says what one looks like.
    """
    try:
        moment = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("a date is 2026-05-01 or 2026-05-01T12:30:00Z (UTC where no zone is given)") from None
