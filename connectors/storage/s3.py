"""S3 as a store: conditional writes, and what to believe when an answer is lost.

``If-None-Match: *`` makes an object only where there is none, ``If-Match`` replaces only the one that was read
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). A put whose answer is lost may
have been applied, and its repetition then meets a 412 against itself; so boto3 must not retry puts, and after
any doubt the object is read again and compared with what was meant to be written.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import botocore.exceptions as boto
from botocore.config import Config

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.aws_failures import REFUSED_CREDENTIALS, UNANSWERED, error_code, no_answer
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError, RefusedError, Remedy, StoreError
from ahi_catalog.connectors.retrying import Backoff, full_jitter, retry
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage.base import Entry, Part, Stored, check_key, is_folder_marker

_T = TypeVar("_T")

_ATTEMPTS: Final = 8
_BACKOFF: Final = full_jitter(first=0.1, longest=10)
_QUOTES: Final = '"'
_CONTENT_RANGE: Final = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<size>\d+)")
_FINAL_STATUS: Final = frozenset({301, 307, 400, 401, 403, 404, 405, 411, 501})

_ANY: Final = S3Access()
_DENIED: Final = frozenset({"AccessDenied", "403"})
_ACCESS: Final = {
    "GetObject": "access denied to s3:GetObject (without s3:ListBucket S3 says so of an object that is not there, too)",
    "ListObjectsV2": "access denied to s3:ListBucket",
    "CopyObject": "access denied to s3:GetObject of what is copied, or to s3:PutObject where it goes",
}
_OWNER: Final = "the bucket belongs to another account than `bucket_owner` says, or "
_REGION: Final = (
    "the bucket is in another region than the one that is asked: check the bucket's name, AWS_DEFAULT_REGION and "
    "AWS_ENDPOINT_URL_S3, which is for one region"
)
_NO_CONDITIONS: Final = "use a store that knows conditional writes, as Amazon S3"
_WHAT_TO_DO: Final = {
    **REFUSED_CREDENTIALS,
    "NoSuchBucket": "there is no such bucket; create it, or check the URL and the region",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidObjectState": "the object is in an archive class: restore it (aws s3api restore-object), and exclude "
    "the catalog's prefix from the lifecycle rule that moved it",
    "KMS.DisabledException": "the KMS key of the object is disabled: enable it",
    "KMS.NotFoundException": "there is no such KMS key in the bucket's region: check `kms_key` and the bucket's "
    "default encryption",
    "KMS.KMSInvalidStateException": "the KMS key of the object is pending deletion or has no material: cancel its "
    "deletion, and enable it",
}
_KMS_ACTION: Final = re.compile(r"\bkms:[A-Z][A-Za-z]{1,40}\b")
_KMS_KEY_ELSEWHERE: Final = "The ciphertext refers to a customer master key"
_SLOWER: Final = frozenset({"SlowDown", "Throttling", "ThrottlingException", "KMS.ThrottlingException", "429", "503"})
_PASSING: Final = _SLOWER | {"RequestTimeout"}
"""Codes that may pass whatever their status: KMS's throttling comes by way of S3 as 400, as does a slow upload."""


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
        client: Any,
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

        def read(**request: Any) -> Part:
            return _part(self._client.get_object(**request), start, length)

        try:
            part: Part = self._try(self._call, read, Key=self._key(key), Range=asked)
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
                request = {"Key": self._key(key), "Body": body, **self._condition(expected), **self._encryption}
                answer = self._call(self._client.put_object, **request)
                etag = _etag(answer)
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
            self._check_encrypted(answer)
            return etag

        return self._try(put_once)

    def entries(self, prefix: str) -> Iterator[Entry]:
        request: dict[str, Any] = {"Prefix": self._prefix + prefix}
        while True:
            answer = self._try(self._call, self._client.list_objects_v2, **request)
            for item in answer.get("Contents", []):
                entry = Entry(item["Key"].removeprefix(self._prefix), item["Size"], item["ETag"])
                if not is_folder_marker(entry):
                    yield entry
            if not answer.get("IsTruncated"):
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def copy(self, source: "S3Store", entry: Entry, key: str) -> None:
        """Copy an object of another store as it was listed, inside of S3 (up to 5 GB); safe to repeat.

        Raises:
            ConflictError: It was replaced since it was listed.
            StoreError: It cannot be copied.
        """
        request = {"Key": self._key(key), **self._encryption}
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
        self._try(self._call, self._client.delete_object, Key=self._key(key))

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
        def read(**request: Any) -> Stored:
            answer = self._client.get_object(**request)
            return Stored(answer["Body"].read(), _etag(answer))

        try:
            return self._call(read, Key=key)
        except _AbsentError:
            return None

    def _try(self, function: Callable[..., _T], *args: Any, **request: Any) -> _T:
        """Call, and again after failures that may pass and conflicts that read back as none."""
        return retry(partial(function, *args, **request), _DoubtError, tries=_ATTEMPTS, backoff=self._backoff)

    def _call(self, function: Callable[..., _T], **request: Any) -> _T:
        try:
            return function(Bucket=self._bucket, **request, **self._owner)
        except (boto.ClientError, *UNANSWERED) as error:
            # Not chained: a parser's error quotes the answer.
            failure = self._translate(error, f"s3://{self._bucket}/{request['Key']}" if "Key" in request else self.url)
        raise failure

    def _translate(self, error: Exception, where: str) -> AhiCatalogError:
        if not isinstance(error, boto.ClientError):
            told = no_answer(error, "AWS_ENDPOINT_URL_S3")
            refusal = RefusedError(f"{where}: {told.advice}")
            return _DoubtError(refusal.message, remedy=Remedy.RESUME) if told.may_pass else refusal
        code = error_code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _EXPECTED:
            kind, text = _EXPECTED[code]
            return kind(f"{where}: {text}")
        if code in _SLOWER:
            advice = f"the store wants fewer requests at once ({code}): let fewer runs and queries go side by side"
            return _DoubtError(f"{where}: {advice}", remedy=Remedy.RESUME)
        if code not in _WHAT_TO_DO and (status not in _FINAL_STATUS or code in _PASSING):
            return _DoubtError(f"{where}: the store answers {code}", remedy=Remedy.RESUME)
        if code in _DENIED:
            return self._denial(error, where)
        return RefusedError(f"{where}: {_WHAT_TO_DO.get(code) or self._refusal(error, code)}")

    def _denial(self, error: boto.ClientError, where: str) -> RefusedError:
        """Whom to ask for which permission."""
        if (action := _kms_action(error)) is not None:
            advice = f"KMS denies {action}: allow it on the objects' key, in the role's policy and in the key's own"
            return RefusedError(f"{where}: {advice}")
        denied = _ACCESS.get(error.operation_name, f"access denied to s3:{error.operation_name}")
        if error.operation_name == "PutObject" and "SSEKMSKeyId" in self._encryption:
            denied += ", or to kms:GenerateDataKey of `kms_key`"
        return RefusedError(f"{where}: {_OWNER if self._owner else ''}{denied}", remedy=Remedy.POLICY)

    def _refusal(self, error: boto.ClientError, code: str) -> str:
        """What to say of a code that tells little: which header a put had that the store may not know."""
        if code.startswith("KMS."):
            return f"KMS refuses with {code}: check the state and the policy of the objects' key"
        if error.operation_name != "PutObject" or code in _DENIED:
            return f"the store refuses with {code}"
        # S3 names the header of which it says NotImplemented; few others do.
        header = str(error.response["Error"].get("Header", "")).lower()
        if header.startswith("x-amz-server-side-encryption"):
            return "the store does not know the encryption that `kms_key` or `sse_s3` asks for; use one that does"
        if code == "NotImplemented" and (header.startswith("if-") or not self._encryption):
            return f"the store does not know conditional writes; {_NO_CONDITIONS}"
        return f"the store refuses a put with {code}: if its conditions are what it does not know, {_NO_CONDITIONS}"


def _kms_action(error: boto.ClientError) -> str | None:
    """What KMS denied, as S3 tells: the name of an action out of a text that is not repeated."""
    text = str(error.response["Error"].get("Message", ""))
    if (named := _KMS_ACTION.search(text)) is not None:
        return named[0]
    return "kms:Decrypt" if text.startswith(_KMS_KEY_ELSEWHERE) else None


def _etag(answer: dict[str, Any]) -> str:
    """The object's etag; an answer without one is not the store's, whatever its status."""
    etag: str | None = answer.get("ETag")
    if etag is None:
        advice = "an answer that is not S3's: check AWS_ENDPOINT_URL_S3 and proxies"
        raise _DoubtError(advice, remedy=Remedy.RESUME)
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


def open_s3_store(bucket: str, prefix: str, access: S3Access = _ANY) -> S3Store:
    """A store in S3, or in what `AWS_ENDPOINT_URL_S3` names, with boto3's credentials and region.

    Raises:
        UsageError: The profile does not exist, or boto3 refuses its settings.
    """
    client = make_client(connections=S3Store.writers + 1, allow_http=access.allow_http)
    return S3Store(bucket, prefix, client, access=access)


def make_client(*, connections: int, read_timeout: int = 60, allow_http: bool = False) -> Any:
    """boto3's client of S3; arguments as of `aws.make_client`.

    Raises:
        UsageError: The profile does not exist, or boto3 refuses its settings.
    """
    return aws.make_client(
        "s3", connections=connections, read_timeout=read_timeout, adapt=_adapted, allow_http=allow_http
    )


def _adapted(client: Any) -> Config | None:
    """Other servers rarely have a host name for each bucket, and some refuse boto3's checksums.

    The body is signed then, so that it is checked all the same.
    """
    if not aws.has_custom_endpoint(client):
        return None
    # What the user's own configuration says of S3 holds.
    settings: Any = {"addressing_style": "path"} | (client.meta.config.s3 or {})
    return Config(
        s3=settings,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
