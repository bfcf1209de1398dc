"""The service's clock: a source of time that tests can shift, freeze and advance."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


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
