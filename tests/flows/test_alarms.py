"""On a real Prefect server: events of runs arrive, alarms go off, other flows run, and nothing of it harms a run."""

import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prefect.assets import Asset
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from ahi_catalog.flows.events import asset_key
from tests.support.prefect_server import ROOT, end_of_run, prefect, running, running_prefect_server, start_run, wait_for
from tests.support.world import BORN, World, summary

AUTOMATIONS = ROOT / "deploy/automations.yaml"
COMMAND = str(Path(sys.executable).with_name("ahi-catalog"))
CONSUMER = """
import sys
from prefect import flow
from prefect.events import DeploymentEventTrigger

@flow
def consume():
    pass

if __name__ == "__main__":
    refreshed = {"prefect.resource.id": sys.argv[1]}
    trigger = DeploymentEventTrigger(expect={"prefect.asset.materialization.succeeded"}, match=refreshed)
    consume.serve("consumer", triggers=[trigger])
"""


@given(st.text(min_size=1, max_size=200) | st.just("s3://bucket/a b/ü[1]%/"))
def test_every_catalog_has_a_key_among_assets(catalog: str) -> None:
    """Wherever a catalog is, Prefect takes the key of its table."""
    assert Asset(key=asset_key(f"s3://bucket/{catalog}")).key.endswith("/image_sets")


def test_the_automations_are_what_they_are_called() -> None:
    """The file holds what its three names say, and each can be applied: no id of a block is needed."""
    stale, differs, crashed = yaml.safe_load(AUTOMATIONS.read_text("utf-8"))["automations"]
    assert (stale["trigger"]["posture"], stale["trigger"]["within"]) == ("Proactive", 2 * 3600)
    assert differs["trigger"]["expect"] == ["ahi-catalog.verify.differs"]
    assert crashed["trigger"]["expect"] == ["prefect.flow-run.Crashed"]
    assert all(each["actions"] == [{"type": "do-nothing"}] for each in (stale, differs, crashed))


@pytest.mark.prefect
@pytest.mark.timeout(900)
def test_alarms_go_off_and_other_flows_run(world: World, tmp_path: Path) -> None:  # noqa: PLR0915  # one server for all
    """A sync's event arrives and its refresh runs another flow; difference, crash and silence each set off their alarm.

    Each is told to a receiver, in one POST, however often the alarms were made. The silence is that after `serve` has
    ended, which pauses its schedules. Meanwhile its name is refused, to another catalog and to the same. A run whose
    events are not taken ends as it would have.
    """
    world.service.clock.unfreeze()
    world.fill(60)
    world.service.insert(world.datastore_id, [summary("unknown", BORN, KVP="120")])
    with running_prefect_server(tmp_path) as environment:
        alarms = yaml.safe_load(AUTOMATIONS.read_text("utf-8"))
        alarms["automations"][0]["trigger"]["within"] = 30
        made = tmp_path / AUTOMATIONS.name
        made.write_text(yaml.safe_dump(alarms), encoding="utf-8")
        assert "Created 3" in prefect(environment, "automation", "create", "--from-file", str(made))
        script = shutil.copy(AUTOMATIONS.with_name("alarms.py"), tmp_path)
        (tmp_path / "consumer.py").write_text(CONSUMER, encoding="utf-8")
        consumer = [sys.executable, "consumer.py", asset_key(str(world.catalog))]
        with (
            receiver() as (url, told),
            running(consumer, tmp_path, environment, name="consumer"),
            Feed(environment["PREFECT_API_URL"]) as feed,
            SyncPrefectClient(environment["PREFECT_API_URL"]) as client,
        ):
            renewed = _run([sys.executable, str(script)], environment | {"AHI_CATALOG_NOTIFY": url})
            assert renewed.stdout.count("tells the receiver") == 3, renewed.stderr
            ours = [each for each in client.read_automations() if each.name.startswith("ahi-catalog: ")]
            assert len(ours) == 3
            with running(serve(world, world.catalog), tmp_path, environment, name="serve") as serving:
                wait_for(lambda: {each.name for each in client.read_deployments()} >= {"consumer", "world"}, "both")
                world.service.faults.add("500", next=1, operation="SearchImageSets")
                synced = end_of_run(client, start_run(client, "sync/world", rate=1_000, burst=1_000))
                assert synced.state_name == "Completed"
                assert synced.name == f"sync of data store {world.datastore_id} for {world.catalog}"
                wait_for(lambda: _states(client, "consume") == ["Completed"], "the run of another flow")
                wait_for(lambda: bool(feed.of("ahi-catalog.sync.drifted")), "the events of the run")
                [event] = feed.of("ahi-catalog.sync.completed")
                assert event["payload"]["rows_changed"] == 61
                assert f"prefect.flow-run.{synced.id}" in {each["prefect.resource.id"] for each in event["related"]}
                assert not [word for word in ("Tester", "P-a0", "1.2.3.8") if word in json.dumps(feed.of("*"))]

                wait_for(lambda: _is_logged(client, synced, "that was try 1", "KVP"), "the logs of the run's threads")
                refused = _run(serve(world, tmp_path / "other"), environment)
                assert refused.returncode == 2
                assert f"sync/world is there already, for {world.catalog} " in refused.stderr
                again = _run(serve(world, world.catalog), environment)
                assert again.returncode == 1
                assert "sync/world is served already" in again.stderr

                world.service.delete(world.datastore_id, summary("unknown", BORN)["imageSetId"])
                differs = end_of_run(client, start_run(client, "verify/world", part="1/1", rate=1_000, burst=1_000))
                assert differs.state_name == "Differs"
                wait_for(lambda: feed.alarms("verify differs") == 1, "the alarm of a difference")

                slow = start_run(client, "backfill/world", start=f"{BORN:%Y-%m-%d}", end="2025-01-01", rate=0.01)
                wait_for(lambda: client.read_flow_run(slow).state_name == "Running", "a run under way")
                for child in _children(serving.pid):
                    os.kill(child, signal.SIGKILL)
                wait_for(lambda: feed.alarms("a run crashed") == 1, "the alarm of a crash")

                end_of_run(client, start_run(client, "sync/world", rate=1_000, burst=1_000))
                wait_for(lambda: len(feed.of("ahi-catalog.sync.completed")) == 2, "the event of the last sync")
                wait_for(lambda: not _children(serving.pid), "the end of the run's process")
                silences = feed.alarms("no sync completed for two hours")
            wait_for(lambda: len(told) >= 3, "the notices of the alarms")
            assert {text.partition("\n")[0] for text in told} == {each["name"] for each in alarms["automations"]}
            assert all(world.datastore_id in text or "backfill" in text for text in told), told
            assert "The schedules are paused" in (tmp_path / "serve.log").read_text("utf-8")
            wait_for(lambda: feed.alarms("no sync completed for two hours") > silences, "the alarm of silence")

            with server_without_events(environment["PREFECT_API_URL"]) as api:
                sync = [COMMAND, "sync", "--prefect", "--catalog", str(tmp_path / "again"), "--rate", "1000"]
                done = _run([*sync, "--datastore-id", world.datastore_id], environment | {"PREFECT_API_URL": api})
            assert done.returncode == 0, done.stderr
            assert _states(client, "sync").count("Completed") == 3
            assert len(feed.of("ahi-catalog.sync.completed")) == 2


class Feed(httpx.Client):
    """Prefect's feed of events."""

    def __init__(self, api: str) -> None:
        super().__init__(base_url=api)

    def of(self, name: str) -> list[dict[str, Any]]:
        """The events of a name."""
        asked = {"filter": {"event": {"prefix": ["ahi-catalog."]} if name == "*" else {"name": [name]}}}
        events: list[dict[str, Any]] = self.post("/events/filter", json=asked).raise_for_status().json()["events"]
        return events

    def alarms(self, name: str) -> int:
        """How often the action of an automation of ours was taken."""
        taken = self.of("prefect.automation.action.executed")
        return sum(each["resource"]["prefect.resource.name"] == f"ahi-catalog: {name}" for each in taken)


def serve(world: World, catalog: Path) -> list[str]:
    """The command that serves a catalog, under one name."""
    return [COMMAND, "serve", "--catalog", str(catalog), "--datastore-id", world.datastore_id, "--name", "world"]


@contextmanager
def receiver() -> Iterator[tuple[str, list[str]]]:
    """What takes notices as Slack does: its URL, and the texts that come."""
    texts: list[str] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/secret", texts
        server.shutdown()


@contextmanager
def server_without_events(api: str) -> Iterator[str]:
    """The same server, but connections that bring events are closed; its API's URL."""
    at = urlsplit(api)

    class Pass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            begin = self.request.recv(65_536)
            if b"/events/in" in begin.partition(b"\r\n")[0]:
                return
            with socket.create_connection((at.hostname, at.port)) as onward:
                onward.sendall(begin)
                back = threading.Thread(target=_copy, args=(onward, self.request), daemon=True)
                back.start()
                _copy(self.request, onward)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pass) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _states(client: SyncPrefectClient, flow: str) -> list[str | None]:
    found = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
    return [run.state_name for run in found if run.state_name != "Scheduled"]


def _is_logged(client: SyncPrefectClient, run: FlowRun, *texts: str) -> bool:
    logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
    return all(any(text in log.message for log in logs) for text in texts)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]
