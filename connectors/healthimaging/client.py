"""The boto3 client of HealthImaging, and the one place that reaches into botocore.

boto3 keeps what it does well: credentials, regions, endpoints, validation, signing, connections. Three things are
ours.

- Pages of SearchImageSets stay bytes: botocore's parser spends five milliseconds on a page, most of it on turning
  times into the local zone, and drops fields that its model does not know; a ``before-parse`` handler takes the body
  out of its way.
- The pages of a search differ in their token only. The first is asked for as usual; for the others the request that
  boto3 made of it (its ``before-call`` event) is signed by boto3's signer and sent by its session again, with another
  token. That leaves out validating, serialising, resolving the endpoint, events (handlers that a user has registered
  see first pages only), parsing and thinking about retries: more than a third of what a request costs.
- Retries (attempts.py), because every try has to pass the limiter, half a body has to be
  tried again, and a stop must not wait for a back-off.
"""

import threading
from typing import Any, Final, Protocol

from botocore.awsrequest import create_request_object
from botocore.config import Config
from botocore.endpoint import convert_to_response_dict
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from botocore.utils import percent_encode_sequence

from ahi_catalog.connectors import aws

_SEARCH: Final = "SearchImageSets"
_BODY: Final = "RawBody"
_OK: Final = 300
_REMEMBERED: Final = 256
"""Searches whose request is kept: those under way, and some that rest."""


class Client(Protocol):
    """The operations that the connector uses, named and shaped as in boto3."""

    def search_image_sets(self, **request: Any) -> dict[str, Any]: ...
    def get_image_set(self, **request: Any) -> dict[str, Any]: ...
    def get_datastore(self, **request: Any) -> dict[str, Any]: ...
    def list_datastores(self, **request: Any) -> dict[str, Any]: ...


def make_client(*, connections: int) -> Client:
    """A thread-safe client for the region, credentials and endpoint that boto3 finds.

    Args:
        connections: Requests that may be under way at once.

    Raises:
        UsageError: boto3 finds no region, or a profile that does not exist.
    """
    # The model puts `runtime-` before any host; a custom endpoint has no such name.
    client = aws.make_client(
        "medical-imaging",
        connections=connections,
        read_timeout=30,
        for_custom_endpoint=Config(inject_host_prefix=False),
    )
    return _RepeatingClient(client)


def raw_body(response: dict[str, Any]) -> bytes:
    """The untouched body of a SearchImageSets answer."""
    body: bytes = response[_BODY]
    return body


class _RepeatingClient:
    """boto3's client, but for the further pages of a search its first request is repeated with another token."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._operation = client.meta.service_model.operation_model(_SEARCH)
        self._made = threading.local()
        self._requests: dict[str, dict[str, Any]] = {}
        client.meta.events.register(f"before-parse.medical-imaging.{_SEARCH}", _keep_body)
        client.meta.events.register(f"before-call.medical-imaging.{_SEARCH}", self._note_request)
        self.meta = client.meta
        self.get_image_set = client.get_image_set
        self.get_datastore = client.get_datastore
        self.list_datastores = client.list_datastores

    def search_image_sets(self, **request: Any) -> dict[str, Any]:
        """As boto3's, the body left as bytes."""
        token = request.get("nextToken")
        search = repr([(name, value) for name, value in request.items() if name != "nextToken"])
        made = self._requests.get(search)
        if made is not None and token is not None:
            return self._repeat(made, token)
        answer: dict[str, Any] = self._client.search_image_sets(**request)
        if len(self._requests) >= _REMEMBERED:
            self._requests.clear()
        self._requests[search] = self._made.request
        return answer

    def _note_request(self, params: dict[str, Any], **_: Any) -> None:
        # Copied, for botocore goes on to write into it.
        self._made.request = params | {"context": dict(params["context"])}

    def _repeat(self, made: dict[str, Any], token: str) -> dict[str, Any]:
        query = percent_encode_sequence(made["query_string"] | {"nextToken": token})
        # The context is each request's own: signing writes its time there, and reads it again.
        request = create_request_object(
            made | {"url": f"{made['url'].partition('?')[0]}?{query}", "context": dict(made["context"])}
        )
        # botocore hands out neither of the two; the signer knows the credentials of the moment.
        signer, session = self._client._request_signer, self._client._endpoint.http_session  # noqa: SLF001
        signer.get_auth_instance(signer.signing_name, signer.region_name).add_auth(request)
        response = session.send(request.prepare())
        if response.status_code < _OK:
            return {_BODY: response.content, "ResponseMetadata": {"HTTPHeaders": response.headers}}
        parser = create_parser(self._operation.service_model.resolved_protocol)
        answer = convert_to_response_dict(response, self._operation)
        raise ClientError(parser.parse(answer, self._operation.output_shape), _SEARCH)


def _keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] < _OK:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b"{}"
