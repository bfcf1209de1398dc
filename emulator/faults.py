"""Faults on order: which request is spoilt, and how. A new kind is a line in FAULT_KINDS."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ahi_catalog.emulator import delivery, errors
from ahi_catalog.emulator.delivery import Delivery
from ahi_catalog.emulator.errors import ServiceError
from ahi_catalog.emulator.records import Record

SEARCH = "SearchImageSets"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer:
    """A page about to be sent: its records, its token, and the token of the request."""

    records: tuple[Record, ...]
    next_token: str | None
    request_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """What a fault does: answer an error, change the page, or deliver the answer badly.

    Args:
        error: Makes the error that is answered instead of the work.
        page: Changes a page of SearchImageSets.
        deliver: Sends the finished answer in its own way.
        seconds: How long the answer is held back where the order does not say.
    """

    error: Callable[[], ServiceError] | None = None
    page: Callable[[PageAnswer], PageAnswer] | None = None
    deliver: Delivery = delivery.whole
    seconds: float = 0.0


FAULT_KINDS: Mapping[str, FaultKind] = MappingProxyType(
    {
        "throttle": FaultKind(error=errors.throttled),
        "500": FaultKind(error=errors.internal),
        "503": FaultKind(error=errors.unavailable),
        "conflict": FaultKind(error=errors.conflict),
        "access_denied": FaultKind(error=errors.denied),
        "expired_token": FaultKind(error=errors.expired_token),
        "repeat_token": FaultKind(page=lambda page: replace(page, next_token=page.request_token or page.next_token)),
        "swap_order": FaultKind(page=lambda page: replace(page, records=page.records[::-1])),
        "reset": FaultKind(deliver=delivery.reset),
        "cut": FaultKind(deliver=delivery.cut),
        "garble": FaultKind(deliver=delivery.garble),
        "shorten": FaultKind(deliver=delivery.shorten),
        "garble_bytes": FaultKind(deliver=delivery.garble_bytes),
        "stall": FaultKind(seconds=1.0),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault to serve now."""

    name: str
    kind: FaultKind
    seconds: float


@dataclass(slots=True, kw_only=True)
class _Order:
    name: str
    operation: str | None
    at: int | None
    left: int
    seconds: float | None

    def meets(self, operation: str, number: int) -> bool:
        return self.operation in (None, operation) and (self.at is None or self.at == number)


class FaultPlan:
    """The faults ordered and not yet served. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[_Order] = []
        self._served: Counter[str] = Counter()

    def add(
        self,
        kind: str,
        *,
        at: int | None = None,
        next: int | None = None,  # noqa: A002 - "the next 2" is how a test says it
        operation: str | None = None,
        seconds: float | None = None,
    ) -> None:
        """Order a fault.

        Args:
            kind: A key of FAULT_KINDS.
            at: The number of the request to spoil: requests of `operation` (SearchImageSets where not
                given) count from 1 since the counters were last reset.
            next: Or: how many of the requests from now on to spoil; 1 where neither is given.
            operation: Spoil only requests of this operation.
            seconds: Hold the answer back that long first, whatever the kind.

        Raises:
            ValueError: There is no such kind, or `at` and `next` are both given or below 1.
        """
        if kind not in FAULT_KINDS:
            raise ValueError(f"no fault of this kind; there are: {', '.join(FAULT_KINDS)}")
        if at is not None and next is not None:
            raise ValueError("give at or next, not both")
        if min(at or 1, 1 if next is None else next) < 1 or at == 0:
            raise ValueError("at and next count from 1")
        if at is not None or FAULT_KINDS[kind].page is not None:
            operation = operation or SEARCH
        left = 1 if next is None else next
        with self._lock:
            self._orders.append(_Order(name=kind, operation=operation, at=at, left=left, seconds=seconds))

    def take(self, operation: str, number: int) -> Fault | None:
        """The fault for this request, if one was ordered; the earliest order comes first."""
        if not self._orders:  # the hot path: a list that is empty needs no lock
            return None
        with self._lock:
            order = next((its for its in self._orders if its.meets(operation, number)), None)
            if order is None:
                return None
            order.left -= 1
            if not order.left:
                self._orders.remove(order)
            self._served[order.name] += 1
        kind = FAULT_KINDS[order.name]
        return Fault(name=order.name, kind=kind, seconds=kind.seconds if order.seconds is None else order.seconds)

    def clear(self) -> None:
        """Forget the faults not yet served."""
        with self._lock:
            self._orders.clear()

    @property
    def waiting(self) -> int:
        """How many faults are still to be served."""
        with self._lock:
            return sum(order.left for order in self._orders)

    @property
    def served(self) -> dict[str, int]:
        """Faults served since the counters were last reset, by kind."""
        with self._lock:
            return dict(self._served)

    def reset_served(self) -> None:
        """Count the served ones from zero."""
        with self._lock:
            self._served.clear()
