"""Notices: one a change of state, counts only, and nothing of it can harm a run."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.errors import SourceError, StoreError, UsageError
from ahi_catalog.connectors.settings import MetadataOptions
from ahi_catalog.emulator.errors import denied
from tests.pipeline.test_background import reading, settle
from tests.pipeline.test_metadata import RECENT
from tests.support.s3_stub import running_s3_stub
from tests.support.world import BORN, TODAY, World, summary

SECRET = "T0PSECRET"


class Receiver:
    """Takes notices, or refuses them with a status.

    Attributes:
        url: With a secret in it, as those of chat channels have.
        taken: What was posted.
        status: The answer.
    """

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.taken.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/{SECRET}"

    @property
    def states(self) -> list[tuple[str, str]]:
        """What was told, of what."""
        return [(notice["flow"], notice["state"]) for notice in self.taken]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that is asked by every run."""
    made = Receiver()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AHI_CATALOG_NOTIFY", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()


def fail(world: World) -> None:
    world.service.faults.add("access_denied", next=1)
    with pytest.raises(SourceError):
        world.sync()


def test_each_change_of_state_is_told_once(world: World, receiver: Receiver) -> None:
    """A sync that fails twice is told once, and so is the one that is well again; those that are well are silent."""
    world.fill(30)
    world.sync()
    assert receiver.taken == []
    for hours in (1, 2):
        world.service.clock.freeze(TODAY + timedelta(hours=hours))
        fail(world)
    for _ in range(2):
        world.sync()
    assert receiver.states == [("sync", "failed"), ("sync", "well")]
    assert "rows_read" in receiver.taken[-1]
    world.assert_catalog_equals_service()


def test_differences_and_drift_are_told(world: World, receiver: Receiver) -> None:
    """A verify that found something, and a field that the declaration does not know."""
    world.service.insert(world.datastore_id, [summary("a", BORN, KVP="120"), summary("b", BORN)])
    world.sync()
    world.service.delete(world.datastore_id, summary("b", BORN)["imageSetId"])
    world.verify()
    assert receiver.states == [("sync", "drifted"), ("verify", "differs")]


def test_a_check_is_told_once(world: World, receiver: Receiver) -> None:
    """A limit that is not met is named; asked again, nothing is said."""
    world.fill(10)
    world.sync()
    for _ in range(2):
        assert run(["check", "--catalog", str(world.catalog), "--max-lag", "1h"]) == 1
    assert [notice["failed"] for notice in receiver.taken] == [["lag"]]
    assert run(["check", "--catalog", str(world.catalog), "--max-gap", "0"]) == 0
    assert receiver.states == [("check", "failed"), ("check", "well")]


@pytest.mark.parametrize("how", ["refused", "away", "not a URL"])
def test_a_receiver_that_is_down_costs_a_run_nothing(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The run fails as it would have, the log does not show the URL, and the next run tells what was not taken."""
    world.fill(30)
    receiver.status = 503
    if how == "away":
        monkeypatch.setenv("AHI_CATALOG_NOTIFY", f"http://127.0.0.1:9/{SECRET}")
    elif how == "not a URL":
        monkeypatch.setenv("AHI_CATALOG_NOTIFY", f"{SECRET} and more")
    with caplog.at_level(logging.DEBUG):
        fail(world)
    assert "notices did not take one" in caplog.text
    assert SECRET not in caplog.text
    receiver.status = 200
    monkeypatch.setenv("AHI_CATALOG_NOTIFY", receiver.url)
    fail(world)
    assert receiver.states == [("sync", "failed")]
    world.sync()
    world.assert_catalog_equals_service()


def test_the_option_sets_the_receiver(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--notify` does what the variable does; a URL that is none is refused without being quoted."""
    monkeypatch.setenv("AHI_CATALOG_NOTIFY", "")
    world.fill(10)
    world.sync()
    arguments = ["check", "--catalog", str(world.catalog), "--max-lag", "1h", "--notify"]
    assert run([*arguments, receiver.url]) == 1
    assert receiver.states == [("check", "failed")]
    for url in ("ftp://x", "https://[hooks.example/x"):
        assert run([*arguments, url]) == 2


def test_metadata_that_keeps_failing_beside_a_watch_is_told(world: World, receiver: Receiver) -> None:
    """Once, at its second failure in a row, and once when it is well again; the passes go on all the time."""
    reading(world).fill(20, start=RECENT)
    store = world.service.datastore(world.datastore_id)
    describe = store.describe

    def refuse(_: object) -> bytes:
        raise denied()

    def between(number: int) -> None:
        settle()
        store.describe = refuse if number < 6 else describe

    between(0)
    assert world.watch(between, 9, with_metadata=True, every=timedelta(minutes=5)).failed_passes == 0
    assert receiver.states == [("metadata", "failed"), ("metadata", "well")]


def test_a_watch_that_cannot_begin_is_told(world: World, receiver: Receiver) -> None:
    """However often it is started again: once."""
    world.settings = replace(world.settings, metadata=MetadataOptions(keyword=("Nonsense",)))
    for _ in range(2):
        with pytest.raises(UsageError):
            world.watch(lambda _: None, 1, with_metadata=True)
    assert receiver.states == [("watch", "failed")]


def test_a_receiver_that_was_away_is_told_by_a_later_pass(world: World, receiver: Receiver) -> None:
    """That passes fail is told as soon as it can be, and once."""
    world.fill(30)

    def between(number: int) -> None:
        receiver.status = 503 if number < 5 else 200
        asked = world.service.counters.requests["SearchImageSets"]
        if number < 8:
            world.service.faults.add("500", at=asked + 1, operation="SearchImageSets")

    world.watch(between, 12, max_attempts=1)
    assert receiver.states == [("watch", "failed"), ("watch", "well")]


def test_a_store_that_cannot_be_read_keeps_nobody_from_being_told(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be what is wrong; a run that is well says nothing then."""
    with running_s3_stub() as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.endpoint)
        world.settings = replace(world.settings, catalog="s3://catalogs/x")
        world.fill(30)
        world.sync()
        stub.refuse = lambda _, key, __: (403, "AccessDenied", "") if "notices" in key else None
        world.sync()
        assert receiver.states == []
        stub.refuse = lambda *_: (403, "AccessDenied", "")
        with pytest.raises(StoreError):
            world.sync()
    assert receiver.states == [("sync", "failed")]
