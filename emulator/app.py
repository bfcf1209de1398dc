"""The HTTP face: an ASGI application that turns requests into answers, and errors into the service's form."""

import re
from collections.abc import Iterator
from email.utils import formatdate
from itertools import count
from secrets import token_hex

import orjson
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from ahi_catalog.emulator.clock import MICROS
from ahi_catalog.emulator.control import control_routes
from ahi_catalog.emulator.errors import ServiceError, incomplete_signature, unknown_operation, unsigned, wrong_signature
from ahi_catalog.emulator.faults import Answer, Fault, hold, whole
from ahi_catalog.emulator.model import Operation, operations
from ahi_catalog.emulator.operations import Operations
from ahi_catalog.emulator.service import METADATA, Service

_THROTTLED = 429
_SERVICE = "medical-imaging"
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/,\s]+/\d{8}/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/aws4_request, "
    r"SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}"
)
"""An Authorization header of AWS Signature Version 4, as botocore writes it."""


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
            _check_signature(scope, self._service.options.region)
            fault = self._service.faults.take(operation.name, number)
            if fault is not None and fault.kind.error is not None:
                raise fault.kind.error()
            self._service.admit(operation.name)
            if self._service.options.latency and not await hold(self._service.options.latency, receive):
                return
            parameters = operation.parameters(groups, scope["query_string"].decode("latin-1"))
            content = self._operations.answer(operation, parameters, body, fault)
            encoded = [(b"content-encoding", b"gzip")] if operation.name == METADATA else []
            answer = Answer(status=200, headers=[*self._headers(), *encoded], body=content)
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


def _check_signature(scope: Scope, region: str) -> None:
    """Let a request through that is signed for this service and region; the signature's value is not checked.

    Raises:
        ServiceError: 403, in the form that AWS gives it.
    """
    headers = dict(scope["headers"])
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    if not authorization:
        raise unsigned()
    form = _SIGNATURE.fullmatch(authorization)
    if form is None or b"x-amz-date" not in headers:
        raise incomplete_signature()
    if (form["service"], form["region"]) != (_SERVICE, region):
        raise wrong_signature(f"Credential should be scoped to {_SERVICE} in {region}.")


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
