"""Notices: a POST to a receiver of the user's when a catalog's state changes, and what was told last.

The receiver's URL is a secret, as those of chat channels are: it comes by a variable of the environment, stands in no
settings of a run, and is never logged. The body is JSON with a ``text``, which Slack, Teams and Mattermost show.
"""

import http.client
import json
import logging
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from ahi_catalog.connectors.catalog import layout
from ahi_catalog.connectors.catalog.checkpoint import parse_state
from ahi_catalog.connectors.errors import AhiCatalogError, StateError, UsageError
from ahi_catalog.connectors.storage import Store

_log = logging.getLogger(__name__)

VARIABLE: Final = "AHI_CATALOG_NOTIFY"
WELL: Final = "well"
"""The state in which nothing need be told."""
_FORMAT: Final = 1
_SECONDS: Final = 10.0
"""How long a receiver may take: what only watches must not hold a run up."""


def check_receiver(url: str) -> str:
    """The URL, which may be a receiver's.

    Raises:
        UsageError: It is none; the message does not quote it.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_one = parts.scheme in {"https", "http"} and bool(parts.hostname)
    except ValueError:
        is_one = False
    if not is_one:
        raise UsageError("a receiver of notices is an http or https URL")
    return url


def tell_change(store: Store, datastore_id: str, subject: str, state: str, notice: Mapping[str, Any]) -> bool:
    """Post a notice where a state is another than the one that was told last; never fails, and waits ten seconds.

    A receiver that cannot be reached is told by the next run, for only what it took is kept as told. Where the store
    cannot be read, which may be what is wrong, nobody knows what was told, and whatever is wrong is told.

    Args:
        store: Where the catalog lies.
        datastore_id: The data store.
        subject: What is in that state: a flow, or a check.
        state: `WELL`, or what is wrong.
        notice: What is posted: a ``text``, counts and times.

    Returns:
        Whether there is nothing left to tell.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        return True
    key = layout.notices_key(datastore_id)
    try:
        stored = store.get(key)
    except AhiCatalogError as error:
        _log.warning("what was told last cannot be read: %s", error)
        return state == WELL or _took(url, notice)
    told = _told(stored.body) if stored else {}
    if told.get(subject, WELL) == state:
        return True
    if not _took(url, notice):
        return False
    document = {"format": _FORMAT, "told": {**told, subject: state}}
    try:
        store.put(key, json.dumps(document).encode(), expected=stored.etag if stored else None)
    except AhiCatalogError as error:
        _log.warning("what was told cannot be kept: %s", error)
    return True


def tell_event(notice: Mapping[str, Any]) -> None:
    """Post a notice of what happened once; never fails, and waits ten seconds at most."""
    if url := os.environ.get(VARIABLE):
        _took(url, notice)


def _told(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_state(body, "the state of notices", _FORMAT)["told"])
    except (StateError, KeyError, TypeError, ValueError):
        return {}  # Then it is told once more.


def _took(url: str, notice: Mapping[str, Any]) -> bool:
    """Whether the receiver took it, asked by a thread: its socket's time-out begins anew with each byte."""
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(_post(url, notice)), name="notice", daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if not taken:
        _log.warning("the receiver of notices did not take one in %d seconds", _SECONDS)
    return taken == [True]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A notice that is sent on arrives as a GET without its body."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, notice: Mapping[str, Any]) -> bool:
    """Whether the receiver took it."""
    try:
        request = urllib.request.Request(  # noqa: S310  # http and https only
            check_receiver(url), json.dumps(notice).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"it answers {error.code}"
    except (OSError, ValueError, UsageError, http.client.HTTPException) as error:
        reason = type(error).__name__  # The text may hold the URL.
    _log.warning("the receiver of notices did not take one: %s", reason)
    return False
