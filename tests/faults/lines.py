"""Ending a process at a line of its code: every step of a run has a name, and no hook is needed in the program."""

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2] / "ahi_catalog"
WATCHED = (
    "connectors/storage/local.py",
    "connectors/storage/private_files.py",
    "connectors/storage/s3.py",
    "connectors/catalog/publishing.py",
    "connectors/retrying.py",
    "connectors/catalog/catalog.py",
    "connectors/catalog/merge.py",
    "connectors/catalog/parquet.py",
    "connectors/healthimaging/metadata.py",
    "connectors/healthimaging/scan.py",
    "connectors/healthimaging/source.py",
    "connectors/iceberg/files.py",
    "connectors/iceberg/history.py",
    "connectors/iceberg/mirror.py",
    "pipeline/engine.py",
    "pipeline/checkpointer.py",
    "pipeline/lacks.py",
    "pipeline/metadata.py",
    "pipeline/sync.py",
    "pipeline/watch.py",
    "pipeline/run.py",
)
"""The modules that read, publish, cover and mirror."""

Trace = Callable[[FrameType, str, Any], Any]


@dataclass(frozen=True, slots=True, order=True)
class LinePoint:
    """Just before a line runs for the so-manieth time, in whatever thread."""

    file: str
    line: int
    occurrence: int

    def __str__(self) -> str:
        text = (ROOT / self.file).read_text().splitlines()[self.line - 1].strip()
        return f"{self.file}:{self.line} #{self.occurrence} ({text})"


def count_lines() -> Counter[tuple[str, int]]:
    """Count from now on how often each line of the watched modules runs."""
    counts: Counter[tuple[str, int]] = Counter()
    lock = threading.Lock()

    def ran(file: str, line: int) -> None:
        with lock:
            counts[file, line] += 1

    _watch({str(ROOT / name): name for name in WATCHED}, ran)
    return counts


def signal_at(point: LinePoint, number: signal.Signals) -> None:
    """Send this process a signal when it gets to a point."""
    lock = threading.Lock()
    left = point.occurrence

    def ran(_: str, line: int) -> None:
        nonlocal left
        if line == point.line:
            with lock:
                left -= 1
                is_there = left == 0
            if is_there:
                # To this very thread, which then does not take another step.
                signal.pthread_kill(threading.get_ident(), number)

    _watch({str(ROOT / point.file): point.file}, ran)


def _watch(files: dict[str, str], ran: Callable[[str, int], None]) -> None:
    def on_line(frame: FrameType, event: str, _: Any) -> Trace:
        if event == "line":
            ran(files[frame.f_code.co_filename], frame.f_lineno)
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Trace | None:
        return on_line if frame.f_code.co_filename in files else None

    threading.settrace(on_call)
    sys.settrace(on_call)


def line_of(file: str, text: str, occurrence: int = 1) -> LinePoint:
    """The one line of a file that holds a text."""
    lines = (ROOT / file).read_text().splitlines()
    [found] = [number for number, line in enumerate(lines, start=1) if text in line]
    return LinePoint(file, found, occurrence)
