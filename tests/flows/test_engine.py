"""Publishing while others publish, and covering while all wait."""

import json
import threading
from datetime import timedelta

import pytest

from connectors.catalog import layout
from connectors.catalog.store import MemoryStore
from tests.flows.conftest import World

_PATIENCE = 30.0


class Far(MemoryStore):
    """A store whose data objects are written when as many writers have come as it is worth having."""

    writers = 4

    def __init__(self) -> None:
        super().__init__()
        self._met = threading.Barrier(self.writers)

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        if key.startswith(layout.TABLE):
            self._met.wait(_PATIENCE)
        return super().put(key, body, expected=expected)


class Narrow(MemoryStore):
    """A store with room for one writer, whose second data object is written when the first is covered."""

    writers = 1

    def __init__(self) -> None:
        super().__init__()
        self._is_covered = threading.Event()
        self._is_first = True

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        if key.startswith(layout.TABLE) and not self._is_first:
            assert self._is_covered.wait(_PATIENCE)
        self._is_first &= not key.startswith(layout.TABLE)
        etag = super().put(key, body, expected=expected)
        if key.endswith("checkpoint.json") and json.loads(body)["coverage"]:
            self._is_covered.set()
        return etag


@pytest.mark.parametrize("store", [Far(), Narrow()], ids=["far", "narrow"])
def test_publishing_waits_for_no_other(world: World, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many objects as the store has writers are put at once, and what is published is covered meanwhile."""
    monkeypatch.setattr("flows.jobs.open_store", lambda *_: store)
    world.fill(80, step=timedelta(hours=12))
    report = world.sync()
    assert (report.new, report.partitions_written) == (80, 8)
