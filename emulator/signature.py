"""AWS Signature Version 4, as the service checks it.

Source: AWS General Reference, "Signature Version 4 signing process"; the arithmetic is botocore's.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ahi_catalog.emulator.errors import (
    incomplete_signature,
    unknown_key,
    unsigned,
    wrong_signature,
)

SERVICE = "medical-imaging"
_FORM = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)"
    r"/aws4_request,\s*SignedHeaders=(?P<headers>[a-z0-9;-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


def check_signature(
    *,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Mapping[str, str] | None,
) -> None:
    """Let a properly signed request through.

    The time of signing is not compared with the service's clock, which tests move about.

    Args:
        method: The HTTP method.
        target: Path and query string as they came.
        headers: By lower-case name.
        body: The request's body.
        credentials: Access key id to secret key; None checks the form and the scope only.

    Raises:
        ServiceError: 403, in the form that AWS gives it.
    """
    authorization = headers.get("authorization")
    if not authorization:
        raise unsigned()
    form = _FORM.fullmatch(authorization)
    if form is None:
        raise incomplete_signature("a complete AWS4-HMAC-SHA256 signature")
    if "x-amz-date" not in headers:
        raise incomplete_signature("an X-Amz-Date beside it")
    if form["service"] != SERVICE:
        raise wrong_signature(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if credentials is None:
        return
    secret = credentials.get(form["key"])
    if secret is None:
        raise unknown_key()
    url = f"http://{headers.get('host', '')}{target}"
    signed = {name: headers[name] for name in form["headers"].split(";") if name in headers}
    request = AWSRequest(method=method, url=url, headers=signed, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer: Any = SigV4Auth(Credentials(form["key"], secret), SERVICE, form["region"])
    ours: str = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if not hmac.compare_digest(ours, form["signature"]):
        raise wrong_signature("The request signature we calculated does not match the signature you provided.")
