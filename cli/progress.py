"""A run while it goes on: a bar on a terminal, a line a minute elsewhere."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import click

from ahi_catalog.connectors.catalog.freshness import in_words
from ahi_catalog.pipeline.observers import Progress
from ahi_catalog.pipeline.run_report import RunReport

if TYPE_CHECKING:
    from rich.progress import TaskID

_SHOWN_OF_ID: Final = 8
_LINE_SECONDS: Final = 60.0


class Lines:
    """Says how far runs are, on stderr, in a line a minute for each data store.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._told_at: dict[str, float] = {}

    def progressed(self, progress: Progress) -> None:
        now = self._clock()
        if now - self._told_at.get(progress.datastore_id, self._began) < _LINE_SECONDS:
            return
        self._told_at[progress.datastore_id] = now
        share = "" if progress.share is None else f"{progress.share:.0%}, "
        left = f", about {in_words(progress.seconds_left)} left" if progress.seconds_left is not None else ""
        click.echo(
            f"{datetime.now(UTC):%H:%M} UTC, data store {progress.datastore_id[:_SHOWN_OF_ID]}…: {progress.phase}, "
            f"{share}{progress.rows:,} image sets, {progress.requests:,} requests{left}",
            err=True,
        )

    def finished(self, report: RunReport) -> None:
        pass


class Bars:
    """Shows how far runs are, on stderr, a bar for each data store; a context manager.

    Args:
        is_one_of_many: Whether several data stores are read, so that each bar says which it is for.
    """

    def __init__(self, *, is_one_of_many: bool) -> None:
        from rich.console import Console  # `Lines` does without rich
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

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

    def _add(self, description: str) -> "TaskID":
        return self._bar.add_task(description, rows=0, requests=0, total=None)

    def _hide(self, bar: "TaskID | None") -> None:
        if bar is not None:
            self._bar.update(bar, visible=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
