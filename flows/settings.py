"""Prefect's settings, read and set without Prefect: it takes seconds to import, and reads its variables as it is."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final

API_URL: Final = "PREFECT_API_URL"
_IN_DOTENV: Final = re.compile(rf"^\s*(?:export\s+)?{API_URL}\s*=\s*['\"]?([^'\"\s#]*)", re.MULTILINE | re.IGNORECASE)
_ANALYTICS_OFF: Final = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def set_prefect_defaults(**more: str) -> None:
    """Set Prefect's variables where the user has not, before Prefect is imported."""
    for name, value in (_ANALYTICS_OFF | more).items():
        os.environ.setdefault(name, value)
    # Prefect cannot be imported by a user without a home and without an entry in passwd, as containers have.
    if os.path.expanduser("~") == "~":  # noqa: PTH111  # pathlib's raises
        os.environ["HOME"] = "/"


def is_server_named() -> bool:
    """Whether Prefect's settings name a server: its variables, `.env`, `prefect.toml`, `pyproject.toml`, its profile.

    Read here in Prefect's own order, since to import it and ask takes seconds. A file that cannot be read names none.
    """
    variables = {name.upper(): value for name, value in os.environ.items()}
    if API_URL in variables:
        return bool(variables[API_URL])
    if found := _IN_DOTENV.search(_text(".env")):
        return bool(found[1])
    project = (
        _look(_toml("prefect.toml"), "api", "url"),
        _look(_toml("pyproject.toml"), "tool", "prefect", "api", "url"),
    )
    if any(project):
        return True
    home = variables.get("PREFECT_HOME") or "~/.prefect"
    profiles = _toml(variables.get("PREFECT_PROFILES_PATH") or f"{home}/profiles.toml")
    active = variables.get("PREFECT_PROFILE") or profiles.get("active")
    return bool(_look(profiles, "profiles", active, API_URL))


def _text(path: str) -> str:
    try:
        return Path(os.path.expanduser(path)).read_text(encoding="utf-8")  # noqa: PTH111  # pathlib's raises
    except (OSError, ValueError):
        return ""


def _toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError:
        return {}


def _look(tree: Any, *keys: Any) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
