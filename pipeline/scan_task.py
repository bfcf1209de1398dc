"""A scan as a unit of work, for whatever runs it: threads, the workers of a cluster, the tasks of Prefect."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ahi_catalog.connectors.healthimaging.scan import ScanRequest, ScanResult, scan
from ahi_catalog.connectors.healthimaging.source import Source
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.schemas import PhiPolicy, Protect


@dataclass(frozen=True, slots=True)
class ScanTask:
    """Scans windows of one data store.

    Attributes:
        settings: Of the run: all that another process needs to make a source of its own.
        phi: The catalog's policy, which the rows of a scan are under.
        load_key: Loads the key of pseudonyms.
        run: Scans in this process.
    """

    settings: Settings
    phi: PhiPolicy
    load_key: LoadKey
    run: Callable[[ScanRequest], ScanResult]


def make_scan(
    source: Source, settings: Settings, protect: Protect, stop: threading.Event
) -> Callable[[ScanRequest], ScanResult]:
    """The scan of a run, in whatever process that is.

    Args:
        source: What to read from.
        settings: Of the run.
        protect: Puts rows under the catalog's PHI policy.
        stop: Set when the run is asked to stop.
    """

    @redact_errors
    def run_scan(request: ScanRequest) -> ScanResult:
        return scan(source.page, request, page_budget=settings.page_budget, protect=protect, is_stopping=stop.is_set)

    return run_scan


class Pending(Protocol):
    """The result of a scan to come: a future of concurrent.futures, or one of Prefect's."""

    def result(self) -> Any: ...
    def add_done_callback(self, fn: Callable[[Any], Any]) -> None: ...


class ScanExecutor(Protocol):
    """Runs scans side by side."""

    def submit(self, task: ScanTask, request: ScanRequest) -> Pending:
        """Start a scan; called from several threads where several data stores are read."""
        ...
