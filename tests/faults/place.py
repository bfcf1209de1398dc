"""Where a catalog lies, read as it lies: without the project's code, and on S3 not through the proxy."""

import json
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config

from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

Coverage = list[tuple[datetime, datetime]]


class Place(Protocol):
    """A catalog's objects by their keys below its root."""

    @property
    def url(self) -> str:
        """As the settings name it."""
        ...

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Those whose key begins so, without what is hidden."""
        ...

    def fill(self, objects: Mapping[str, bytes]) -> None:
        """Lay objects down."""
        ...

    def remove(self, key: str) -> None:
        """Take one away."""
        ...


class FolderPlace:
    """A local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    def objects(self, prefix: str) -> dict[str, bytes]:
        found = {}
        for path in sorted(self.root.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and "/." not in key and path.is_file():
                found[key] = path.read_bytes()
        return found

    def fill(self, objects: Mapping[str, bytes]) -> None:
        for key, body in objects.items():
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)

    def remove(self, key: str) -> None:
        (self.root / key).unlink()

    def erase(self) -> None:
        """Take all of it away."""
        shutil.rmtree(self.root, ignore_errors=True)


class BucketPlace:
    """A prefix in a bucket of the real server."""

    def __init__(self, server: S3Server, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
        )

    def at(self, prefix: str) -> "BucketPlace":
        """Another prefix of the same bucket."""
        other = object.__new__(BucketPlace)
        other._bucket, other._prefix, other._client = self._bucket, prefix, self._client
        return other

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def objects(self, prefix: str) -> dict[str, bytes]:
        root = f"{self._prefix}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=root + prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {
            key.removeprefix(root): self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            for key in sorted(keys)
        }

    def fill(self, objects: Mapping[str, bytes]) -> None:
        for key, body in objects.items():
            self._client.put_object(Bucket=self._bucket, Key=f"{self._prefix}/{key}", Body=body)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=f"{self._prefix}/{key}")


def read_coverage(place: Place, datastore_id: str) -> Coverage:
    """What the checkpoint calls covered; nothing where there is none."""
    prefix = f"_state/datastore_id={datastore_id}/checkpoint.json"
    found = place.objects(prefix)
    if not found:
        return []
    document = json.loads(found[prefix])
    return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in document["coverage"]]
