"""Ways to put a finished answer on the connection, broken ones included."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.types import Receive, Scope, Send

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
