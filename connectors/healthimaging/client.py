"""The boto3 client of HealthImaging.

boto3 keeps what it does well: credentials, regions, endpoints, validation, signing, connections. Two things are ours.

- The body of a SearchImageSets answer stays bytes, by boto3's ``before-parse`` event: botocore's parser drops fields
  that its model does not know, and turns times into the local zone.
- Retries (executor.py), because every try has to pass the limiter, half a body has to be read again, and a stop must
  not wait for a back-off.
"""

from typing import Any, Final, Protocol

from botocore.config import Config

from ahi_catalog.connectors import aws

_BODY: Final = "RawBody"
_OK: Final = 300


class Client(Protocol):
    """The operations that the connector uses, named and shaped as in boto3."""

    def search_image_sets(self, **request: Any) -> dict[str, Any]: ...
    def get_image_set(self, **request: Any) -> dict[str, Any]: ...
    def get_image_set_metadata(self, **request: Any) -> dict[str, Any]: ...
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
    client: Client = aws.make_client(
        "medical-imaging",
        connections=connections,
        read_timeout=30,
        for_custom_endpoint=Config(inject_host_prefix=False),
    )
    client.meta.events.register("before-parse.medical-imaging.SearchImageSets", _keep_body)  # type: ignore[attr-defined]
    return client


def raw_body(response: dict[str, Any]) -> bytes:
    """The body of a SearchImageSets answer, as received."""
    body: bytes = response[_BODY]
    return body


def _keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] < _OK:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b"{}"
