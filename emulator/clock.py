"""Time: the service's clock, and instants as whole microseconds since 1970-01-01 UTC, exact to compare and to write."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

MICROS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def to_micros(moment: datetime | int) -> int:
    """Epoch microseconds of an aware datetime; an int is taken for epoch microseconds already.

    Raises:
        ValueError: The datetime is naive, and so no instant.
        TypeError: It is neither.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("give an aware datetime: a naive one is no instant")
        return (moment - _EPOCH) // _MICROSECOND
    if isinstance(moment, int) and not isinstance(moment, bool):
        return moment
    raise TypeError("give an aware datetime, or epoch microseconds as an int")


def from_micros(micros: int) -> datetime:
    """The UTC datetime of epoch microseconds."""
    return _EPOCH + timedelta(microseconds=micros)


def epoch_number(micros: int) -> bytes:
    """Epoch seconds with exactly six decimals, as AWS's rest-json writes a timestamp (a JSON number)."""
    seconds, rest = divmod(abs(micros), MICROS)
    sign = "-" if micros < 0 else ""
    return f"{sign}{seconds}.{rest:06d}".encode()


def from_wire(value: object) -> int:
    """Epoch microseconds of a timestamp in JSON: epoch seconds (int or float) or an ISO 8601 string.

    A float of this century is exact to half a microsecond, so rounding gives back what was sent.
    A string without a zone is UTC.

    Raises:
        ValueError: It is none of these, or beyond the years 1 to 9999. The text never repeats the value.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("not a timestamp") from None
        return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a timestamp")  # noqa: TRY004 - a wrong value in a request, not a wrong call
    if not math.isfinite(value):
        raise ValueError("not a timestamp")
    # Apart, because a product of the whole would round a second time.
    seconds = math.floor(value)
    micros = seconds * MICROS + round((value - seconds) * MICROS)
    if not _EARLIEST <= micros <= _LATEST:
        raise ValueError("not a timestamp")
    return micros


def utc_now() -> datetime:
    """This machine's time, aware, in UTC."""
    return datetime.now(UTC)


class ServiceClock:
    """Tells the service's time: the source's plus an offset, or one frozen moment.

    Args:
        source: Returns an aware datetime.
    """

    def __init__(self, source: Callable[[], datetime] = utc_now) -> None:
        self.source = source
        self.offset = timedelta(0)
        self._frozen: datetime | None = None

    def __call__(self) -> datetime:
        """Now, aware, in UTC."""
        base = self._frozen if self._frozen is not None else self.source().astimezone(UTC)
        return base + self.offset

    def advance(self, by: timedelta) -> None:
        """Move the time forward (back where negative), frozen or not."""
        self.offset += by

    def freeze(self, at: datetime | None = None) -> None:
        """Stand still, at the aware moment `at` or at now."""
        if at is not None and at.tzinfo is None:
            raise ValueError("give an aware datetime: a naive one is no instant")
        self._frozen = (self() if at is None else at).astimezone(UTC)
        self.offset = timedelta(0)

    def unfreeze(self) -> None:
        """Run on from the frozen moment, without a jump."""
        if self._frozen is None:
            return
        now = self()
        self._frozen = None
        self.offset = now - self.source().astimezone(UTC)

    @property
    def frozen(self) -> bool:
        return self._frozen is not None
