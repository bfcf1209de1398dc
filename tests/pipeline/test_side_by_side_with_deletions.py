"""What a run must not undo, hide or overlook that happens beside it: removals, lost objects, events of others."""

import threading
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from ahi_catalog.connectors.catalog import Batch, Published
from ahi_catalog.connectors.catalog.checkpoint import Checkpoint
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline import inbox, sync
from ahi_catalog.pipeline.deletions import remove_deleted
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.many import run_many
from ahi_catalog.pipeline.sink import Publisher
from tests.support.event_queue import EventQueue
from tests.support.reference import read_folder
from tests.support.world import BORN, TODAY, World, summary

GONE = "a0000003".rjust(32, "0")
REVISED = {"DICOMTags": {"DICOMStudyId": "revised"}}


def rows(catalog: Path) -> set[str]:
    """Ids of the image sets that have a row."""
    return set(read_folder(catalog))


def test_a_row_that_was_removed_does_not_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has read an image set publishes after another has removed it, and the removal stands."""
    world.fill(30)
    world.sync()
    world.service.advance(timedelta(days=2))
    world.service.update(world.datastore_id, GONE, REVISED)
    write = Publisher.write
    removed: list[str] = []

    def write_after_a_removal(publisher: Publisher, batch: Batch) -> Published:
        if not removed and GONE in batch.rows["image_set_id"].to_pylist():
            removed.append(GONE)
            world.service.delete(world.datastore_id, GONE)
            remove_deleted(publisher._run, [GONE], publisher)
            assert GONE not in rows(world.catalog)
        return write(publisher, batch)

    monkeypatch.setattr(Publisher, "write", write_after_a_removal)
    world.sync()
    assert removed
    assert GONE not in rows(world.catalog)


def test_a_watch_does_not_close_a_lost_object_by_one_row(world: World) -> None:
    """A change in a partition whose object was deleted is not published alone: all of its rows are read again."""
    world.fill(60, start=BORN, step=timedelta(minutes=5))

    def between(number: int) -> None:
        if number == 3:
            world.object(BORN.date()).unlink()
            world.service.update(world.datastore_id, GONE, REVISED)

    world.watch(between, 30, every=timedelta(seconds=60))
    told = world.sync().lost
    assert told or len(rows(world.catalog)) == 60
    assert len(rows(world.catalog)) in {0, 60}


def test_events_of_several_data_stores_reach_each(world: World, event_queue: EventQueue) -> None:
    """Whichever run of a process takes them from the queue, each waits until they are in."""
    other = world.service.create_datastore(name="other", created_at=BORN)
    world.service.insert(other, [summary("b1", BORN + timedelta(minutes=1)), summary("b2", BORN)])
    world.fill(20)
    ids = [world.datastore_id, other]

    def sync_both(queue: str | None) -> list[int]:
        job = partial(sync.sync, clock=world.service.now, inbox=inbox.Inbox(queue, ids))
        settings = replace(world.settings, queue=queue)
        with open_threads(8) as executor:
            results = run_many(job, settings, ids, threading.Event(), executor_for=lambda _: executor)
        return [result.report.removed for result in results if result.report]

    sync_both(None)
    for datastore_id, image_set_id in ((other, "b1".rjust(32, "0")), (world.datastore_id, GONE)):
        world.service.delete(datastore_id, image_set_id)
        event_queue.tell("Image Set Deleted", datastore_id, image_set_id)
    assert sync_both(event_queue.url) == [1, 1]
    assert event_queue.left() == 0


def test_the_watermark_waits_for_the_beginning() -> None:
    """Windows that are covered behind an uncovered beginning move no watermark."""
    later = Coverage([Window(BORN + timedelta(days=60), BORN + timedelta(days=90))])
    begun = Checkpoint(datastore_id="0" * 32, coverage=later, followed_to=TODAY, datastore_created_at=BORN)
    assert begun.watermark is None
    first = Window(BORN, BORN + timedelta(days=1))
    assert begun.with_coverage([first]).watermark == first.end
