"""The program's own code, warm: boto3's clients kept between runs, short waits, read timeouts as a test wants them.

Nothing is replaced: the same functions make the same clients. A client costs a fifth of a second, a run of this
suite less than that.
"""

import os
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cachetools import LRUCache

from ahi_catalog.connectors import aws, retrying
from ahi_catalog.connectors.healthimaging import client, source
from ahi_catalog.connectors.storage import s3

_ENVIRONMENT = ("AWS_ENDPOINT_URL_MEDICAL_IMAGING", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")
_HASTE = 50

_make_any = aws.make_client
_make_source = client.make_client
# Each world has an endpoint of its own, and a client takes megabytes, which every run in its own process inherits.
_kept: LRUCache[tuple[Any, ...], Any] = LRUCache(16)
_uniform = random.uniform

read_timeout: float = 30.0
"""Seconds that clients wait for an answer."""


def _keep(make: Callable[[], Any], *names: Any) -> Any:
    key = (*names, read_timeout, *(os.environ.get(name) for name in _ENVIRONMENT))
    if key not in _kept:
        _kept[key] = make()
    return _kept[key]


def _any_client(service: str, **settings: Any) -> Any:
    settings["read_timeout"] = read_timeout

    def make() -> Any:
        return _make_any(service, **settings)

    # The source registers a handler on its client, so that one is kept whole, below.
    return _keep(make, service) if service == "s3" else make()


def source_client(*, connections: int, allow_http: bool = False) -> Any:
    """The source's client for the environment, kept."""
    return _keep(lambda: _make_source(connections=connections, allow_http=allow_http), "source")


def install(patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Keep clients, and wait a fiftieth of the time between tries.

    Args:
        patch: Sets an attribute of a module; a fixture's undoes it later.
    """
    patch(aws, "make_client", _any_client)
    patch(source, "make_client", source_client)
    patch(retrying, "random", SimpleNamespace(uniform=lambda least, most: _uniform(least, most / _HASTE)))


def up() -> None:
    """Make the clients that the environment asks for, before they are needed."""
    source_client(connections=8)
    if "AWS_ENDPOINT_URL_S3" in os.environ:
        s3.make_client(connections=16)


def up_iceberg() -> None:
    """Import what a mirror needs, a second and a half, and have PyIceberg read its variables again."""
    from pyiceberg import catalog  # noqa: PLC0415  # an extra, which most runs do without
    from pyiceberg.catalog import rest, sql  # noqa: PLC0415, F401
    from pyiceberg.utils.config import Config  # noqa: PLC0415

    from ahi_catalog.connectors.iceberg import history, mirror, opening  # noqa: PLC0415, F401

    catalog._ENV_CONFIG = Config()
