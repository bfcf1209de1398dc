"""Publishing while others publish, covering while all wait, and workers that help a scan under way."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from ahi_catalog.connectors.catalog import layout
from ahi_catalog.connectors.errors import StoppedError
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.scan import Scan
from ahi_catalog.connectors.storage import MemoryStore
from ahi_catalog.connectors.windows import Window
from ahi_catalog.pipeline import jobs
from ahi_catalog.pipeline.runners import ScanWindow, ThreadRunner
from ahi_catalog.schemas import PhiPolicy
from tests.support.world import BORN, TODAY, World

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
    monkeypatch.setattr("ahi_catalog.pipeline.jobs.open_store", lambda *_: store)
    world.fill(80, step=timedelta(hours=12))
    report = world.sync()
    assert (report.new, report.partitions_written) == (80, 8)


def test_workers_with_nothing_to_do_help_a_scan_under_way(make_world: Callable[..., World]) -> None:
    """Of one window that no budget ends, others read parts; each request but one a cut brings new rows."""
    world = make_world(latency=0.02)
    world.fill(2_000, start=TODAY - timedelta(hours=12), step=timedelta(seconds=20))
    report = world.sync(start=TODAY - timedelta(hours=13), page_budget=1_000)
    assert report.windows > 3
    assert report.tally.requests < 40 + 3 * report.windows
    world.assert_catalog_equals_service()


class Full(ThreadRunner):
    """Threads that are said to be taken; data stores share them."""

    @property
    def is_full(self) -> bool:
        return True


def test_a_scan_is_not_cut_for_workers_that_are_not_free(make_world: Callable[..., World]) -> None:
    """Where scans wait for a thread, more of them would only cost requests."""
    world = make_world(latency=0.02)
    world.fill(1_000, start=TODAY - timedelta(hours=12), step=timedelta(seconds=40))
    settings = replace(world.settings, start=TODAY - timedelta(hours=13), page_budget=1_000)
    with Full(8) as runner:
        report = jobs.sync(settings, runner, threading.Event(), clock=world.service.now)
    assert (report.new, report.windows) == (1_000, 1)


def test_a_runner_is_full_while_scans_wait_for_a_thread(world: World) -> None:
    """Not when all have begun, nor when they are over."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def scan(*_: object) -> Scan:
        begun.release()
        assert gate.wait(_PATIENCE)
        raise StoppedError("asked to stop")

    def is_full_after(begin: int) -> bool:
        for _ in range(begin):
            assert begun.acquire(timeout=_PATIENCE)
        return runner.is_full

    scan_window = ScanWindow(world.settings, PhiPolicy(), scan)
    with ThreadRunner(2) as runner:
        asked = [runner.submit(scan_window, Field.CREATED_AT, Window(BORN, TODAY)) for _ in range(2)]
        assert not is_full_after(2)
        asked.append(runner.submit(scan_window, Field.CREATED_AT, Window(BORN, TODAY)))
        assert is_full_after(0)
        gate.set()
        assert not is_full_after(1)
        assert all(isinstance(scan.exception(_PATIENCE), StoppedError) for scan in asked)


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
    monkeypatch.setattr("ahi_catalog.pipeline.jobs.open_store", lambda *_: store)
    monkeypatch.setattr("ahi_catalog.pipeline.engine._COVER_AFTER", float("inf"))
    world.fill(300, step=timedelta(hours=12))
    report = world.sync(page_budget=1)
    assert report.new == 300
    assert len(store.coverages) == 2
    [(_, end)] = store.coverages[-1]
    assert report.watermark_after is not None
    assert end == f"{report.watermark_after:%Y-%m-%dT%H:%M:%SZ}"
