"""Durations as people write them: a number and a unit of s, m, h or d. Pure."""

import re
from datetime import timedelta
from typing import Final

PATTERN: Final = r"^(\d{1,6}[smhd]|0)$"
"""What a duration looks like, for forms that check it."""

_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(text: str) -> timedelta:
    """The duration that a text names; 0 needs no unit.

    Raises:
        ValueError: It is none; the message says what one looks like.
    """
    text = text.strip()
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
