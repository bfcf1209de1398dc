"""A warm process of one thread that forks a child for each run, so that a kill costs tenths of a second.

Started by `Zygote`; takes run specifications from a pipe, answers process ids and, when asked, how they ended.
"""

import gc
import os
import signal
import subprocess
import sys
import threading
from multiprocessing import connection
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Self

_ROOT = Path(__file__).parents[2]
_LONGEST = 120.0


class Child:
    """A run in a process of its own."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._ended = os.pidfd_open(pid)
        self._status: int | None = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        try:
            signal.pidfd_send_signal(self._ended, number)
        except ProcessLookupError:
            return

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._status is None and not connection.wait([self._ended], 0)

    def wait_until_stopped(self) -> bool:
        """Whether it stands still (SIGSTOP); False where it ended before."""
        while not connection.wait([self._ended], 0.002):
            if Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
        return False

    def wait(self) -> int:
        """How it ended: its exit code, or the negative number of the signal that ended it."""
        if self._status is None:
            if not connection.wait([self._ended], _LONGEST):
                self.send(signal.SIGKILL)
                raise AssertionError("a run has not ended within two minutes")
            self._status = self._zygote.reap(self.pid)
            os.close(self._ended)
        return self._status


class Zygote:
    """The warm process; a context manager. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", "tests.faults.zygote", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=_ROOT, pass_fds=[theirs.fileno()])
        theirs.close()

    def start(self, spec: object) -> Child:
        """Start a run."""
        with self._lock:
            self._pipe.send(spec)
            return Child(self, self._pipe.recv())

    def reap(self, pid: int) -> int:
        """How an ended child ended."""
        with self._lock:
            self._pipe.send(pid)
            status: int = self._pipe.recv()
            return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _serve(pipe: Connection) -> None:
    # Imported here: the side that starts this process needs none of it.
    import pandas as pd  # noqa: PLC0415  # Arrow imports it when it first meets a time with a zone

    from tests.faults import child, warm  # noqa: PLC0415

    assert pd.__name__ in sys.modules

    warm.install()
    gc.collect()
    gc.freeze()
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            os._exit(0)
        if isinstance(asked, int):
            pipe.send(os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1]))
            continue
        child.prepare(asked)
        pid = os.fork()
        if pid:
            pipe.send(pid)
            continue
        pipe.close()
        os._exit(child.run(asked))


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
