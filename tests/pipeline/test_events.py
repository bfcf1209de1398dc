"""Events of a queue, end to end: deleted rows go whatever their age, and an event that lies changes nothing."""

import json
import logging
import queue
import random
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.errors import DamagedError
from ahi_catalog.pipeline import inbox, watch
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import RunReport
from tests.support.event_queue import EventQueue, envelope
from tests.support.reference import data_objects, read_folder
from tests.support.world import BORN, TODAY, World, summary

MakeWorld = Callable[..., World]
DELETED, CREATED = "Image Set Deleted", "Image Set Created"


def name(number: int) -> str:
    return f"a{number:07d}".rjust(32, "0")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto's short polls see the whole queue."""
    monkeypatch.setattr(inbox, "_DRAIN_SECONDS", 0)


@pytest.mark.parametrize("deleted_is_gone", [False, True], ids=["state-deleted", "not-found"])
def test_a_deleted_row_goes_whatever_its_age(
    make_world: MakeWorld, event_queue: EventQueue, *, deleted_is_gone: bool
) -> None:
    """Rows months behind the look-back are removed in one sync, each partition rewritten once; then nothing is left."""
    world = make_world(deleted_is_gone=deleted_is_gone)
    world.fill(3_000)
    world.sync()
    before = data_objects(world.catalog)
    gone = [name(number) for number in (0, 1, 700, 2_999)]
    for each in gone:
        world.service.delete(world.datastore_id, each)
    event_queue.tell(DELETED, world.datastore_id, *gone)
    report = world.sync(queue=event_queue.url)
    assert report.removed == 4
    world.assert_catalog_equals_service()
    assert event_queue.left() == 0
    after = data_objects(world.catalog)
    assert sum(after[key] != body for key, body in before.items()) == report.partitions_written == 3


def test_a_deleted_row_on_s3_is_found_by_its_id(make_world: MakeWorld, event_queue: EventQueue, s3_url: str) -> None:
    """Where the service has forgotten the image set, one reading of the catalog's ids finds its partition."""
    world = make_world(deleted_is_gone=True)
    world.fill(1_000)
    world.sync(catalog=s3_url)
    world.service.delete(world.datastore_id, name(500))
    event_queue.tell(DELETED, world.datastore_id, name(500))
    assert world.sync(catalog=s3_url, queue=event_queue.url).removed == 1
    assert world.verify(settings=replace(world.settings, catalog=s3_url)).unrepaired == 0


def test_an_event_that_the_service_does_not_confirm_changes_nothing(world: World, event_queue: EventQueue) -> None:
    """The row stays, and so does the message, to be told again."""
    world.fill(50)
    world.sync()
    event_queue.tell(DELETED, world.datastore_id, name(7))
    assert world.sync(queue=event_queue.url).removed == 0
    world.assert_catalog_equals_service()
    assert event_queue.left() == 1


def test_events_twice_late_and_out_of_order_change_nothing(world: World, event_queue: EventQueue) -> None:
    """Shuffled and doubled deliveries, of other data stores and malformed ones between them."""
    world.fill(500)
    world.sync()
    gone = [name(number) for number in range(0, 500, 49)]
    for each in gone:
        world.service.delete(world.datastore_id, each)
    told = [(DELETED, each) for each in gone * 2] + [("Image Set Deleting", each) for each in gone]
    told += [(CREATED, each) for each in [*gone, name(1), name(499)]] + [("Image Set Updated", name(1))]
    random.Random(7).shuffle(told)
    event_queue.send(*(json.dumps(envelope(what, world.datastore_id, each)) for what, each in told))
    event_queue.tell(DELETED, "f" * 32, name(1), name(2))
    event_queue.tell(DELETED, world.datastore_id, "f" * 32)
    event_queue.send("{", "[]")
    assert world.sync(queue=event_queue.url).removed == len(gone)
    world.assert_catalog_equals_service()
    # Left are what is malformed, and what is another's.
    assert event_queue.left() == 4
    event_queue.tell(DELETED, world.datastore_id, *gone)
    before = data_objects(world.catalog)
    assert world.sync(queue=event_queue.url).removed == 0
    assert data_objects(world.catalog) == before
    assert event_queue.left() == 4


def test_a_message_stays_until_its_image_set_is_published(make_world: MakeWorld, event_queue: EventQueue) -> None:
    """One that the search does not list yet is not told to be done; a later sync, which publishes it, does that."""
    world = make_world(visibility_lag=1200)
    world.fill(20)
    world.sync()
    young = summary("young", TODAY - timedelta(minutes=1))
    world.service.insert(world.datastore_id, [young])
    event_queue.tell(CREATED, world.datastore_id, young["imageSetId"])
    world.sync(queue=event_queue.url)
    assert young["imageSetId"] not in read_folder(world.catalog)
    assert event_queue.left() == 1
    world.service.advance(timedelta(hours=1))
    event_queue.tell(CREATED, world.datastore_id, young["imageSetId"])  # as the queue would, in a while
    world.sync(queue=event_queue.url)
    world.assert_catalog_equals_service()
    assert event_queue.left() == 1


def test_an_image_set_that_the_search_still_lists_stays_out(make_world: MakeWorld, event_queue: EventQueue) -> None:
    """Deleted while it is being published: the search lists it after the service has confirmed its deletion."""
    world = make_world(visibility_lag=3600)
    world.fill(100)
    world.service.advance(timedelta(hours=2))
    world.sync()
    world.service.delete(world.datastore_id, name(99))
    event_queue.tell(DELETED, world.datastore_id, name(99))
    assert world.sync(look_back=timedelta(days=400), queue=event_queue.url).removed == 1
    world.assert_catalog_equals_service()
    assert event_queue.left() == 0


def test_without_its_queue_a_sync_goes_on(
    world: World, event_queue: EventQueue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, and the catalog is up to date."""
    world.fill(50)
    with caplog.at_level(logging.WARNING):
        world.sync(queue=f"{event_queue.url}-x")
        world.assert_catalog_equals_service()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
        world.fill(50, prefix="b", start=BORN + timedelta(days=30))
        world.sync(queue=event_queue.url, look_back=timedelta(days=400))
    world.assert_catalog_equals_service()
    told = [record.message for record in caplog.records if "runs go on without events" in record.message]
    assert len(told) == 2
    assert "there is no such queue" in told[0]
    assert "cannot be reached" in told[1]


def test_a_damaged_partition_keeps_the_message(make_world: MakeWorld, event_queue: EventQueue) -> None:
    """What could not be removed is told again, after a repair."""
    world = make_world(deleted_is_gone=True)
    world.fill(300)
    world.sync()
    world.service.delete(world.datastore_id, name(5))
    event_queue.tell(DELETED, world.datastore_id, name(5))
    world.object(BORN.date()).write_bytes(b"damaged")
    with pytest.raises(DamagedError, match="verify it with `repair`"):
        world.sync(queue=event_queue.url)
    assert event_queue.left() == 1


def test_an_event_wakes_a_watch(world: World, event_queue: EventQueue) -> None:
    """One that would pass once an hour publishes what an event tells of at once, and deletes its message."""
    world.fill(50)
    inbox_, stop = inbox.Inbox(event_queue.url, {world.datastore_id}), threading.Event()
    mailbox = inbox_.mailbox(world.datastore_id)
    passes: queue.SimpleQueue[int] = queue.SimpleQueue()
    published = mailbox.published

    def publish_and_tell(waiting: Collection[str], report: RunReport) -> None:
        published(waiting, report)
        passes.put(report.events.received)

    with pytest.MonkeyPatch.context() as patch, open_threads(8) as executor, ThreadPoolExecutor(1) as background:
        patch.setattr(mailbox, "published", publish_and_tell)
        settings = replace(world.settings, queue=event_queue.url, every=timedelta(hours=1))
        watching = background.submit(watch.watch, settings, executor, stop, inbox=inbox_, clock=world.service.now)
        try:
            assert passes.get(timeout=60) == 0
            world.service.insert(world.datastore_id, [summary("new", TODAY - timedelta(seconds=1))])
            event_queue.tell(CREATED, world.datastore_id, "new".rjust(32, "0"))
            event_queue.tell(CREATED, "f" * 32, name(1))
            assert passes.get(timeout=60) == 1
            world.assert_catalog_equals_service()
        finally:
            stop.set()
        assert watching.result(timeout=60).passes == 2
    assert event_queue.left() == 1


def test_a_watch_that_has_ended_holds_up_no_other(world: World, event_queue: EventQueue) -> None:
    """Its data store's events stay on the queue, and those of another data store wake its watch."""
    other = "f" * 32
    shared, stop = inbox.Inbox(event_queue.url, {world.datastore_id, other}), threading.Event()
    ended, goes_on = shared.mailbox(other), shared.mailbox(world.datastore_id)
    for _ in range(2):
        ended.deleted()
    assert ended.is_failing
    shared.close(other)
    event_queue.tell(CREATED, other, name(1))
    event_queue.tell(CREATED, world.datastore_id, name(2))
    shared.listen(stop)
    assert goes_on.woken.wait(60)
    stop.set()
    goes_on.deleted()
    assert goes_on.awaited() == [name(2)]
    assert ended.held == 0
    assert event_queue.left() == 2


def test_of_a_very_full_queue_a_sync_takes_a_part(
    world: World, event_queue: EventQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is for the next one, which comes before messages were delivered too often."""
    monkeypatch.setattr(inbox, "_MOST", 25)
    world.fill(200)
    world.sync()
    gone = [name(number) for number in range(60)]
    for each in gone:
        world.service.delete(world.datastore_id, each)
    event_queue.tell(DELETED, world.datastore_id, *gone)
    taken = []
    while event_queue.left():
        taken.append(world.sync(queue=event_queue.url).events.received)
    assert taken == [30, 30]
    world.assert_catalog_equals_service()


def test_events_of_all_data_stores_are_taken_where_all_are_read(
    world: World, event_queue: EventQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the settings file names one: `--all` counts."""
    other = world.service.create_datastore(name="other", created_at=BORN)
    world.service.insert(other, [summary("b1", BORN), summary("b2", BORN)])
    world.fill(20)
    (tmp_path / "ahi-catalog.toml").write_text(f'datastore-id = ["{world.datastore_id}"]\nrate = 1000\n')
    monkeypatch.chdir(tmp_path)
    sync = ["sync", "--catalog", str(world.catalog), "--all", "--no-prefect", "--queue", event_queue.url]
    assert run(sync) == 0
    gone = summary("b1", BORN)["imageSetId"]
    world.service.delete(other, gone)
    event_queue.tell(DELETED, other, gone)
    assert run(sync) == 0
    assert event_queue.left() == 0
