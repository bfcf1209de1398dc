"""A watch with a queue under faults: messages lost, doubled, late, shuffled and false, and everything away in turn."""

import json
import random
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta

import pytest

from ahi_catalog.connectors.events import Queue, open_queue
from ahi_catalog.pipeline import watch
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.inbox import Inbox
from ahi_catalog.pipeline.run_report import RunReport
from tests.support.event_queue import EventQueue, envelope
from tests.support.world import TODAY, Script, World, summary

CREATED, UPDATED, DELETED = "Image Set Created", "Image Set Updated", "Image Set Deleted"
PASSES, QUIET = 45, 15


class ScriptedQueue(Script):
    """A wake that takes in what is on a real queue when its pass is over, and moves the clock in place of waiting."""

    def __init__(self, world: World, url: str, between: Callable[[int], object], passes: int) -> None:
        self.stop = threading.Event()
        super().__init__(world.service, self.stop, between, passes)
        self.inbox = Inbox(url, {world.datastore_id})
        self._mailbox = self.inbox.mailbox(world.datastore_id)
        self.inbox._queue = open_queue(url)
        self.receipts: set[str] = set()

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        while not self.stop.is_set() and self.inbox._receive(0, self.stop):
            self.receipts |= {event.receipt for event in self._mailbox._arrived}

    def deleted(self) -> list[str]:
        return self._mailbox.deleted()

    def awaited(self) -> list[str]:
        return self._mailbox.awaited()

    def published(self, waiting: Collection[str], report: RunReport) -> None:
        self._mailbox.published(waiting, report)


class Chaos:
    """What happens in a data store between two passes, and what of it the queue tells: by a seed.

    Args:
        world: The data store.
        queue: The queue.
        seed: Of the choices.
    """

    def __init__(self, world: World, queue: EventQueue, seed: int) -> None:
        self._world, self._queue = world, queue
        self._random = random.Random(seed)
        self._there = [row["imageSetId"] for row in world.service.rows(world.datastore_id)]
        self._late: list[tuple[str, str]] = []
        self.useless = 0
        """Messages that are malformed, or of another data store."""
        self.slandered: set[str] = set()
        """Image sets that were told to be deleted, and were not."""
        self.script: ScriptedQueue | None = None

    def __call__(self, number: int) -> None:
        assert self.script is not None
        if self._random.random() < 0.3 or number >= PASSES - QUIET:
            self._queue.redeliver(sorted(self.script.receipts))
            self.script.receipts.clear()
        if number < PASSES - QUIET:
            self._tell(self._happen(number))
            self._break()
        elif number == PASSES - QUIET:
            self._repair()
            self._queue.tell(DELETED, self._world.datastore_id, *(name for what, name in self._late if what == DELETED))

    def _happen(self, number: int) -> list[tuple[str, str]]:
        """Create, update and delete image sets; the events of that, with those that are late."""
        world, rng, told = self._world, self._random, self._late
        for index in range(rng.randrange(4)):
            new = summary(f"p{number:03d}x{index}", world.service.now() - timedelta(seconds=rng.randrange(30)))
            world.service.insert(world.datastore_id, [new])
            self._there.append(new["imageSetId"])
            told.append((CREATED, new["imageSetId"]))
        for _ in range(rng.randrange(3)):
            changed = rng.choice(self._there)
            world.service.update(world.datastore_id, changed, {"DICOMTags": {"DICOMStudyId": f"{number}"}})
            told.append((UPDATED, changed))
        for _ in range(rng.randrange(3)):
            gone = self._there.pop(rng.randrange(len(self._there)))
            world.service.delete(world.datastore_id, gone)
            # A deletion is told for sure, if late and more than once: of other losses the search tells.
            told += [(DELETED, gone)] * rng.randint(1, 2)
        if rng.random() < 0.1:
            self.slandered.add(rng.choice(self._there))
            told.append((DELETED, rng.choice(sorted(self.slandered))))
        return told

    def _tell(self, told: list[tuple[str, str]]) -> None:
        """Some of the events, in no order; of those that are no deletion some never."""
        rng = self._random
        rng.shuffle(told)
        held = rng.randrange(len(told) + 1)
        sent = [each for each in told[:held] if each[0] == DELETED or rng.random() < 0.8]
        self._queue.send(*(json.dumps(envelope(what, self._world.datastore_id, name)) for what, name in sent))
        self._late = told[held:]
        if rng.random() < 0.1:
            self.useless += 2
            self._queue.send("not an event", json.dumps(envelope(DELETED, "f" * 32, self._there[0])))

    def _break(self) -> None:
        self._repair()
        match self._random.randrange(6):
            case 0:
                self.queue._url += "-away"
            case 1:
                operation = self._random.choice(["SearchImageSets", "GetImageSet"])
                asked = self._world.service.counters.requests.get(operation, 0)
                self._world.service.faults.add("503", at=asked + 1, operation=operation)

    def _repair(self) -> None:
        self.queue._url = self._queue.url

    @property
    def queue(self) -> Queue:
        assert self.script is not None
        assert self.script.inbox._queue is not None
        return self.script.inbox._queue


@pytest.mark.parametrize(
    ("seed", "options"),
    [(1, {}), (2, {"visibility_lag": 45.0}), (3, {"deleted_is_gone": True, "visibility_lag": 45.0})],
    ids=str,
)
def test_nothing_is_lost_doubled_or_left_that_is_deleted(
    make_world: Callable[..., World], event_queue: EventQueue, seed: int, options: dict[str, float]
) -> None:
    """After quiet passes the catalog equals the service, and on the queue is left what holds no event of ours."""
    world = make_world(**options)
    world.fill(400)
    world.fill(100, start=TODAY - timedelta(minutes=50), step=timedelta(seconds=30), prefix="young")
    world.service.advance(timedelta(minutes=2))
    chaos = Chaos(world, event_queue, seed)
    chaos.script = ScriptedQueue(world, event_queue.url, chaos, PASSES)
    settings = replace(world.settings, max_attempts=1)
    with open_threads(8) as executor:
        report = watch.watch(settings, executor, chaos.script.stop, wake=chaos.script, clock=world.service.now)
    world.assert_catalog_equals_service()
    assert report.failed_passes
    assert report.removed
    event_queue.redeliver(sorted(chaos.script.receipts))
    left = open_queue(event_queue.url).receive(0.1, threading.Event())
    assert {event.image_set_id for event in left} <= chaos.slandered
    assert event_queue.left() - len(left) == chaos.useless
