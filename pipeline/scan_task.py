"""A scan, or the reading of metadata, as a unit of work: for threads, workers of a cluster, tasks of Prefect."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ahi_catalog.connectors.healthimaging.metadata import MetadataRequest, MetadataResult, MetadataSource, read_all
from ahi_catalog.connectors.healthimaging.scan import ScanRequest, ScanResult, scan
from ahi_catalog.connectors.healthimaging.source import Source
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.schemas import PhiPolicy, Protect, Table

WorkRequest = ScanRequest | MetadataRequest
"""What one unit of work reads."""


@dataclass(frozen=True, slots=True)
class ScanTask:
    """Scans windows of one data store, or reads metadata.

    Attributes:
        settings: Of the run: all that another process needs to make a source of its own.
        phi: The catalog's policy, which the rows of a scan are under.
        load_key: Loads the key of pseudonyms.
        run: Scans in this process.
    """

    settings: Settings
    phi: PhiPolicy
    load_key: LoadKey
    run: Callable[[Any], Any]


def make_reading(
    source: MetadataSource,
    protection: Callable[[Table, tuple[tuple[str, str], ...]], Protect],
    stop: threading.Event,
) -> Callable[[MetadataRequest], MetadataResult]:
    """The reading of metadata of a run, in whatever process that is.

    Args:
        source: What to read from.
        protection: Puts rows of a table, with its keywords, under the catalog's PHI policy.
        stop: Set when the run is asked to stop.
    """

    @redact_errors
    def run_reading(request: MetadataRequest) -> MetadataResult:
        return read_all(source, request, lambda table: protection(table, request.keywords), stop.is_set)

    return run_reading


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
    """A result to come: a future of concurrent.futures, or one of Prefect's."""

    def result(self) -> Any: ...
    def add_done_callback(self, fn: Callable[[Any], Any]) -> None: ...


class ScanExecutor(Protocol):
    """Runs scans side by side."""

    def submit(self, task: ScanTask, request: WorkRequest) -> Pending:
        """Start one; called from several threads where several data stores are read."""
        ...
