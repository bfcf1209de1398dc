"""The key of a catalog's pseudonyms: where it is kept, and how it comes from there. It is never stored by us.

| place | is |
|---|---|
| ``env`` | the text of `AHI_CATALOG_PHI_KEY` |
| ``file:PATH`` | a file's bytes |
| ``aws-secret:NAME`` | a secret of AWS Secrets Manager, by name or ARN |
| ``prefect-secret:NAME`` | a Secret block of Prefect (the flows bring what reads it) |

White space around a key is no part of it, so that a file and a variable can hold the same one.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ahi_catalog.connectors.errors import AhiCatalogError, Remedy, UsageError
from ahi_catalog.schemas import PhiKey

VARIABLE: Final = "AHI_CATALOG_PHI_KEY"
ENVIRONMENT: Final = "env"
AWS_SECRET: Final = "aws-secret"  # noqa: S105  # a kind of place

Reader = Callable[[str], bytes]
"""Reads the key's bytes by what stands after the colon.

Raises:
    AhiCatalogError: It cannot; one line, without the key.
"""


def load_phi_key(place: str, more_readers: Mapping[str, Reader] = MappingProxyType({})) -> PhiKey:
    """The key that is kept in a place.

    Args:
        place: As in the table above.
        more_readers: Readers of places that this module does not know.

    Raises:
        UsageError: There is no such place, no key in it, or none that is long enough.
        AhiCatalogError: The place cannot be read.
    """
    kind, _, name = place.partition(":")
    readers = {ENVIRONMENT: _from_environment, "file": _from_file, AWS_SECRET: _from_aws, **more_readers}
    if kind not in readers or bool(name) == (kind == ENVIRONMENT):
        raise UsageError(f"a PHI key is kept in {ENVIRONMENT}, file:PATH, {AWS_SECRET}:NAME or prefect-secret:NAME")
    read = readers[kind](name)
    try:
        return PhiKey(read.strip())
    except ValueError as error:
        reason = str(error)
    raise UsageError(f"{kind}: {reason}")


def _from_environment(_: str) -> bytes:
    key = os.environ.get(VARIABLE)
    if key is None:
        raise UsageError(f"pseudonyms need a key: set {VARIABLE}, or say in `phi_key_from` where it is kept")
    return os.fsencode(key)


def _from_file(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise UsageError(f"the file with the PHI key cannot be read: {reason}")


def _from_aws(name: str) -> bytes:
    # A third of a second that other places do without.
    import botocore.exceptions as boto  # noqa: PLC0415

    from ahi_catalog.connectors import aws  # noqa: PLC0415
    from ahi_catalog.connectors.aws_failures import (  # noqa: PLC0415
        REFUSED_CREDENTIALS,
        UNANSWERED,
        error_code,
        no_answer,
    )

    client = aws.make_client("secretsmanager", connections=1, read_timeout=30)
    try:
        answer: dict[str, Any] = client.get_secret_value(SecretId=name)
    except (boto.ClientError, *UNANSWERED) as error:
        if isinstance(error, boto.ClientError):
            code = error_code(error)
            advice = REFUSED_CREDENTIALS.get(code, "check the name, the region and secretsmanager:GetSecretValue")
            reason, remedy = f"{code}: {advice}", None if code in REFUSED_CREDENTIALS else Remedy.POLICY
        else:
            reason, remedy = no_answer(error, "AWS_ENDPOINT_URL_SECRETS_MANAGER").advice, None
    else:
        text: str | None = answer.get("SecretString")
        binary: bytes = answer.get("SecretBinary", b"")
        return binary if text is None else text.encode()
    raise AhiCatalogError(f"the PHI key cannot be read from AWS Secrets Manager: {reason}", remedy=remedy)
