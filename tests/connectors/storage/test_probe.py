"""A catalog is only created where conditional writes hold; a store that pretends is found out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ahi_catalog.connectors.catalog import layout, open_catalog, open_or_create, open_store
from ahi_catalog.connectors.errors import StateError, StoreError
from ahi_catalog.connectors.storage import MemoryStore, Store
from ahi_catalog.connectors.storage.base import content_etag
from ahi_catalog.connectors.storage.probe import PROBES, probe


class ForgetfulStore(MemoryStore):
    """A store that can forget the condition of a put."""

    def overwrite(self, key: str, body: bytes) -> str:
        """Replace whatever is there."""
        with self._lock:
            self._objects[key] = body
        return content_etag(body)


class IgnoresIfNoneMatch(ForgetfulStore):
    """Creates over what is there."""

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        return self.overwrite(key, body) if expected is None else super().put(key, body, expected=expected)


class IgnoresIfMatch(ForgetfulStore):
    """Replaces whatever is there."""

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        return super().put(key, body, expected=None) if expected is None else self.overwrite(key, body)


class LetsTwoWin(ForgetfulStore):
    """Honours conditions, but not where two writers expect the same object."""

    def __init__(self) -> None:
        super().__init__()
        self._won: set[tuple[str, str]] = set()
        self._puts = 0

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        self._puts += 1
        if expected is not None and (key, expected) in self._won and self._puts > 4:
            return self.overwrite(key, body)
        etag = super().put(key, body, expected=expected)
        self._won.add((key, expected or ""))
        return etag


class RefusesIfMatch(MemoryStore):
    """Knows no object by its etag."""

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        return super().put(key, body, expected=expected and "none")


class LosesTheWinner(ForgetfulStore):
    """Says yes to one of many, and keeps another one's bytes."""

    _puts = 0

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        etag = super().put(key, body, expected=expected)
        self._puts += 1
        if self._puts > 2:
            self.overwrite(key, b"another")
        return etag


@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
def test_stores_that_honour_conditions_pass(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A catalog can be created, and one small object is left of the probe."""
    urls: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "local": lambda: open_store(str(tmp_path / "catalog")),
        "s3": lambda: open_store(request.getfixturevalue("s3_url")),
    }
    store = urls[kind]()
    open_or_create(store, None)
    assert len(list(store.entries(PROBES))) == 1
    open_or_create(store, None)
    assert len(list(store.entries(PROBES))) == 1


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (IgnoresIfNoneMatch(), "ignores If-None-Match"),
        (IgnoresIfMatch(), "ignores If-Match, "),
        (LetsTwoWin(), "ignores If-Match when several writers meet"),
        (LosesTheWinner(), "ignores If-Match when several writers meet"),
        (RefusesIfMatch(), "refuses a conditional write that should hold"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MemoryStore) else "",
)
def test_stores_that_pretend_are_refused(store: MemoryStore, says: str) -> None:
    """One line says what the store ignores and what to do, and no catalog is made."""
    with pytest.raises(StoreError, match=says) as refused:
        open_or_create(store, None)
    assert "\n" not in str(refused.value)
    assert store.get(layout.DESCRIPTION_KEY) is None


def test_a_real_server_that_pretends_is_found_out(pretending_url: str) -> None:
    """rclone's server takes both headers and ignores them."""
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        probe(open_store(pretending_url))


@pytest.mark.parametrize(("said", "is_read"), [(True, False), (False, True), ("yes", False)])
def test_a_catalog_of_a_single_writer_is_refused(said: object, *, is_read: bool) -> None:
    """An older version made such catalogs on stores without conditional writes; one line says what to do."""
    store = MemoryStore()
    open_or_create(store, None)
    found = store.get(layout.DESCRIPTION_KEY)
    assert found is not None
    body = json.dumps(json.loads(found.body) | {"single_writer": said}).encode()
    store.put(layout.DESCRIPTION_KEY, body, expected=found.etag)
    if is_read:
        open_catalog(store)
        return
    with pytest.raises(StateError, match="sync into a new catalog") as refused:
        open_catalog(store)
    assert "\n" not in str(refused.value)


def test_data_without_a_description_is_not_taken_for_a_new_catalog() -> None:
    """Its partition unit is unknown, and a second one beside it would double every row."""
    store = MemoryStore()
    store.put(f"image_sets/datastore_id={'0' * 32}/created_month=2024-01/image-sets.parquet", b"PAR1", expected=None)
    with pytest.raises(StateError, match=r"no _state/catalog\.json"):
        open_or_create(store, None)
    assert store.get(layout.DESCRIPTION_KEY) is None
