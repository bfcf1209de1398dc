"""Faults on order: which request is spoilt, and how. A new kind is a line in FAULT_KINDS."""

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from starlette.types import Receive, Scope, Send

from ahi_catalog.emulator import errors
from ahi_catalog.emulator.errors import ServiceError
from ahi_catalog.emulator.records import Record

SEARCH = "SearchImageSets"
# Where server.py leaves a connection's transport in the ASGI scope.
TRANSPORT = "emulator.transport"
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer ready to send."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def start(self) -> dict[str, object]:
        """The ASGI message that opens the answer; Content-Length is that of the whole body."""
        length = (b"content-length", str(len(self.body)).encode())
        return {"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]}


Delivery = Callable[[Answer, Scope, Receive, Send], Awaitable[None]]


async def whole(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - one signature for all
    """The whole answer, as it should be."""
    await send(answer.start)
    await send({"type": "http.response.body", "body": answer.body})


async def garble(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Status 200 and a body that is text but not JSON, as of a proxy's error page."""
    await whole(replace(answer, status=200, body=b"<html>Gateway error</html>"), scope, receive, send)


async def garble_bytes(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Status 200 and a body that is not even text (not UTF-8)."""
    await whole(replace(answer, status=200, body=b"\x1f\x8b\xff\x00" * 8), scope, receive, send)


async def shorten(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Status 200 and JSON that ends too early, sent as if it were whole: bad JSON that holds data."""
    await whole(replace(answer, status=200, body=answer.body[: len(answer.body) * 9 // 10]), scope, receive, send)


async def cut(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """The head with the whole body's length, half of the body, then the connection closes."""
    await send(answer.start)
    half = answer.body[: len(answer.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})
    scope[TRANSPORT].close()
    await _gone(receive)


async def reset(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - nothing is sent
    """No answer at all: the connection is reset (RST, not FIN)."""
    transport: asyncio.Transport = scope[TRANSPORT]
    connection = transport.get_extra_info("socket")
    # With no lingering, closing a socket throws away what is unsent and resets the peer.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
    await _gone(receive)


async def hold(seconds: float, receive: Receive) -> bool:
    """Wait that long, or until the client gives up; False where it did."""
    try:
        async with asyncio.timeout(seconds):
            await _gone(receive)
    except TimeoutError:
        return True
    return False


async def _gone(receive: Receive) -> None:
    # uvicorn takes an application that returns early for a bug and says so in its log: see the end first.
    while (await receive())["type"] != "http.disconnect":
        pass


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
    deliver: Delivery = whole
    seconds: float = 0.0


FAULT_KINDS: Mapping[str, FaultKind] = MappingProxyType(
    {
        "throttle": FaultKind(error=errors.throttled),
        "500": FaultKind(error=errors.internal),
        "503": FaultKind(error=errors.unavailable),
        "conflict": FaultKind(error=errors.conflict),
        "access_denied": FaultKind(error=errors.denied),
        "unknown_key": FaultKind(error=errors.unknown_key),
        "expired_token": FaultKind(error=errors.expired_token),
        "repeat_token": FaultKind(page=lambda page: replace(page, next_token=page.request_token or page.next_token)),
        "swap_order": FaultKind(page=lambda page: replace(page, records=page.records[::-1])),
        "reset": FaultKind(deliver=reset),
        "cut": FaultKind(deliver=cut),
        "garble": FaultKind(deliver=garble),
        "shorten": FaultKind(deliver=shorten),
        "garble_bytes": FaultKind(deliver=garble_bytes),
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
