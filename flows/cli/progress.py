"""A run on the terminal: a bar while it goes on; its report is kept for afterwards."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from flows.observers import Progress
from flows.report import RunReport


class TerminalObserver:
    """Shows how far a run is, on stderr where that is a terminal; a context manager.

    Attributes:
        report: Of the run, when it has ended.
    """

    def __init__(self) -> None:
        self.report: RunReport | None = None
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rows]:,} image sets"),
            TextColumn("{task.fields[requests]:,} requests"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._bar.add_task("starting", rows=0, requests=0, total=None)

    def progressed(self, progress: Progress) -> None:
        self._bar.update(
            self._task,
            description=progress.phase,
            completed=progress.seconds_done,
            total=progress.seconds_total or None,
            rows=progress.rows,
            requests=progress.requests,
        )

    def finished(self, report: RunReport) -> None:
        self.report = report

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
