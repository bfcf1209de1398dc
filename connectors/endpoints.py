"""Where patients' data may travel: over https, or to this machine itself. Pure."""

import ipaddress
from urllib.parse import urlsplit

from ahi_catalog.connectors.errors import UsageError


def check_endpoint(service: str, url: str) -> None:
    """Let only endpoints through to which patients' data may travel: https, or this machine itself.

    Args:
        service: The service's id in boto3's model: ``S3``, ``Medical Imaging``.
        url: Where it is asked.

    Raises:
        UsageError: It is neither.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        variable = f"AWS_ENDPOINT_URL_{service.replace(' ', '_').upper()}"
        raise UsageError(
            f"the endpoint of {service} is not https: patients' data would be readable on its way; "
            f"set {variable} (or AWS_ENDPOINT_URL) to an https URL"
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: localhost, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
