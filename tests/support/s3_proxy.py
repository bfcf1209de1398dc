"""A faulty road to a real S3 server: a proxy that spoils, loses, holds or falsifies what a test orders.

::

    with S3Proxy(server.endpoint, ACCESS_KEY, SECRET_KEY) as proxy:
        proxy.order("slow_down", conditional=True, chance=0.2, seed=7)      # before anything is applied
        proxy.order("lost_answer", method="PUT", key="checkpoint.json")     # applied, then the connection is reset
        proxy.call("after", kill, key="image-sets.parquet", at=[3])         # applied; the answer waits for the call
        proxy.pretend = Pretend(ignore_if_match=True)                       # a store that takes conditions and forgets

Each connection has a thread of its own, so an order may block. Requests pass as they came, signature and all;
where a header is changed, the proxy signs anew.
"""

import http.server
import os
import random
import select
import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.s3_orders import FAULTS, Fault, Order, Pretend, Request

_NO_LINGER: Final = struct.pack("ii", 1, 0)
_LONGEST_HOLD: Final = 60.0
_HOP_BY_HOP: Final = frozenset({"connection", "expect", "keep-alive", "transfer-encoding", "content-length"})
_SIGNATURE: Final = frozenset({"authorization", "x-amz-date", "x-amz-content-sha256"})


class S3Proxy:
    """Stands between boto3 and an S3 server on a loopback port of its own; a context manager. Thread-safe.

    Args:
        upstream: The server's endpoint.
        access_key: To sign what is changed.
        secret_key: The same.
        iceberg: Of the server's REST catalog of Iceberg tables, whose paths begin with ``/v1/``.
    """

    def __init__(self, upstream: str, access_key: str, secret_key: str, iceberg: str = "") -> None:
        self.pretend = Pretend()
        self.credentials = Credentials(access_key, secret_key)
        self.upstream = urllib3.connection_from_url(upstream, maxsize=64)
        self.iceberg = urllib3.connection_from_url(iceberg, maxsize=16) if iceberg else self.upstream
        self._lock = threading.Lock()
        self._orders: list[Order] = []
        self._served: Counter[str] = Counter()
        self._ever: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._number = 0
        self._random = random.Random(0)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3-proxy", daemon=True)

    @property
    def endpoint(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def served(self) -> Counter[str]:
        """Faults served since `clear`, by kind."""
        with self._lock:
            return Counter(self._served)

    @property
    def ever_served(self) -> Counter[str]:
        """Faults served since the proxy runs, by kind."""
        with self._lock:
            return Counter(self._ever)

    @property
    def requests(self) -> Counter[str]:
        """Requests since `clear`, by method."""
        with self._lock:
            return Counter(self._requests)

    def order(self, kind: str, **conditions: Any) -> Order:
        """Have requests spoilt; of several orders that mean one request the earliest is served.

        Args:
            kind: Of FAULTS.
            conditions: As in `Order`; where neither `at`, `times`, `since` nor `chance` is given, one request.
        """
        if kind not in FAULTS:
            raise ValueError(f"no fault of this kind; there are: {', '.join(FAULTS)}")
        if not conditions.keys() & {"at", "times", "since", "chance"}:
            conditions["times"] = 1
        return self._add(Order(kind=kind, **conditions))

    def call(self, stage: Literal["before", "after"], call: Callable[[Request], object], **conditions: Any) -> Order:
        """Have a function called before requests are forwarded, or after they are applied and before the answer."""
        return self._add(Order(kind=stage, call=call, **conditions))

    def cancel(self, order: Order) -> None:
        """Serve it no longer."""
        with self._lock:
            self._orders.remove(order)

    def clear(self) -> None:
        """Forget all orders and counts, and pretend nothing."""
        with self._lock:
            self._orders.clear()
            self._served.clear()
            self._requests.clear()
            self._number = 0
        self.pretend = Pretend()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.upstream.close()
        self.iceberg.close()

    def _add(self, order: Order) -> Order:
        with self._lock:
            self._orders.append(order)
        return order

    def arrived(self, method: str, key: str, condition: str | None) -> tuple[Request, Fault | None, list[Order]]:
        """Number a request; the fault and the calls ordered for it."""
        with self._lock:
            self._number += 1
            self._requests[method] += 1
            request = Request(number=self._number, method=method, key=key, condition=condition)
            calls = [order for order in self._orders if order.call and order.take(request)]
            fault = next((order for order in self._orders if not order.call and order.take(request)), None)
            if fault:
                self._served[fault.kind] += 1
                self._ever[fault.kind] += 1
            return request, FAULTS[fault.kind] if fault else None, calls

    def forgets(self, condition: str | None) -> bool:
        """Whether the server that is played forgets the condition of a put."""
        pretend = self.pretend
        if condition is None:
            return False
        with self._lock:
            drawn = self._random.random() < pretend.two_winners
        return (
            drawn
            or (pretend.ignore_if_match and condition == "if-match")
            or (pretend.ignore_if_none_match and condition == "if-none-match")
        )


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: S3Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed leaves its connection behind: no news."""


class _GoneError(Exception):
    """The connection is closed; nothing more is to be said on it."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        with suppress(_GoneError, OSError):
            super().handle()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Nothing of a request reaches a log."""

    def do_GET(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        proxy = self.server.proxy
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The client was killed in the middle; a server sees that, and the body forwarded as whole hides it.
            self._reset()
        method, key = self._target()
        condition = next((name for name in ("if-match", "if-none-match") if name in self.headers), None)
        request, fault, calls = proxy.arrived(method, key, condition if method == "PUT" else None)
        for order in calls:
            if order.call and order.kind == "before":
                order.call(request)
        answer = _Answer(500, [], b"")
        if fault is None or fault.is_applied:
            answer = self._pretend(request, body)
            for order in calls:
                if order.call and order.kind == "after":
                    order.call(request)
        self._deliver(fault or Fault(is_applied=True), answer)

    def _target(self) -> tuple[str, str]:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if "list-type" in query:
            return "LIST", query.get("prefix", [""])[0]
        return self.command, unquote(parts.path).lstrip("/").partition("/")[2]

    def _pretend(self, request: Request, body: bytes) -> _Answer:
        """What the server answers, or the one that is played."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        proxy = self.server.proxy
        if proxy.forgets(request.condition):
            return self._forward(self._signed(_without(headers, {str(request.condition)}), body), body)
        if proxy.pretend.unquoted_only and request.condition == "if-match":
            etag = self.headers["if-match"]
            if etag.startswith('"'):
                return _refusal(412, "PreconditionFailed")
            quoted = {**_without(headers, {"if-match"}), "If-Match": f'"{etag}"'}
            return self._forward(self._signed(quoted, body), body)
        return self._forward(headers, body)

    def _signed(self, headers: dict[str, str], body: bytes) -> dict[str, str]:
        url = f"http://{self.headers['host']}{self.path}"
        request = AWSRequest(method=self.command, url=url, headers=_without(headers, _SIGNATURE), data=body)
        S3SigV4Auth(self.server.proxy.credentials, "s3", "us-east-1").add_auth(request)
        return dict(request.headers.items())

    def _forward(self, headers: dict[str, str], body: bytes) -> _Answer:
        proxy = self.server.proxy
        answer = (proxy.iceberg if self.path.startswith("/v1/") else proxy.upstream).urlopen(
            self.command,
            self.path,
            body=body or None,
            headers={**headers, "Content-Length": str(len(body))} if self.command == "PUT" else headers,
            retries=False,
            redirect=False,
            decode_content=False,
        )
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
        return _Answer(answer.status, kept, answer.data)

    def _deliver(self, fault: Fault, answer: _Answer) -> None:
        if fault.delivery == "hold":
            # Until the client closes its end, which makes the socket readable.
            select.select([self.connection], [], [], _LONGEST_HOLD)
        if fault.delivery in ("hold", "reset"):
            self._reset()
        if fault.refusal is not None:
            answer = _refusal(*fault.refusal)
        if fault.delivery == "garble":
            answer = _Answer(200, [], b"<html>Gateway error")
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if fault.delivery == "cut":
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self._reset(politely=True)
        self.wfile.write(answer.body)

    def _reset(self, *, politely: bool = False) -> None:
        """Close the connection at once; with no lingering, what is unsent is lost and the client is reset."""
        if politely:
            self.connection.shutdown(socket.SHUT_WR)
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        os.close(self.connection.detach())
        raise _GoneError


def _without(headers: dict[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}


def _refusal(status: int, code: str) -> _Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>ordered</Message></Error>'
    return _Answer(status, [("Content-Type", "application/xml")], body.encode())
