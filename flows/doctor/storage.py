"""The catalog's place: whether it can be listed, read and written, and only if nobody else wrote; encryption."""

import uuid
from typing import Any, Final

import botocore.exceptions

from connectors.catalog import Store, open_catalog
from connectors.catalog.layout import DESCRIPTION_KEY, STATE
from connectors.errors import AhiCatalogError, ConflictError, StoreError
from flows.doctor.check import Check, fix, note, ok

PROBE_KEY: Final = f"{STATE}probe/doctor"
_CONDITIONAL: Final = "conditional writes"


def check_bucket(store: Store) -> Check:
    """Whether the place is there and can be listed."""
    try:
        next(iter(store.entries(STATE)), None)
    except StoreError as error:
        return fix("storage", str(error))
    return ok("storage", f"{store.url} can be listed")


def check_catalog(store: Store) -> Check:
    """What catalog lies there already."""
    name = "catalog"
    try:
        if store.get(DESCRIPTION_KEY) is None:
            return note(name, "none there yet: the first sync makes it")
        found = open_catalog(store)
        known = found.datastore_ids()
    except AhiCatalogError as error:
        return fix(name, str(error))
    return ok(name, f"partitioned by {found.description.unit}, with {len(known)} data store(s)")


def check_conditional_writes(store: Store) -> Check:
    """Whether the place can be written, and refuses to replace an object that another run wrote."""
    try:
        ignored = probe(store)
    except StoreError as error:
        return fix(_CONDITIONAL, str(error))
    if ignored:
        return fix(_CONDITIONAL, f"{ignored}: overlapping runs would lose rows; use a store that honours them")
    return ok(_CONDITIONAL, "honoured")


def probe(store: Store) -> str | None:
    """What the store does that it must not, or None where its conditional writes hold.

    Writes one object, PROBE_KEY, again and again with other bytes.

    Raises:
        StoreError: It cannot be read or written.
    """
    stored = store.get(PROBE_KEY)
    etag = store.put(PROBE_KEY, _bytes(), expected=stored.etag if stored else None)
    if _is_let_through(store, None):
        return "the store makes an object anew where there is one (If-None-Match is ignored)"
    newer = store.put(PROBE_KEY, _bytes(), expected=etag)
    if _is_let_through(store, etag):
        return "the store replaces an object that has changed since (If-Match is ignored)"
    store.put(PROBE_KEY, _bytes(), expected=newer)
    return None


def check_encryption(client: Any, bucket: str, key: str, *, is_aws: bool) -> Check:
    """Whether objects lie encrypted, as the store says of the one that the probe wrote.

    Args:
        client: boto3's S3 client.
        bucket: The bucket.
        key: The probe's object.
        is_aws: Whether the store is Amazon's; others need not say.
    """
    name = "encryption"
    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
        return note(name, "not to be seen: no object could be written")
    kind = head.get("ServerSideEncryption")
    if kind:
        return ok(name, f"at rest with {'a KMS key' if str(kind).startswith('aws:kms') else kind}")
    if is_aws:
        return fix(name, "the bucket does not encrypt: turn on default encryption")
    return note(name, "the store does not say whether it encrypts; see its settings")


def _is_let_through(store: Store, expected: str | None) -> bool:
    try:
        store.put(PROBE_KEY, _bytes(), expected=expected)
    except ConflictError:
        return False
    return True


def _bytes() -> bytes:
    # Never the same twice: a store takes a put of the bytes it holds for one already done.
    return f"written by ahi-catalog doctor, {uuid.uuid4().hex}\n".encode()
