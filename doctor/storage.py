"""The catalog's place: whether it can be listed, read and written, and only if nobody else wrote; encryption."""

from typing import Any, Final

import botocore.exceptions

from ahi_catalog.connectors.aws_failures import UNANSWERED
from ahi_catalog.connectors.catalog import Store, open_catalog
from ahi_catalog.connectors.catalog.layout import DESCRIPTION_KEY, STATE
from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.connectors.storage.probe import PROBES, probe
from ahi_catalog.doctor.check import Check, fix, note, ok

PROBE_KEY: Final = f"{PROBES}doctor"
_CONDITIONAL: Final = "conditional writes"


def check_bucket(store: Store) -> Check:
    """Whether the place is there and can be listed."""
    try:
        next(iter(store.entries(STATE)), None)
    except AhiCatalogError as error:
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
    return ok(name, f"partitioned by {found.description.unit}, data stores: {len(known)}")


def check_conditional_writes(store: Store) -> Check:
    """Whether the place can be written, and refuses to replace an object that another run wrote."""
    try:
        probe(store, PROBE_KEY)
    except AhiCatalogError as error:
        return fix(_CONDITIONAL, str(error))
    return ok(_CONDITIONAL, "honoured")


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
    except (botocore.exceptions.ClientError, *UNANSWERED):
        return note(name, "not to be seen: no object could be written")
    kind = head.get("ServerSideEncryption")
    if kind:
        return ok(name, f"at rest with {'a KMS key' if str(kind).startswith('aws:kms') else kind}")
    if is_aws:
        return fix(name, "the bucket does not encrypt: turn on default encryption")
    return note(name, "the store does not say whether it encrypts; see its settings")
