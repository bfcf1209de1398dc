"""What a terminal sees that a pipe does not: colours, and a status that keeps showing."""

import errno
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from ahi_catalog.cli.main import run
from tests.cli.test_cli import live, sync_arguments
from tests.report.conftest import publish_rows, row
from tests.support.world import World

PROGRAM = str(Path(sys.executable).with_name("ahi-catalog"))
COLOR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9)\d[;m]")


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Commands hear Ctrl-C, also where a shell runs these tests in the background, which makes all of it deaf."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def environment(**more: str) -> dict[str, str]:
    """Without credentials, so that the doctor has something to fix, and without habits of this machine."""
    dropped = ("AWS_", "NO_COLOR", "FORCE_COLOR", "TTY_", "COLORTERM", "CI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "TERM": "xterm-256color", "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent", **more}


def on_a_terminal(
    arguments: list[str], habits: dict[str, str] | None = None, until: Callable[[str], bool] | None = None
) -> tuple[int, str]:
    """The exit code, and what the command writes to a terminal; Ctrl-C when it has written enough."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([PROGRAM, *arguments], stdout=theirs, stderr=theirs, env=environment(**habits or {}))
    os.close(theirs)
    written = ""
    try:
        while chunk := _read(ours):
            written += chunk.decode(errors="replace")
            if until and until(written):
                process.send_signal(signal.SIGINT)
                until = None
    finally:
        os.close(ours)
    return process.wait(30), written


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError as error:
        # Linux says so when the other end is closed.
        if error.errno != errno.EIO:
            raise
        return b""


def doctor(folder: Path) -> list[str]:
    return ["doctor", "--catalog", str(folder), "--datastore-id", "0" * 32, "--no-prefect"]


def test_a_terminal_gets_colours_unless_it_says_no(tmp_path: Path) -> None:
    """Colours on a terminal; none with NO_COLOR, whatever its value, and none on a dumb one."""
    code, written = on_a_terminal(doctor(tmp_path))
    assert code == 1
    assert COLOR.search(written)
    for habit in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        _, plain = on_a_terminal(doctor(tmp_path), habit)
        assert "✗ fix" in plain
        assert not COLOR.search(plain)


def test_a_pipe_gets_no_colour_unless_it_asks(tmp_path: Path) -> None:
    """Not one escape sequence in a pipe; with FORCE_COLOR there are; NO_COLOR wins over it."""

    def piped(**more: str) -> str:
        done = subprocess.run(
            [PROGRAM, *doctor(tmp_path)], capture_output=True, text=True, env=environment(**more), check=False
        )
        return done.stdout

    assert "\x1b" not in piped()
    assert COLOR.search(piped(FORCE_COLOR="1"))
    assert not COLOR.search(piped(FORCE_COLOR="1", NO_COLOR="1"))


def test_a_status_that_is_watched_ends_well_with_ctrl_c(tmp_path: Path) -> None:
    """On a terminal it shows the catalog anew, by its lag, and Ctrl-C ends it with code 0 and no trace."""
    publish_rows(tmp_path, [row(number) for number in range(12)])
    arguments = ["status", "--catalog", str(tmp_path), "--watch", "0.1"]
    code, written = on_a_terminal(arguments, until=lambda text: len(set(re.findall(r"days, ([\d:]+)", text))) >= 3)
    assert code == 0
    assert "Traceback" not in written
    assert "Interrupted" not in written


def test_watching_is_for_terminals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe, or as JSON, it ends with code 2 and says what to do instead."""
    publish_rows(tmp_path, [row(1)])
    for more in ([], ["--json"]):
        assert run(["status", "--catalog", str(tmp_path), "--watch", *more]) == 2
        assert "status --json" in capsys.readouterr().err


def test_ctrl_c_is_how_the_embedded_service_ends() -> None:
    """`emulate` serves until Ctrl-C, which is no failure: code 0, and nothing to resume."""
    code, written = on_a_terminal(["emulate", "--rows", "100", "--port", "0"], until=lambda seen: "sync" in seen)
    assert code == 0
    assert "Serving data store" in written
    assert "Interrupted" not in written


def test_what_the_embedded_service_prints_points_boto3_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain client that has the variables searches there, though the model puts `runtime-` before the host."""
    found: list[int] = []

    def searched(seen: str) -> bool:
        if not (told := re.search(r"--datastore-id (\w{32})\s", seen)):
            return False
        for name, value in re.findall(r"(AWS_\w+)=(\S+)", seen):
            monkeypatch.setenv(name, value)
        answer = boto3.client("medical-imaging").search_image_sets(datastoreId=told[1], maxResults=3)
        found.append(len(answer["imageSetsMetadataSummaries"]))
        return True

    assert on_a_terminal(["emulate", "--rows", "100", "--port", "0"], until=searched)[0] == 0
    assert found == [3]


def test_a_second_ctrl_c_ends_at_once(make_world: Callable[..., World]) -> None:
    """It waits for no request under way: the first one asks to stop, the second one ends the process with code 130."""
    world = live(make_world(latency=100))
    command = [PROGRAM, *sync_arguments(world, "--start", "2024-01-01")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    while not sum(world.service.counters.requests.values()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again stops at once" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(50) == 130
    assert process.stderr.read() == "Interrupted; what was published by then stays.\n"
