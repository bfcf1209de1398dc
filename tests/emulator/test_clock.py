from datetime import UTC, datetime, timedelta

import pytest

from ahi_catalog.emulator.clock import ServiceClock

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Ticking:
    """A source that moves an hour at every look."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += HOUR
        return self.now


def test_an_offset_shifts_the_source() -> None:
    """The offset is added, and advance adds to it."""
    clock = ServiceClock(lambda: NOON)
    clock.offset = -HOUR
    clock.advance(3 * HOUR)
    assert clock() == NOON + 2 * HOUR


def test_a_frozen_clock_moves_only_when_told() -> None:
    """Frozen, it stands; advanced, it moves; thawed, it goes on without a jump."""
    clock = ServiceClock(Ticking())
    clock.freeze(NOON)
    assert clock.frozen
    assert clock() == clock() == NOON
    clock.advance(HOUR)
    assert clock() == NOON + HOUR
    clock.unfreeze()
    assert clock() == NOON + 2 * HOUR
    clock.unfreeze()
    assert clock() == NOON + 3 * HOUR
    clock.freeze()
    assert clock() == clock()


def test_naive_moments_are_refused() -> None:
    """A clock cannot be frozen at a time without a zone."""
    with pytest.raises(ValueError, match="naive"):
        ServiceClock().freeze(datetime(2026, 5, 1))  # noqa: DTZ001 - the point
