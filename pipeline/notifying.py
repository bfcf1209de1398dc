"""When a run is told of: it has failed, differs, met unknown fields, or is well again. Once a change."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec

from ahi_catalog.connectors import notices
from ahi_catalog.connectors.catalog.verification import outcome_in_words
from ahi_catalog.connectors.errors import AhiCatalogError, StoppedError
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.storage import open_store
from ahi_catalog.connectors.windows import format_time
from ahi_catalog.pipeline.run_report import Outcome, RunReport

_P = ParamSpec("_P")
_Job = Callable[Concatenate[Settings, _P], RunReport]

_DONE: Final = str(Outcome.DONE)


def notified(flow: str) -> Callable[[_Job[_P]], _Job[_P]]:
    """Have the receiver of notices told how runs of a job end; a run that was stopped changes nothing.

    Args:
        flow: What the job is called.
    """

    def decorate(job: _Job[_P]) -> _Job[_P]:
        @wraps(job)
        def run(settings: Settings, /, *args: _P.args, **given: _P.kwargs) -> RunReport:
            try:
                report = job(settings, *args, **given)
            except StoppedError:
                raise
            except Exception:
                tell(settings, flow, str(Outcome.FAILED), None)
                raise
            tell_ended(settings, flow, report)
            return report

        return run

    return decorate


def tell_ended(settings: Settings, flow: str, report: RunReport) -> None:
    """Have the receiver told what a run has met, and how it ended; a stop says nothing of how it is.

    Args:
        settings: Of the run.
        flow: What it is called.
        report: Of the run.
    """
    if report.drift:
        notices.tell_event(_notice(settings, flow, "drifted", report))
    if report.outcome is not Outcome.STOPPED or report.unrepaired:
        tell(settings, flow, outcome_in_words(str(Outcome.DONE), report.unrepaired), report)


def tell(settings: Settings, flow: str, outcome: str, report: RunReport | None) -> bool:
    """Have the receiver told how a flow of a data store is, where that is another than what was told last.

    Args:
        settings: Of the flow.
        flow: What it is called.
        outcome: ``done``, ``failed`` or ``differs``.
        report: What counts there are; None: none.

    Returns:
        Whether there is nothing left to tell.
    """
    state = notices.WELL if outcome == _DONE else outcome
    try:
        store = open_store(settings.catalog, settings.s3)
    except AhiCatalogError:
        return True  # There is no such place, and the run says so.
    return notices.tell_change(store, settings.datastore_id, flow, state, _notice(settings, flow, state, report))


class Teller:
    """Has the receiver told of each change of how a flow of a data store is: once, and again until it took it.

    Args:
        settings: Of the flow.
        flow: What it is called.
    """

    def __init__(self, settings: Settings, flow: str) -> None:
        self._settings = settings
        self._flow = flow
        self._told: Outcome | None = None

    def tell(self, outcome: Outcome, report: RunReport | None = None) -> None:
        """Say how it is now, with what counts there are."""
        if self._told is not outcome and tell(self._settings, self._flow, str(outcome), report):
            self._told = outcome


def _notice(settings: Settings, flow: str, state: str, report: RunReport | None) -> dict[str, object]:
    words = {notices.WELL: "is well again", "differs": "found differences", "drifted": "met fields that are unknown"}
    return {
        "text": f"ahi-catalog: the {flow} of data store {settings.datastore_id} {words.get(state, state)}",
        "flow": flow,
        "state": state,
        "catalog": settings.catalog,
        "datastore_id": settings.datastore_id,
        **counts_of(report),
    }


def counts_of(report: RunReport | None) -> dict[str, object]:
    """What is told of a run beside its outcome: counts and times; nothing where it had not begun."""
    if report is None:
        return {}
    return {
        "rows_read": report.rows_read,
        "rows_changed": report.new + report.updated + report.removed,
        "differences_left": report.unrepaired,
        "unknown_fields": len(report.unknown_fields),
        "watermark": format_time(report.watermark_after) if report.watermark_after else None,
        "seconds": round(report.seconds, 1),
    }
