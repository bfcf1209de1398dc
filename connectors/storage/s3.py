"""S3 as a store: conditional writes, and what to believe when an answer is lost.

``If-None-Match: *`` makes an object only where there is none, ``If-Match`` replaces only the one that was read
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). A put whose answer is lost may
have been applied, and its repetition then meets a 412 against itself; so boto3 must not retry puts, and after
any doubt the object is read again and compared with what was meant to be written.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import botocore.exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError, Remedy, StoreError
from ahi_catalog.connectors.retrying import Backoff, full_jitter, retry
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage.base import Entry, Part, Stored, check_key

_T = TypeVar("_T")

_ATTEMPTS: Final = 8
_BACKOFF: Final = full_jitter(first=0.1, longest=10)
_QUOTES: Final = '"'
_CONTENT_RANGE: Final = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<size>\d+)")
_FINAL_STATUS: Final = frozenset({301, 307, 400, 401, 403, 404, 405, 411, 501})

_ANY: Final = S3Access()
_DENIED: Final = frozenset({"AccessDenied", "403"})
_ACCESS: Final = "access denied to s3:GetObject, s3:PutObject or s3:ListBucket"
_OWNER: Final = f"the bucket belongs to another account than `bucket_owner` says, or {_ACCESS}"
_WHAT_TO_DO: Final = {
    "NoSuchBucket": "there is no such bucket; create it, or check the URL and the region",
    "AccessDenied": _ACCESS,
    "403": _ACCESS,
    "InvalidAccessKeyId": "the store does not know the access key: check the AWS credentials",
    "SignatureDoesNotMatch": "the signature does not match: check the AWS credentials and this machine's clock",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "ExpiredToken": "the credentials have expired: renew them and run again",
    "PermanentRedirect": "the bucket is in another region: set AWS_DEFAULT_REGION to it",
    "NotImplemented": "the store does not know conditional writes; use one that does, as Amazon S3",
}


class Client(Protocol):
    """The operations that the store uses, named and shaped as in boto3."""

    def get_object(self, **request: Any) -> dict[str, Any]: ...
    def put_object(self, **request: Any) -> dict[str, Any]: ...
    def copy_object(self, **request: Any) -> dict[str, Any]: ...
    def delete_object(self, **request: Any) -> dict[str, Any]: ...
    def list_objects_v2(self, **request: Any) -> dict[str, Any]: ...


class _DoubtError(StoreError):
    """The request failed in a way that may pass, and may have been applied."""


class _ChangedError(ConflictError):
    """The object is not the expected one, says the server."""


class _AbsentError(StoreError):
    """There is no such object."""


class _BeyondError(StoreError):
    """The object ends before the bytes that were asked for."""


_CHANGED: Final = (_ChangedError, "an object was written by another run")
_BEING_WRITTEN: Final = (ConflictError, "an object is being written by another run")
_BEYOND: Final = (_BeyondError, "an object is shorter than it was")
_ABSENT: Final = (_AbsentError, "there is no such object")
_EXPECTED: Final[dict[str, tuple[type[StoreError], str]]] = {
    "PreconditionFailed": _CHANGED,
    "412": _CHANGED,
    "ConditionalRequestConflict": _BEING_WRITTEN,
    "409": _BEING_WRITTEN,
    "InvalidRange": _BEYOND,
    "416": _BEYOND,
    "NoSuchKey": _ABSENT,
    "NotFound": _ABSENT,
    "404": _ABSENT,
}
"""Answers that are no failure of the store, by their code."""


class S3Store:
    """Objects under ``s3://bucket/prefix``.

    Args:
        bucket: The bucket.
        prefix: Where the catalog lies in it, without slashes at its ends; may be empty.
        client: boto3's S3 client, without retries of its own.
        access: Whose bucket it must be, and how objects are encrypted.
        backoff: Seconds to wait after so many tries; a test hands in none.
    """

    writers = 16

    def __init__(
        self,
        bucket: str,
        prefix: str,
        client: Client,
        *,
        access: S3Access = _ANY,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = client
        self._quotes = _QUOTES
        self._owner = {"ExpectedBucketOwner": access.bucket_owner} if access.bucket_owner else {}
        self._encryption = _encryption(access)
        self._backoff = backoff
        self._made_of = bucket, prefix, access

    def __reduce__(self) -> tuple[Callable[..., "S3Store"], tuple[str, str, S3Access]]:
        # Elsewhere, as on a Dask worker, the client is made anew, with the credentials found there.
        return open_s3_store, self._made_of

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str) -> Stored | None:
        return self._try(self._get_once, self._key(key))

    def get_part(self, key: str, start: int, length: int) -> Part | None:
        asked = f"bytes={start}" if start < 0 else f"bytes={start}-{start + length - 1}"

        def read() -> Part:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key), Range=asked, **self._owner)
            return _part(answer, start, length)

        try:
            part: Part = self._try(self._call, read)
        except _AbsentError:
            return None
        except _BeyondError:
            # Servers differ in what they answer of an object without bytes.
            found = self.get(key)
            return None if found is None else Part(b"", 0, len(found.body), found.etag)
        return part

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        def put_once() -> str:
            try:
                return self._send(key, body, **self._condition(expected))
            except (ConflictError, _DoubtError, _AbsentError) as error:
                found = self._get_once(self._key(key))
                if found is not None and found.body == body:
                    return found.etag
                if (found.etag if found else None) != expected:
                    raise ConflictError(f"{key} was written by another run") from None
                if isinstance(error, _ChangedError) and expected is not None:
                    # Some servers compare the header with an ETag without its quotes, as Ceph's older gateways do.
                    self._quotes = "" if self._quotes else _QUOTES
                if isinstance(error, ConflictError):
                    # Two writers met, and the other one has not won either.
                    raise _DoubtError(f"{self.url}: the store refuses a conditional write that should hold") from None
                raise

        return self._try(put_once)

    def entries(self, prefix: str) -> Iterator[Entry]:
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **self._owner}
        while True:
            answer = self._try(self._call, self._client.list_objects_v2, **request)
            for item in answer.get("Contents", []):
                yield Entry(item["Key"].removeprefix(self._prefix), item["Size"], item["ETag"])
            if not answer.get("IsTruncated"):
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def copy(self, source: "S3Store", entry: Entry, key: str) -> None:
        """Copy an object of another store as it was listed, inside of S3 (up to 5 GB); safe to repeat.

        Raises:
            ConflictError: It was replaced since it was listed.
            StoreError: It cannot be copied.
        """
        request = {"Bucket": self._bucket, "Key": self._key(key), **self._encryption, **self._owner}
        request |= source._as_source(entry)  # noqa: SLF001  # one of its own kind
        try:
            self._check_encrypted(self._try(self._call, self._client.copy_object, **request))
        except _AbsentError:
            raise ConflictError(f"{entry.key} was removed since it was listed") from None

    def _as_source(self, entry: Entry) -> dict[str, Any]:
        owner = self._owner.get("ExpectedBucketOwner")
        return {
            "CopySource": {"Bucket": self._bucket, "Key": self._key(entry.key)},
            "CopySourceIfMatch": entry.version,
            # Tags would take the right to read them; the catalog sets none.
            "TaggingDirective": "REPLACE",
            **({"ExpectedSourceBucketOwner": owner} if owner else {}),
        }

    def delete(self, key: str) -> None:
        """Delete an object, if there is one.

        Raises:
            StoreError: It cannot be deleted.
        """
        self._try(self._call, self._client.delete_object, Bucket=self._bucket, Key=self._key(key), **self._owner)

    def _send(self, key: str, body: bytes, **condition: str) -> str:
        request = {"Bucket": self._bucket, "Key": self._key(key), "Body": body, **condition}
        answer = self._call(self._client.put_object, **request, **self._encryption, **self._owner)
        etag = _etag(answer)
        self._check_encrypted(answer)
        return etag

    def _condition(self, expected: str | None) -> dict[str, str]:
        if expected is None:
            return {"IfNoneMatch": "*"}
        return {"IfMatch": f"{self._quotes}{expected.strip(_QUOTES)}{self._quotes}"}

    def _check_encrypted(self, answer: dict[str, Any]) -> None:
        asked = self._encryption.get("ServerSideEncryption")
        if asked is not None and answer.get("ServerSideEncryption") != asked:
            raise StoreError(
                f"{self.url}: the store did not encrypt an object with {asked} as asked; use one that does"
            )

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _get_once(self, key: str) -> Stored | None:
        def read() -> Stored:
            answer = self._client.get_object(Bucket=self._bucket, Key=key, **self._owner)
            return Stored(answer["Body"].read(), _etag(answer))

        try:
            return self._call(read)
        except _AbsentError:
            return None

    def _try(self, function: Callable[..., _T], *args: Any, **request: Any) -> _T:
        """Call, and again after failures that may pass and conflicts that read back as none."""
        return retry(partial(function, *args, **request), _DoubtError, tries=_ATTEMPTS, backoff=self._backoff)

    def _call(self, function: Callable[..., _T], **request: Any) -> _T:
        try:
            return function(**request)
        except (boto.BotoCoreError, boto.ClientError, ResponseParserError) as error:
            # Not chained: a parser's error quotes the answer.
            failure = self._translate(error)
        raise failure

    def _translate(self, error: Exception) -> AhiCatalogError:
        if not isinstance(error, boto.ClientError):
            told = aws.no_answer(error, "AWS_ENDPOINT_URL_S3")
            return (_DoubtError if told.may_pass else StoreError)(f"{self.url}: {told.advice}")
        code = aws.error_code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _EXPECTED:
            kind, text = _EXPECTED[code]
            return kind(f"{self.url}: {text}")
        if code in _WHAT_TO_DO or status in _FINAL_STATUS:
            advice = _OWNER if self._owner and code in _DENIED else _WHAT_TO_DO.get(code)
            remedy = Remedy.POLICY if code in _DENIED else None
            return StoreError(f"{self.url}: {advice or f'the store refuses with {code}'}", remedy=remedy)
        return _DoubtError(f"{self.url}: the store answers {code}; run again to resume")


def _etag(answer: dict[str, Any]) -> str:
    """The object's etag; an answer without one is not the store's, whatever its status."""
    etag: str | None = answer.get("ETag")
    if etag is None:
        raise _DoubtError("an answer that is not S3's: check AWS_ENDPOINT_URL_S3 and proxies; run again to resume")
    return etag


def _part(answer: dict[str, Any], start: int, length: int) -> Part:
    """What a read of a range brought; the whole object where the server does not know ranges."""
    body: bytes = answer["Body"].read()
    etag = _etag(answer)
    if (said := _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))) is not None:
        return Part(body, int(said["start"]), int(said["size"]), etag)
    begin = max(0, len(body) + start) if start < 0 else start
    return Part(body[begin:] if start < 0 else body[begin : begin + length], begin, len(body), etag)


def _encryption(access: S3Access) -> dict[str, str]:
    """What a put says of encryption.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/specifying-kms-encryption.html
    """
    if access.kms_key is not None:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": access.kms_key}
    return {"ServerSideEncryption": "AES256"} if access.sse_s3 else {}


def open_s3_store(
    bucket: str, prefix: str, access: S3Access = _ANY, *, connections: int = S3Store.writers + 1
) -> S3Store:
    """A store in S3, or in what `AWS_ENDPOINT_URL_S3` names, with boto3's credentials and region.

    Raises:
        UsageError: The profile does not exist, or boto3 refuses its settings.
    """
    # Other servers rarely have a host name for each bucket.
    client = aws.make_client(
        "s3",
        connections=connections,
        read_timeout=60,
        for_custom_endpoint=Config(s3={"addressing_style": "path"}),
    )
    return S3Store(bucket, prefix, client, access=access)
