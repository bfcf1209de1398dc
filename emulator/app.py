"""The HTTP face: an ASGI application that turns requests into answers, and errors into the service's form."""

from collections.abc import Iterator
from email.utils import formatdate
from itertools import count
from secrets import token_hex

import orjson
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from ahi_catalog.emulator.control import control_routes
from ahi_catalog.emulator.delivery import Answer, hold, whole
from ahi_catalog.emulator.errors import ServiceError, unknown_operation
from ahi_catalog.emulator.faults import Fault
from ahi_catalog.emulator.instants import MICROS
from ahi_catalog.emulator.model import Operation, operations
from ahi_catalog.emulator.operations import Operations
from ahi_catalog.emulator.service import Service
from ahi_catalog.emulator.signature import check_signature

_THROTTLED = 429


def create_app(service: Service) -> Starlette:
    """The application of a service: its API, and its controls under `/_control/`."""
    return Starlette(
        routes=[
            Mount("/_control", routes=control_routes(service)),
            Mount("/", app=ServiceApp(service)),
        ]
    )


class ServiceApp:
    """Answers the API's requests. The one hot path of the server: no framework between it and the socket."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._operations = Operations(service)
        self._known = operations()
        self._ids = _request_ids()
        self._date = (0, b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        fault: Fault | None = None
        try:
            operation, groups = self._match(scope["method"], scope["path"])
            number = self._service.arrived(operation.name)
            self._authenticate(scope, body)
            fault = self._service.faults.take(operation.name, number)
            if fault is not None and fault.kind.error is not None:
                raise fault.kind.error()
            self._service.admit(operation.name)
            if self._service.options.latency and not await hold(self._service.options.latency, receive):
                return
            parameters = operation.parameters(groups, scope["query_string"].decode("latin-1"))
            content = self._operations.answer(operation, parameters, body, fault)
            answer = Answer(status=200, headers=self._headers(), body=content)
        except ServiceError as error:
            answer = self._refuse(error)
        if fault is not None and fault.seconds and not await hold(fault.seconds, receive):
            return
        deliver = whole if fault is None else fault.kind.deliver
        await deliver(answer, scope, receive, send)

    def _match(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        for operation in self._known:
            if operation.method == method and (match := operation.path.fullmatch(path)):
                return operation, match.groupdict()
        raise unknown_operation()

    def _authenticate(self, scope: Scope, body: bytes) -> None:
        target = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        check_signature(
            method=scope["method"],
            target=target.decode("latin-1"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
            credentials=self._service.options.credentials,
        )

    def _refuse(self, error: ServiceError) -> Answer:
        if error.status == _THROTTLED:
            self._service.count_throttled()
        headers = [*self._headers(), (b"x-amzn-errortype", error.code.encode())]
        return Answer(status=error.status, headers=headers, body=orjson.dumps({"message": error.message}))

    def _headers(self) -> list[tuple[bytes, bytes]]:
        second = self._service.now_micros() // MICROS
        if second != self._date[0]:
            self._date = second, formatdate(second, usegmt=True).encode()
        return [
            (b"content-type", b"application/json"),
            (b"date", self._date[1]),
            (b"x-amzn-requestid", next(self._ids)),
        ]


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def _request_ids() -> Iterator[bytes]:
    """Ids of a UUID's form, unlike those of any other server."""
    head = token_hex(8)
    start = f"{head[:8]}-{head[8:12]}-4{head[12:15]}-8{head[13:]}-"
    return (f"{start}{number:012x}".encode() for number in count(1))
