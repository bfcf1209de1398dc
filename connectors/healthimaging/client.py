"""The boto3 client of HealthImaging, and the one place that reaches into botocore.

boto3 keeps what it does well: credentials, regions, endpoints, signing, connections. Two things are ours.
Pages of SearchImageSets stay bytes: botocore's parser spends five milliseconds on a page, most of it on
turning times into the local zone, and drops fields that its model does not know; a ``before-parse`` handler
takes the body out of its way. And retries are ours (:mod:`connectors.healthimaging.source`), because every
try has to pass the limiter, half a body has to be tried again, and a stop must not wait for a back-off.
"""

from typing import Any, Final, Protocol

from botocore.config import Config

from connectors import aws

_BODY: Final = "RawBody"
_OK: Final = 300


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
    client.meta.events.register("before-parse.medical-imaging.SearchImageSets", _keep_body)
    made: Client = client
    return made


def _keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] < _OK:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b"{}"


def raw_body(response: dict[str, Any]) -> bytes:
    """The untouched body of a SearchImageSets answer."""
    body: bytes = response[_BODY]
    return body
