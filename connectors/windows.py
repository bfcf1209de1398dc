"""Windows, and sets of them.

Invariants: a window is half-open, ``[start, end)``, not empty, in UTC, on whole seconds; the windows of a
coverage are sorted, disjoint and do not touch. Both are values: operations return new ones.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

SECOND: Final = timedelta(seconds=1)
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def floor_second(moment: datetime) -> datetime:
    """The whole second at or before an aware moment, in UTC."""
    return moment.astimezone(UTC).replace(microsecond=0)


def ceil_second(moment: datetime) -> datetime:
    """The whole second at or after an aware moment, in UTC."""
    floor = floor_second(moment)
    return floor if floor == moment else floor + SECOND


def format_time(moment: datetime) -> str:
    """A whole second as ISO 8601, in UTC."""
    # Not strftime, which writes the year 1 as "1".
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def parse_time(text: str) -> datetime:
    """The moment of `format_time`, aware UTC.

    Raises:
        ValueError: The text is none.
    """
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def to_epoch_microseconds(moment: datetime) -> int:
    """An aware moment as microseconds since 1970-01-01T00:00:00Z."""
    return (moment - _EPOCH) // _MICROSECOND


def from_epoch_microseconds(microseconds: int) -> datetime:
    """The aware UTC moment so many microseconds after 1970-01-01T00:00:00Z."""
    return _EPOCH + _MICROSECOND * microseconds


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open range ``[start, end)`` of aware UTC moments on whole seconds.

    Raises:
        ValueError: A bound is naive, not UTC or not on a whole second, or the range is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if bound.utcoffset() != timedelta() or bound.microsecond:
                raise ValueError("a window's bounds are UTC moments on whole seconds")
        if self.start >= self.end:
            raise ValueError("a window's start is before its end")

    def __str__(self) -> str:
        return f"{format_time(self.start)}..{format_time(self.end)}"

    @property
    def seconds(self) -> int:
        """Its length in seconds, at least 1."""
        return int((self.end - self.start).total_seconds())

    def overlaps(self, other: Self) -> bool:
        """Whether the two have a moment in common."""
        return self.start < other.end and other.start < self.end

    def split(self, parts: int) -> list["Window"]:
        """At most ``parts`` windows of about equal length that make up this one, in order."""
        parts = max(1, min(parts, self.seconds))
        bounds = [self.start + SECOND * (self.seconds * i // parts) for i in range(parts + 1)]
        return [Window(a, b) for a, b in itertools.pairwise(bounds)]


@dataclass(frozen=True, slots=True, init=False)
class Coverage:
    """A set of moments, as sorted, disjoint windows that do not touch."""

    windows: tuple[Window, ...]

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        object.__setattr__(self, "windows", tuple(_united(windows)))

    def __bool__(self) -> bool:
        return bool(self.windows)

    def __iter__(self) -> Iterator[Window]:
        return iter(self.windows)

    @property
    def watermark(self) -> datetime | None:
        """The end of the first window; None where nothing is covered."""
        return self.windows[0].end if self.windows else None

    def union(self, other: Iterable[Window]) -> "Coverage":
        """The moments of either."""
        return Coverage([*self.windows, *other])

    def minus(self, other: Iterable[Window]) -> "Coverage":
        """The moments of this one that are not in the other."""
        return Coverage(_difference(self.windows, Coverage(other).windows))

    def within(self, bounds: Window) -> "Coverage":
        """The moments of this one inside the bounds."""
        clipped = (
            Window(max(window.start, bounds.start), min(window.end, bounds.end))
            for window in self.windows
            if window.overlaps(bounds)
        )
        return Coverage(clipped)

    def before(self, end: datetime) -> "Coverage":
        """The moments of this one before another, which is aware UTC on a whole second."""
        return Coverage(Window(window.start, min(window.end, end)) for window in self.windows if window.start < end)


def _united(windows: Iterable[Window]) -> Iterator[Window]:
    current: Window | None = None
    for window in sorted(windows):
        if current is None:
            current = window
        elif window.start <= current.end:
            current = Window(current.start, max(current.end, window.end))
        else:
            yield current
            current = window
    if current is not None:
        yield current


def _difference(windows: Iterable[Window], holes: Sequence[Window]) -> Iterator[Window]:
    """What is left of windows without the holes, both sorted and disjoint; one pass over the two."""
    number = 0
    for window in windows:
        start = window.start
        while number < len(holes) and holes[number].end <= start:
            number += 1
        # The last hole that touches this window may reach into the next one, so that it is looked at again.
        while number < len(holes) and holes[number].start < window.end:
            hole = holes[number]
            if start < hole.start:
                yield Window(start, hole.start)
            start = max(start, hole.end)
            if start >= window.end:
                break
            number += 1
        if start < window.end:
            yield Window(start, window.end)


NOWHERE: Final = Coverage()
"""No moment at all."""
