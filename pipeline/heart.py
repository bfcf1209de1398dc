"""The heartbeat of a run: its report as one under way, beside the reports of those that have ended."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ahi_catalog.connectors.catalog import Catalog, layout
from ahi_catalog.connectors.catalog.heartbeat import BEAT_SECONDS, RUNNING
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError
from ahi_catalog.connectors.windows import floor_second, format_time
from ahi_catalog.pipeline.observers import Progress
from ahi_catalog.pipeline.run_report import RunReport

_log = logging.getLogger(__name__)


class Heart:
    """Writes the report of a run that goes on, once as it begins and then every minute; an observer of the run.

    Whatever the run does, the beats go on, so a report that is left so and old is that of a run that was killed. One
    that cannot be written is the last, and costs the run nothing; none replaces the report of the end.

    Args:
        catalog: Where it is kept.
        report: Of the run, as it begins.
        clock: The local clock, aware.
    """

    def __init__(self, catalog: Catalog, report: RunReport, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._key = layout.run_key(report.datastore_id, report.started_at, report.run_id)
        # The report itself is changed by the thread that runs the run.
        self._started = report.document()
        self._started_at = report.started_at
        self._clock = clock
        self._progress: Progress | None = None
        self._etag: str | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Beat for the first time; the others are a thread's."""
        self.beat()
        threading.Thread(target=self._go_on, name="heartbeat", daemon=True).start()

    def progressed(self, progress: Progress) -> None:
        """Keep for the next beat how far the run is."""
        self._progress = progress

    def finished(self, report: RunReport) -> None:
        """Nothing: the run ends it, before it tells its observers."""

    def end(self, report: RunReport) -> None:
        """Keep the report of the end in the heartbeat's place; the run's own outcome matters more than that."""
        self._ended.set()
        try:
            self._catalog.end_run(self._key, report.document(), expected=self._etag)
        except AhiCatalogError as error:
            _log.warning("the run report could not be kept: %s", error)

    def beat(self) -> None:
        """Write how far the run is."""
        try:
            self._etag = self._catalog.write_run(self._key, self._document(), expected=self._etag)
        except AhiCatalogError as error:
            self._ended.set()
            if not isinstance(error, ConflictError):
                _log.warning("the heartbeat of the run could not be kept: %s", error)

    def _go_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.beat()

    def _document(self) -> dict[str, Any]:
        at, progress = self._clock(), self._progress
        told = {} if progress is None else {"rows_read": progress.rows, "requests": progress.requests}
        return {
            **self._started,
            **told,
            "outcome": RUNNING,
            "seconds": round((at - self._started_at).total_seconds(), 3),
            "under_way": {
                "beat_at": format_time(floor_second(at)),
                "phase": progress and progress.phase,
                "share": progress and progress.share and round(progress.share, 4),
                "seconds_left": progress and progress.seconds_left,
            },
        }
