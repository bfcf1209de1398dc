"""Requests checked against the installed botocore model, so that the service is as strict as AWS's own.

Each input shape is compiled once into a small function; a request is then checked without touching the
model. Rules: required members, types, lengths, ranges, patterns (of the whole text), enums, unions with
exactly one member. Unknown members are ignored, and null counts as absent, as in AWS's rest-json.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
from botocore.loaders import create_loader
from botocore.model import OperationModel, ServiceModel, Shape

from ahi_catalog.emulator.clock import from_wire
from ahi_catalog.emulator.errors import ServiceError, invalid

OPERATIONS = ("SearchImageSets", "GetImageSet", "GetImageSetMetadata", "ListDatastores", "GetDatastore")
# Takes a value and the name of its field, gives the checked value.
Check = Callable[[Any, str], Any]


@cache
def _service_model() -> Any:
    # Not by a session: that reads the user's configuration, which may be broken.
    return ServiceModel(create_loader().load_service_model("medical-imaging", "service-2", "2023-07-19"))


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API: how a request for it looks, and how its parts are checked."""

    name: str
    method: str
    path: re.Pattern[str]
    uri: Mapping[str, tuple[str, Check]]
    query: Mapping[str, tuple[str, Check]]
    payload: tuple[str, Check] | None

    def parameters(self, groups: Mapping[str, str], query: str) -> dict[str, Any]:
        """Checked members of the path and the query string, by the model's member names.

        Raises:
            ServiceError: ValidationException, naming the field and the rule.
        """
        given = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        found: dict[str, Any] = {}
        for member, (wire, check) in self.uri.items():
            found[member] = check(unquote(groups[wire]), member)
        for member, (wire, check) in self.query.items():
            if wire in given:
                found[member] = check(given[wire], member)
        return found

    def body(self, raw: bytes) -> Any:
        """The checked payload; an absent body is an empty structure.

        Raises:
            ServiceError: ValidationException, naming the field and the rule.
        """
        if self.payload is None:
            return None
        name, check = self.payload
        try:
            decoded = orjson.loads(raw) if raw else {}
        except orjson.JSONDecodeError:
            raise invalid("The request body is not JSON") from None
        return check(decoded, name)


@cache
def operations() -> tuple[Operation, ...]:
    """The operations that the embedded service answers."""
    return tuple(_compile_operation(_service_model().operation_model(name)) for name in OPERATIONS)


def _compile_operation(model: OperationModel) -> Operation:
    shape: Any = model.input_shape
    uri: dict[str, tuple[str, Check]] = {}
    query: dict[str, tuple[str, Check]] = {}
    for member, its in shape.members.items():
        wire = its.serialization.get("name", member)
        if its.serialization.get("location") == "uri":
            uri[member] = wire, _check(its)
        elif its.serialization.get("location") == "querystring":
            query[member] = wire, _check(its)
    payload = shape.serialization.get("payload")
    # The one template language here is {name}: a path segment.
    path = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", str(model.http["requestUri"]))
    return Operation(
        name=model.name,
        method=str(model.http["method"]),
        path=re.compile(path),
        uri=uri,
        query=query,
        payload=(payload, _check(shape.members[payload])) if payload else None,
    )


def _fail(field: str, rule: str) -> ServiceError:
    return invalid(f"Value at '{field}' failed to satisfy constraint: {rule}")


def _check(shape: Shape) -> Check:
    return _COMPILERS[shape.type_name](shape)


def _structure(shape: Any) -> Check:
    members = {name: _check(member) for name, member in shape.members.items()}
    required = tuple(shape.required_members)
    union = bool(shape.is_tagged_union)

    def check(value: Any, field: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _fail(field, "Member must be a structure")
        given = {name: value[name] for name in members if value.get(name) is not None}
        if union and len(given) != 1:
            raise _fail(field, "Member must set exactly one of its fields")
        for name in required:
            if name not in given:
                raise _fail(f"{field}.{name}", "Member must not be null")
        return {name: members[name](its, f"{field}.{name}") for name, its in given.items()}

    return check


def _list(shape: Any) -> Check:
    item = _check(shape.member)
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")

    def check(value: Any, field: str) -> list[Any]:
        if not isinstance(value, list):
            raise _fail(field, "Member must be a list")
        if len(value) < low or (high is not None and len(value) > high):
            raise _fail(field, f"Member must have between {low} and {high} items")
        return [item(its, f"{field}.{number}") for number, its in enumerate(value, start=1)]

    return check


def _string(shape: Any) -> Check:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
    enum = frozenset(shape.enum)
    text = shape.metadata.get("pattern")
    # Java's name for the ASCII characters, which Python's re does not know.
    pattern = re.compile(text.replace(r"\p{ASCII}", r"[\x00-\x7f]")) if text else None

    def check(value: Any, field: str) -> str:
        if not isinstance(value, str):
            raise _fail(field, "Member must be a string")
        if enum and value not in enum:
            raise _fail(field, f"Member must satisfy enum value set: {sorted(enum)}")
        if len(value) < low:
            raise _fail(field, f"Member must have length greater than or equal to {low}")
        if high is not None and len(value) > high:
            raise _fail(field, f"Member must have length less than or equal to {high}")
        if pattern is not None and not pattern.fullmatch(value):
            raise _fail(field, f"Member must satisfy regular expression pattern: {text}")
        return value

    return check


def _integer(shape: Any) -> Check:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")

    def check(value: Any, field: str) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):  # from a query string
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _fail(field, "Member must be an integer")
        if low is not None and value < low:
            raise _fail(field, f"Member must be greater than or equal to {low}")
        if high is not None and value > high:
            raise _fail(field, f"Member must be less than or equal to {high}")
        return value

    return check


def _boolean(_: Any) -> Check:
    def check(value: Any, field: str) -> bool:
        if not isinstance(value, bool):
            raise _fail(field, "Member must be a boolean")
        return value

    return check


def _timestamp(_: Any) -> Check:
    def check(value: Any, field: str) -> int:
        try:
            return from_wire(value)
        except ValueError:
            raise _fail(field, "Member must be a timestamp") from None

    return check


_COMPILERS: dict[str, Callable[[Any], Check]] = {
    "structure": _structure,
    "list": _list,
    "string": _string,
    "integer": _integer,
    "boolean": _boolean,
    "timestamp": _timestamp,
}
