"""Publishing while others publish, committing while all wait, and idle workers that take parts of a window."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from ahi_catalog.connectors.storage import MemoryStore
from ahi_catalog.schemas import IMAGE_SETS
from tests.support.world import TODAY, World

_PATIENCE = 30.0


class Far(MemoryStore):
    """A store whose data objects are written when as many writers have come as it is worth having."""

    writers = 4

    def __init__(self) -> None:
        super().__init__()
        self._met = threading.Barrier(self.writers)

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        if key.startswith(IMAGE_SETS.folder):
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
        if key.startswith(IMAGE_SETS.folder) and not self._is_first:
            assert self._is_covered.wait(_PATIENCE)
        self._is_first &= not key.startswith(IMAGE_SETS.folder)
        etag = super().put(key, body, expected=expected)
        if key.endswith("checkpoint.json") and json.loads(body)["coverage"]:
            self._is_covered.set()
        return etag


@pytest.mark.parametrize("store", [Far(), Narrow()], ids=["far", "narrow"])
def test_publishing_waits_for_no_other(world: World, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many objects as the store has writers are put at once, and what is published is covered meanwhile."""
    monkeypatch.setattr("ahi_catalog.pipeline.run.open_store", lambda *_: store)
    world.fill(80, step=timedelta(hours=12))
    report = world.sync()
    assert (report.new, report.partitions_written) == (80, 8)


def test_idle_workers_take_parts_of_a_window_that_was_handed_back(make_world: Callable[..., World]) -> None:
    """One window spreads over the workers, and each split costs about a request."""
    world = make_world(latency=0.02)
    world.fill(2_000, start=TODAY - timedelta(hours=12), step=timedelta(seconds=20))
    report = world.sync(start=TODAY - timedelta(hours=13))
    assert report.windows > 3
    assert report.counts.requests < 40 + 2 * report.windows
    world.assert_catalog_equals_service()


class Counting(MemoryStore):
    """A store that counts how often the checkpoint's coverage grows."""

    def __init__(self) -> None:
        super().__init__()
        self.coverages: list[list[list[str]]] = []

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        etag = super().put(key, body, expected=expected)
        if key.endswith("checkpoint.json"):
            coverage = json.loads(body)["coverage"]
            if coverage != (self.coverages or [[]])[-1]:
                self.coverages.append(coverage)
        return etag


def test_the_checkpoint_is_written_now_and_then_and_at_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However rarely: what is published first is covered at once, and everything before the run ends."""
    store = Counting()
    monkeypatch.setattr("ahi_catalog.pipeline.run.open_store", lambda *_: store)
    monkeypatch.setattr("ahi_catalog.pipeline.engine._COMMIT_SECONDS", float("inf"))
    world.fill(300, step=timedelta(hours=12))
    report = world.sync(page_budget=1)
    assert report.new == 300
    assert len(store.coverages) == 2
    [(_, end)] = store.coverages[-1]
    assert report.watermark_after is not None
    assert end == f"{report.watermark_after:%Y-%m-%dT%H:%M:%SZ}"
