"""Controls over HTTP, under `/_control/`: what another process needs to steer a test.

| request | body | does |
|---|---|---|
| POST datastores | name, createdAt?, datastoreId? | makes a data store |
| POST datastores/ID/image-sets | a list of summaries | inserts |
| GET datastores/ID/image-sets | | every row as it is now, JSON lines |
| PATCH datastores/ID/image-sets/ID | changes, updatedAt?, newVersion? | a new version |
| DELETE datastores/ID/image-sets/ID | | deletes |
| POST faults | kind, at?, next?, operation?, seconds? | orders a fault |
| DELETE faults | | forgets those not yet served |
| GET counters, DELETE counters | | reads them, resets them |
| GET clock, POST clock | offset?, advance? (seconds), freeze? (true, false or a time) | reads, sets |

Times are as in the API: epoch seconds, or ISO 8601 strings. There is no authentication: loopback only.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ahi_catalog.emulator.clock import from_micros, from_wire
from ahi_catalog.emulator.errors import ServiceError
from ahi_catalog.emulator.service import Service

_TIMES = ("createdAt", "updatedAt", "lastAccessedAt")
_Handler = Callable[[Request, Any], object]


def control_routes(service: Service) -> list[Route]:
    """The routes below `/_control`."""
    control = _Control(service)
    store = "/datastores/{store}/image-sets"
    table: list[tuple[str, str, _Handler]] = [
        ("POST", "/datastores", control.create),
        ("POST", store, control.insert),
        ("GET", store, control.dump),
        ("PATCH", store + "/{image_set}", control.update),
        ("DELETE", store + "/{image_set}", control.delete),
        ("POST", "/faults", control.add_fault),
        ("DELETE", "/faults", control.clear_faults),
        ("GET", "/counters", control.counters),
        ("DELETE", "/counters", control.reset_counters),
        ("GET", "/clock", control.clock),
        ("POST", "/clock", control.set_clock),
    ]
    return [Route(path, _endpoint(handler), methods=[method]) for method, path, handler in table]


def _endpoint(handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        raw = await request.body()
        try:
            result = handler(request, orjson.loads(raw) if raw else {})
        except ServiceError as error:
            return _json({"message": error.message}, error.status)
        except (ValueError, TypeError, KeyError) as error:
            # Ours name fields and rules; a KeyError names the key that is missing.
            return _json({"message": str(error)}, 400)
        return Response(result, media_type="application/x-ndjson") if isinstance(result, bytes) else _json(result)

    return endpoint


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _micros(document: Mapping[str, Any]) -> dict[str, Any]:
    """A summary of the wire with its times as the service takes them."""
    return {key: from_wire(value) if key in _TIMES and value is not None else value for key, value in document.items()}


class _Control:
    def __init__(self, service: Service) -> None:
        self._service = service

    def create(self, _: Request, body: Any) -> object:
        created = from_micros(from_wire(body["createdAt"])) if "createdAt" in body else None
        made = self._service.create_datastore(
            name=body["name"], created_at=created, datastore_id=body.get("datastoreId")
        )
        return {"datastoreId": made}

    def insert(self, request: Request, body: Any) -> object:
        summaries = [_micros(summary) for summary in body]
        return {"inserted": self._service.insert(request.path_params["store"], summaries)}

    def dump(self, request: Request, _: Any) -> object:
        return b"".join(
            orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
            for row in self._service.rows(request.path_params["store"])
        )

    def update(self, request: Request, body: Any) -> object:
        updated_at = from_wire(body["updatedAt"]) if "updatedAt" in body else None
        return self._service.update(
            request.path_params["store"],
            request.path_params["image_set"],
            _micros(body["changes"]),
            updated_at,
            new_version=body.get("newVersion", True),
        )

    def delete(self, request: Request, _: Any) -> object:
        self._service.delete(request.path_params["store"], request.path_params["image_set"])
        return {}

    def add_fault(self, _: Request, body: Any) -> object:
        self._service.faults.add(**body)
        return {"waiting": self._service.faults.waiting}

    def clear_faults(self, _: Request, __: Any) -> object:
        self._service.faults.clear()
        return {}

    def counters(self, _: Request, __: Any) -> object:
        return asdict(self._service.counters)

    def reset_counters(self, _: Request, __: Any) -> object:
        self._service.reset_counters()
        return {}

    def clock(self, _: Request, __: Any) -> object:
        return {"now": self._service.now().isoformat(), "frozen": self._service.clock.frozen}

    def set_clock(self, request: Request, body: Any) -> object:
        clock = self._service.clock
        freeze = body.get("freeze")
        if freeze is False:
            clock.unfreeze()
        elif freeze is not None:
            clock.freeze(None if freeze is True else from_micros(from_wire(freeze)))
        if "offset" in body:
            clock.offset = timedelta(seconds=body["offset"])
        if "advance" in body:
            clock.advance(timedelta(seconds=body["advance"]))
        return self.clock(request, body)
