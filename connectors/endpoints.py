"""Where patients' data may travel: over https, or to this machine itself; elsewhere only if allowed. Pure."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from ahi_catalog.connectors.errors import UsageError

_OF_AWS: Final = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".api.amazonwebservices.eu",
)
"""How hosts of AWS end, those of VPC endpoints too."""


def check_endpoint(service: str, url: str, *, allow_http: bool | None = None) -> None:
    """Let only endpoints through to which patients' data may travel: https, or this machine itself.

    Args:
        service: The service's id in boto3's model: ``S3``, ``Medical Imaging``.
        url: Where it is asked.
        allow_http: Whether plain http is allowed to any host that is not AWS's, which all have https; None: to none,
            and no setting of the service allows it.

    Raises:
        UsageError: It is neither.
    """
    scheme = urlsplit(url).scheme
    if scheme == "https" or (scheme == "http" and (is_loopback(host(url)) or (allow_http and not is_aws(url)))):
        return
    switch = ", or accept that with `allow_http`" if allow_http is False and not is_aws(url) else ""
    variable = f"AWS_ENDPOINT_URL_{service.replace(' ', '_').upper()}"
    raise UsageError(
        f"the endpoint of {service} is not https: patients' data would be readable on its way; set {variable} "
        f"(or AWS_ENDPOINT_URL) to an https URL{switch}"
    )


def host(url: str) -> str:
    """The host of a URL; empty where there is none."""
    return urlsplit(url).hostname or ""


def is_aws(url: str) -> bool:
    """Whether a URL's host is AWS's."""
    return host(url).endswith(_OF_AWS)


def is_loopback(name: str) -> bool:
    """Whether a host is this machine: localhost, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
