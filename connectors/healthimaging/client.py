"""The boto3 client of HealthImaging.

boto3 keeps what it does well: credentials, regions, endpoints, validation, signing, connections. Two things are ours.

- The body of a SearchImageSets answer stays bytes, by boto3's ``before-parse`` event: botocore's parser drops fields
  that its model does not know, and turns times into the local zone.
- Retries (executor.py), because every try has to pass the limiter, half a body has to be read again, and a stop must
  not wait for a back-off.
"""

from typing import Any, Final

from botocore.config import Config

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.endpoints import host, is_aws

_BODY: Final = "RawBody"
_OK: Final = 300


def make_client(*, connections: int, allow_http: bool = False) -> Any:
    """A thread-safe client for the region, credentials and endpoint that boto3 finds.

    Args:
        connections: Requests that may be under way at once.
        allow_http: Whether plain http is allowed to a host that is neither this machine nor AWS's.

    Raises:
        UsageError: boto3 finds no region, or a profile that does not exist.
    """
    client = aws.make_client(
        "medical-imaging",
        connections=connections,
        read_timeout=30,
        adapt=_adapted,
        allow_http=allow_http,
    )
    client.meta.events.register("before-parse.medical-imaging.SearchImageSets", _keep_body)
    return client


def _adapted(client: Any) -> Config | None:
    """The model puts `runtime-` before any host; only the region's own has a name like that, no VPC endpoint's."""
    url = client.meta.endpoint_url
    is_regional = is_aws(url) and host(url).startswith("medical-imaging")
    return None if is_regional else Config(inject_host_prefix=False)


def raw_body(response: dict[str, Any]) -> bytes:
    """The body of a SearchImageSets answer, as received."""
    body: bytes = response[_BODY]
    return body


def _keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] < _OK:
        customized_response_dict[_BODY] = response_dict["body"]
        response_dict["body"] = b"{}"
