"""Prefect's artifacts of a run: its progress, its report, and what a verify found. Counts and times, never rows."""

import time
from typing import Any, Final
from uuid import UUID

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

from ahi_catalog.pipeline.observers import Progress
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.pipeline.verify import findings

_PROGRESS_SECONDS: Final = 2.0
"""Between two sendings of the progress, at least."""
_DONE_PERCENT: Final = 100.0


class PrefectObserver:
    """Keeps a progress artifact while a run goes on, and makes a table artifact of its report.

    Args:
        of: The data store that artifacts are named after, where a flow reads several.
    """

    def __init__(self, *, of: str | None = None) -> None:
        self._suffix = "" if of is None else f"-{of}"
        self._where = "" if of is None else f" of data store {of}"
        self._artifact: UUID | None = None
        self._sent_at = float("-inf")
        self._percent = 0.0

    def progressed(self, progress: Progress) -> None:
        if time.monotonic() - self._sent_at < _PROGRESS_SECONDS:
            return
        share = "" if progress.share is None else f"{progress.share:.0%}, "
        # A run's page shows the description alone.
        done = f"{share}{progress.rows:,} image sets so far"
        self._send(_DONE_PERCENT * (progress.share or 0), f"{progress.phase}{self._where}: {done}")

    def finished(self, report: RunReport) -> None:
        if self._artifact is not None:
            percent = _DONE_PERCENT if report.outcome is Outcome.DONE else self._percent
            self._send(percent, f"{report.outcome}{self._where}: {report.summary}")
        create_table_artifact(
            key=f"ahi-catalog-{report.flow}{self._suffix}",
            table=[{"what": what, "value": value} for what, value in report.table()],
            description=f"Run {report.run_id} of {report.flow} on data store {report.datastore_id}",
        )
        if report.verification is not None and report.verification.findings:
            columns, rows = findings.table(report.verification)
            create_table_artifact(
                key=f"ahi-catalog-findings{self._suffix}",
                table=[dict(zip(columns, row, strict=True)) for row in rows],
                description=f"What run {report.run_id} found wrong in the catalog of data store {report.datastore_id}",
            )

    def _send(self, percent: float, description: str) -> None:
        self._sent_at, self._percent = time.monotonic(), percent
        if self._artifact is None:
            artifact: Any = create_progress_artifact(progress=percent, description=description)
            self._artifact = artifact
        else:
            update_progress_artifact(self._artifact, progress=percent, description=description)
