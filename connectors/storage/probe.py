"""Whether a store keeps its word: conditional writes that hold, also where several writers meet.

Some S3-compatible servers accept ``If-Match`` and ``If-None-Match`` and ignore them; there, of two runs that
publish the same partition, one would lose its rows. So a catalog is only created where a probe of a few small
writes shows that they hold. A server that lets two writers win once in a hundred times is not found out.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ahi_catalog.connectors.errors import ConflictError, StoreError
from ahi_catalog.connectors.storage.base import Store

PROBES: Final = "_state/probe/"
"""Where probes leave their one small object each; a store cannot delete, so that a run needs no such permission."""

_WRITERS: Final = 4
_ROUNDS: Final = 3


def probe(store: Store, key: str | None = None) -> None:
    """Return where conditional writes hold.

    Args:
        store: Where a catalog shall be created.
        key: The small object that is written again and again, and left; None: one of its own under `PROBES`.

    Raises:
        StoreError: They do not hold, or the store cannot be used at all; says what to do.
    """
    key = key or f"{PROBES}{uuid.uuid4().hex[:12]}"
    found = store.get(key)
    first = store.put(key, _body(), expected=found.etag if found else None)
    if _is_written(store, key, expected=None):
        raise _ignores(store, "If-None-Match")
    if not _is_written(store, key, expected=first):
        raise StoreError(f"{store.url}: the store refuses a conditional write that should hold; use another store")
    if _is_written(store, key, expected=first):
        raise _ignores(store, "If-Match")
    for _ in range(_ROUNDS):
        _race(store, key)


def _race(store: Store, key: str) -> None:
    found = store.get(key)
    if found is None:
        raise StoreError(f"{store.url}: the store does not find what was written to it just now")
    bodies = [_body() for _ in range(_WRITERS)]
    with ThreadPoolExecutor(_WRITERS) as writers:
        won = list(writers.map(lambda body: _is_written(store, key, body, expected=found.etag), bodies))
    survivor = store.get(key)
    if sum(won) != 1 or survivor is None or survivor.body != bodies[won.index(True)]:
        raise _ignores(store, "If-Match when several writers meet")


def _is_written(store: Store, key: str, body: bytes | None = None, *, expected: str | None) -> bool:
    try:
        store.put(key, body or _body(), expected=expected)
    except ConflictError:
        return False
    return True


def _body() -> bytes:
    # Never the same twice: a put of the bytes that are there counts as done.
    return f"written by ahi-catalog to see whether writes are conditional, {uuid.uuid4().hex}\n".encode()


def _ignores(store: Store, condition: str) -> StoreError:
    return StoreError(
        f"{store.url}: the store ignores {condition}, so runs side by side could lose rows; use a store that honours "
        "conditional writes, as Amazon S3 does"
    )
