"""Prefect's server: whether there is one, and of which version."""

from importlib.metadata import version
from typing import Final

import httpx

from ahi_catalog.doctor.check import Check, fix, note, ok

_NAME: Final = "Prefect"
_SECONDS: Final = 10


def connection() -> tuple[str | None, str | None]:
    """The server that flows talk to and the key for it, by Prefect's own settings; None where none is set."""
    from prefect.settings import get_current_settings  # noqa: PLC0415  # takes seconds

    api = get_current_settings().api
    return api.url, api.key.get_secret_value() if api.key else None


def check_prefect(url: str | None, *, key: str | None = None) -> Check:
    """Whether Prefect's server answers, and fits the installed client.

    Args:
        url: Of its API; None where none is set.
        key: For Prefect Cloud.
    """
    if not url:
        return note(_NAME, "no PREFECT_API_URL: each run starts a server of its own, or give --no-prefect")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(headers=headers, timeout=_SECONDS) as client:
            health = client.get(f"{url}/health")
            answer = client.get(f"{url}/admin/version")
    except httpx.HTTPError as error:
        return fix(
            _NAME, f"{url} cannot be reached ({type(error).__name__}): start the server, or check PREFECT_API_URL"
        )
    if not health.is_success:
        return fix(_NAME, f"{url} answers {health.status_code}: check PREFECT_API_URL and PREFECT_API_KEY")
    installed = version("prefect")
    if not answer.is_success:
        # Prefect Cloud tells none.
        return ok(_NAME, f"{url} answers; the client is {installed}")
    served = answer.text.strip().strip('"')
    if _minor(served) < _minor(installed):
        return fix(_NAME, f"the server is {served}, older than the client's {installed}: upgrade the server first")
    return ok(_NAME, f"{url} answers, version {served}")


def _minor(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
