"""A run on the terminal: a bar while it goes on. Imported where there is a terminal only, for rich takes its time."""

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from ahi_catalog.pipeline.observers import Progress
from ahi_catalog.pipeline.run_report import RunReport

_SHOWN_OF_ID: Final = 8


class Bars:
    """Shows how far runs are, on stderr, a bar for each data store; a context manager.

    Args:
        is_one_of_many: Whether several data stores are read, so that each bar says which it is for.
    """

    def __init__(self, *, is_one_of_many: bool) -> None:
        self._is_one_of_many = is_one_of_many
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rows]:,} image sets"),
            TextColumn("{task.fields[requests]:,} requests"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._starting = self._add("starting")
        self._tasks: dict[str, TaskID] = {}

    def progressed(self, progress: Progress) -> None:
        name = progress.datastore_id
        if name not in self._tasks:
            self._tasks[name] = self._add(progress.phase)
            self._hide(self._starting)
        self._bar.update(
            self._tasks[name],
            description=f"{name[:_SHOWN_OF_ID]}… {progress.phase}" if self._is_one_of_many else progress.phase,
            completed=progress.seconds_done,
            total=progress.seconds_total or None,
            rows=progress.rows,
            requests=progress.requests,
        )

    def finished(self, report: RunReport) -> None:
        if self._is_one_of_many:
            self._hide(self._tasks.get(report.datastore_id))

    def _add(self, description: str) -> TaskID:
        return self._bar.add_task(description, rows=0, requests=0, total=None)

    def _hide(self, bar: TaskID | None) -> None:
        if bar is not None:
            self._bar.update(bar, visible=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
