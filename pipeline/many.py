"""Several data stores side by side: one quota, one catalog, one run and one report each.

A failure in one does not stop the others. Nothing here knows what a job does, or Prefect.
"""

import contextvars
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from ahi_catalog.connectors.errors import AhiCatalogError, StoppedError, UsageError
from ahi_catalog.connectors.healthimaging.source import Connection, connect, list_datastores
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline.observers import Observer, collecting_reports, watched_by
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor

_log = logging.getLogger(__name__)

_AWAKE_SECONDS: Final = 1.0
EACH: Final = "0" * 32
"""The data store id in settings that are meant for each of several data stores."""


class Job(Protocol):
    """A sync, backfill or verify of one data store."""

    def __call__(
        self, settings: Settings, /, *, executor: ScanExecutor, stop: threading.Event, connection: Connection
    ) -> RunReport: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one data store.

    Attributes:
        datastore_id: The data store.
        report: None where the run failed, or was stopped, before it had begun.
        error: What the run failed with.
    """

    datastore_id: str
    report: RunReport | None = None
    error: Exception | None = None

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        if self.error is not None:
            return Outcome.FAILED
        return self.report.outcome if self.report else Outcome.STOPPED

    @property
    def failure(self) -> str | None:
        """What went wrong, in one line; None where nothing did."""
        if self.error is not None:
            # The text of an error that is not ours may quote data.
            is_ours = isinstance(self.error, AhiCatalogError)
            return str(self.error) if is_ours else f"unexpected {type(self.error).__name__}"
        return self.report.difference if self.report else None

    def document(self) -> dict[str, Any]:
        """As JSON goes."""
        return {
            "datastore_id": self.datastore_id,
            "outcome": str(self.outcome),
            "error": self.failure,
            "report": self.report and self.report.document(),
        }


def run_many(
    job: Job,
    settings: Settings,
    datastore_ids: Iterable[str] | None,
    stop: threading.Event,
    *,
    executor_for: Callable[[str], ScanExecutor],
    observers_for: Callable[[str], Sequence[Observer]] = lambda _: (),
    is_lasting: bool = False,
) -> list[Result]:
    """Run a job on several data stores; what became of each, in their order.

    At most `concurrency` runs go on at once, with the buffer divided among them, so that memory stays bounded however
    many data stores there are.

    Args:
        job: What to run.
        settings: Of every run but for the data store id, which counts for nothing (`EACH`).
        datastore_ids: The data stores; None: all active ones of the account and region.
        stop: Set it to end the runs early, with what is proven published; those that have not begun do not begin.
        executor_for: Where the scans of a data store run.
        observers_for: Who watches a data store's run, besides those who watch all.
        is_lasting: Whether a run goes on until it is stopped, so that all go on at once, and a failure is logged when
            it happens.

    Raises:
        UsageError: A data store id is malformed, or there is no data store.
        SourceError: The data stores cannot be listed.
        StoppedError: The run was asked to stop before it had begun.
    """
    connection = connect(settings)
    found = list_datastores(settings, stop, connection) if datastore_ids is None else dict.fromkeys(datastore_ids)
    each = [replace(settings, datastore_id=datastore_id) for datastore_id in found]
    if not each:
        raise UsageError("no data store to read: this account has no active one in this region")
    alongside = len(each) if is_lasting else min(len(each), settings.workers)

    def run_one(own: Settings) -> Result:
        failure: Exception | None = None
        with collecting_reports() as reports:
            try:
                with watched_by(*observers_for(own.datastore_id)):
                    job(own, executor=executor_for(own.datastore_id), stop=stop, connection=connection)
            except StoppedError:
                pass  # A run that had not begun has no report to say so.
            except Exception as error:  # noqa: BLE001  # kept, so that the other data stores go on
                _log.debug("data store %s", own.datastore_id, exc_info=error)
                failure = error
        result = Result(datastore_id=own.datastore_id, report=reports[-1] if reports else None, error=failure)
        if is_lasting and len(each) > 1 and result.failure:
            _log.error("data store %s: %s", result.datastore_id, result.failure)
        return result

    with ThreadPoolExecutor(alongside, thread_name_prefix="datastore") as threads:
        running = [
            threads.submit(
                contextvars.copy_context().run,
                run_one,
                replace(own, buffer_bytes=max(1, settings.buffer_bytes // alongside)),
            )
            for own in each
        ]
        # With a limit: a signal that another thread has met is handled when the main one wakes.
        while wait(running, timeout=_AWAKE_SECONDS).not_done:
            pass
        results = [pending.result() for pending in running]
    if (collected := _COLLECTING.get()) is not None:
        collected.extend(results)
    return results


@contextmanager
def collecting() -> Iterator[list[Result]]:
    """The results of what runs inside, in a list that fills; so a flow need not return them."""
    results: list[Result] = []
    token = _COLLECTING.set(results)
    try:
        yield results
    finally:
        _COLLECTING.reset(token)


def outcome_of(results: Iterable[Result]) -> Outcome:
    """How several runs ended, taken together: failed where one has failed, then stopped where one was stopped."""
    outcomes = {result.outcome if result.failure is None else Outcome.FAILED for result in results}
    return next((worst for worst in (Outcome.FAILED, Outcome.STOPPED) if worst in outcomes), Outcome.DONE)


_COLLECTING: ContextVar[list[Result] | None] = ContextVar("results", default=None)
