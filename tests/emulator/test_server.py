"""The server as a whole: starting, stopping, threads, processes."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from typing import Any

import pytest

from ahi_catalog.emulator import Emulator, Service, ServiceOptions, listen


def test_rows_can_be_changed_while_pages_are_read(start: Any, summary: Any) -> None:
    """Inserts, updates and deletes from other threads never break a walk: rows that stay are seen once."""
    running = start(count=200)
    store, service = running.store, running.service

    def disturb(first: int) -> None:
        for number in range(first, first + 100):
            service.insert(store, [summary(number)])
            service.update(store, f"{number:032x}", {"isPrimary": None})
            service.delete(store, f"{number:032x}")

    threads = [threading.Thread(target=disturb, args=(first,)) for first in (1000, 2000)]
    for thread in threads:
        thread.start()
    walked = running.numbers(sort={"sortField": "createdAt", "sortOrder": "ASC"})
    for thread in threads:
        thread.join()
    assert [number for number in walked if number < 1000] == list(range(200))


def test_a_stopped_server_leaves_its_port(running: Any) -> None:
    """After the with block the port is free again, and the url is gone."""
    service = Service()
    with Emulator(service) as first:
        port = int(first.url.rpartition(":")[2])
    with pytest.raises(RuntimeError, match="not running"):
        _ = first.url
    with Emulator(service, port=port) as second:
        assert second.url == f"http://127.0.0.1:{port}"
    assert running.numbers()


def test_a_stalled_request_does_not_hold_up_the_stop() -> None:
    """Leaving the with block ends a request that would be held for minutes."""
    service = Service(ServiceOptions(latency=300.0))
    store = service.create_datastore(name="slow")
    with Emulator(service) as emulator:
        request = urllib.request.Request(  # noqa: S310 - our own loopback server
            f"{emulator.url}/datastore/{store}",
            headers={
                "x-amz-date": "20260501T120000Z",
                "authorization": "AWS4-HMAC-SHA256 Credential=AKID/20260501/us-east-1/medical-imaging/aws4_request, "
                f"SignedHeaders=host, Signature={'0' * 64}",
            },
        )
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(request, timeout=0.05)  # noqa: S310 - our own loopback server


def test_nothing_is_logged(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No request, not even one that breaks its connection, leaves a log line that could hold its content."""
    caplog.set_level("INFO")
    running.service.faults.add("reset")
    with pytest.raises(ConnectionError):
        running.raw_search({"filters": []})
    running.raw_search()
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "ahi_catalog"))]


SERVE = """
from ahi_catalog.emulator import Service, ServiceOptions, listen, run_forever
listening = listen(0)
print(listening.getsockname()[1], flush=True)
service = Service(ServiceOptions(rate=None))
service.create_datastore(name="alone")
run_forever(service, listening)
"""


def test_the_server_runs_on_its_own() -> None:
    """run_forever serves in the foreground, says nothing, and ends on SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert re.fullmatch(r"\d+", port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_control/clock", timeout=20) as answer:
            assert b'"now"' in answer.read()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (out, err) == ("", "")


@pytest.mark.parametrize(
    "options", [{"rate": 0.0}, {"burst": 0}, {"latency": -1.0}, {"visibility_lag": -1.0}, {"token_ttl": -1.0}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    """Rates, bursts and seconds must make sense."""
    with pytest.raises(ValueError, match="give"):
        ServiceOptions(**options)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.0.2.1", "example.org"])  # noqa: S104  # refused
def test_no_address_but_loopback_is_served(host: str) -> None:
    """The service is no secure server, and does not listen where others could reach it."""
    with pytest.raises(ValueError, match="no secure server"):
        listen(0, host)
