"""boto3's clients as both ends use them: its own credentials, regions and endpoints, and no retries."""

from typing import Any

import boto3
import botocore
import botocore.exceptions
from botocore.config import Config

from connectors.errors import UsageError


def has_custom_endpoint(client: Any) -> bool:
    """Whether a boto3 client talks to something else than AWS."""
    url: str = client.meta.endpoint_url
    return ".amazonaws." not in url and not url.endswith(".api.aws")


def make_client(service: str, *, connections: int, read_timeout: int, for_custom_endpoint: Config) -> Any:
    """A thread-safe client that tries each request once.

    Args:
        service: As boto3 names it.
        connections: Requests that may be under way at once.
        read_timeout: Seconds without an answer.
        for_custom_endpoint: More settings, where the endpoint is not AWS's.

    Raises:
        UsageError: boto3 finds no region, or a profile that does not exist.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1},
        # botocore puts its own name together anew for each request, from some sixty parts.
        user_agent=f"ahi-catalog Boto3/{boto3.__version__} Botocore/{botocore.__version__}",
    )
    try:
        session: Any = boto3.Session()
        client = session.client(service, config=config)
        if not has_custom_endpoint(client):
            return client
        # The same session: it has read the service's model already, which takes a fifth of a second.
        return session.client(service, config=config.merge(for_custom_endpoint))
    except botocore.exceptions.NoRegionError:
        raise UsageError("no AWS region: set AWS_DEFAULT_REGION, or a region in your profile") from None
    except (botocore.exceptions.ProfileNotFound, ValueError) as error:
        raise UsageError(f"boto3 cannot start: {error}") from None
