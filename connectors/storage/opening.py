"""From a URL to a store."""

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage.base import Store
from ahi_catalog.connectors.storage.local import LocalStore

_ANY: Final = S3Access()
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9!_.*'()=-]*")
_FILE_URL: Final = re.compile(r"file:(?://(?P<host>[^/?#]*))?(?P<path>/(?!/)[^?#]*)", re.IGNORECASE)
_NO_PATH: Final = re.compile(r"[a-z][a-z0-9+.-]*:[/\\]|file:|s3//|\\\\|/[a-z]:/|.*\0", re.IGNORECASE | re.DOTALL)
"""What must not become a folder on this disk because of a slip of the finger, or of another system's habits:
``s3:/bucket``, ``C:\\folder``, ``\\\\server\\share``."""


def open_store(url: str, s3: S3Access = _ANY, stop: threading.Event | None = None) -> Store:
    """The store at ``s3://bucket/prefix``, or in a local folder (a path, or a ``file:`` URL as of RFC 8089).

    Args:
        url: Of the catalog.
        s3: How its objects are read and written, where they lie in S3.
        stop: Set when the run is asked to stop.

    Raises:
        UsageError: It is no URL of a kind that we know.
    """
    bucket, path = split_url(url)
    if bucket is not None:
        # boto3 takes a third of a second to import; a local catalog does without.
        from ahi_catalog.connectors.storage.s3 import open_s3_store  # noqa: PLC0415

        return open_s3_store(bucket, path, s3)
    if replace(s3, allow_http=False) != _ANY:
        raise UsageError("`bucket_owner`, `kms_key` and `sse_s3` go with a catalog on S3")
    return LocalStore(Path(path).expanduser(), stop)


def split_url(url: str) -> tuple[str | None, str]:
    """The bucket and the prefix of a catalog in S3; None and the path of one in a local folder.

    Raises:
        UsageError: It is no URL of a kind that we know.
    """
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(
                "a catalog on S3 is s3://bucket/prefix, with a bucket name of 3 to 63 of a-z, 0-9, . and -"
            )
        if prefix and not all(_PREFIX_PART.fullmatch(part) for part in prefix.split("/")):
            raise UsageError("the catalog's prefix holds characters that object keys had better not, or an empty part")
        return bucket, prefix
    path = url
    if file_url := _FILE_URL.fullmatch(url):
        if (file_url["host"] or "localhost").lower() != "localhost":
            raise UsageError("a file URL names a folder of this machine: file:///folder")
        path = unquote(file_url["path"])
    if not path or "://" in path or _NO_PATH.match(path):
        raise UsageError("a catalog is s3://bucket/prefix or a local folder")
    return None, path
