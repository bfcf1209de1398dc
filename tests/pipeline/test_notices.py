"""Notices: one a change of state, counts only, and nothing of it can harm a run."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.errors import SourceError
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
