"""A job as the body of a Prefect flow."""

from collections.abc import Iterable
from typing import Final

from prefect import State
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.errors import StateError, StoppedError, UsageError
from ahi_catalog.connectors.healthimaging.source import connect
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.flows import events
from ahi_catalog.flows.artifacts import PrefectObserver
from ahi_catalog.flows.credentials import find_session
from ahi_catalog.flows.tasks import PrefectScanExecutor
from ahi_catalog.flows.temporary_server import stop_temporary_server
from ahi_catalog.pipeline.executors import open_executor
from ahi_catalog.pipeline.many import Job, Result, outcome_of, run_many
from ahi_catalog.pipeline.observers import InBackground, collecting_reports, watched_by
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.pipeline.signals import stop_on_signals

_FINAL: Final = (UsageError, StateError)
"""What fails again however often it is tried."""
_STOPPED: Final = "stopped; what was published by then stays"
_RESUMES: Final = "; the next run resumes where this one ended"


def run_in_flow(
    job: Job,
    settings: Settings,
    datastore_ids: list[str] | None,
    credentials: str | None = None,
    *,
    is_lasting: bool = False,
) -> State[None]:
    """Run a job inside the current flow; the flow's final state.

    SIGTERM and Ctrl-C end the job in an orderly way, and the flow run as cancelled.

    Args:
        job: What to run.
        settings: Of the run; of several, of each.
        datastore_ids: The data stores; of one the run is this flow's, of several each has its own. None: all active
            ones of the account and region.
        credentials: The name of the AwsCredentials block to use for both ends; None: what boto3 finds itself.
        is_lasting: Whether the job goes on until it is stopped; its scans are no tasks then, since Prefect keeps each.

    Raises:
        UsageError: There is no such block, or no session can be made of it.
        AhiCatalogError: The job failed.
    """
    with collecting_reports() as reports:
        try:
            session = find_session(credentials) if credentials else None
            with aws.using(session):
                if datastore_ids is None or len(datastore_ids) != 1:
                    return _run_many(job, settings, datastore_ids, is_lasting=is_lasting)
                return _run_one(job, settings, is_lasting=is_lasting)
        except StoppedError:
            return Cancelled(message="stopped before anything was read")
        except Exception as error:
            report = reports[-1] if reports else None
            failed = [Result(datastore_id=each, report=report, error=error) for each in datastore_ids or ["all"]]
            events.tell(settings.catalog, failed)
            if isinstance(error, _FINAL):
                _give_up_retries()
            raise


def _give_up_retries() -> None:
    """Have Prefect's server take the current run's failure for its last. Flows have no condition of retries."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    policy = context.flow_run.empirical_policy.model_copy(update={"retries": 0})
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, empirical_policy=policy)


def _run_one(job: Job, settings: Settings, *, is_lasting: bool) -> State[None]:
    with (
        stop_on_signals(stop_temporary_server) as stop,
        open_executor(settings, stop) as executor,
        watched_by(InBackground(PrefectObserver())),
    ):
        shown = executor if is_lasting else PrefectScanExecutor(executor)
        report = job(settings, executor=shown, stop=stop, connection=connect(settings))
    events.tell(settings.catalog, [Result(datastore_id=settings.datastore_id, report=report)])
    if report.outcome is Outcome.STOPPED:
        return Cancelled(message=_stopped([report]))
    if report.difference:
        return Failed(name="Differs", message=report.difference)
    return Completed(message=report.summary)


def _stopped(reports: Iterable[RunReport]) -> str:
    """A backfill reads its range from the start again."""
    return _STOPPED if any(report.flow == "backfill" for report in reports) else _STOPPED + _RESUMES


def _run_many(job: Job, settings: Settings, datastore_ids: list[str] | None, *, is_lasting: bool) -> State[None]:
    """Each data store has its own run, its tasks named after it, its own progress and report as artifacts.

    The flow fails where one failed.
    """
    with stop_on_signals(stop_temporary_server) as stop, open_executor(settings, stop) as executor:
        results = run_many(
            job,
            settings,
            datastore_ids,
            stop,
            executor_for=lambda datastore_id: (
                executor if is_lasting else PrefectScanExecutor(executor, of=datastore_id)
            ),
            observers_for=lambda datastore_id: [InBackground(PrefectObserver(of=datastore_id))],
            is_lasting=is_lasting,
        )
    events.tell(settings.catalog, results)
    failures = [f"{result.datastore_id}: {result.failure}" for result in results if result.failure]
    match outcome_of(results):
        case Outcome.FAILED:
            if all(isinstance(result.error, _FINAL) or result.failure is None for result in results):
                _give_up_retries()
            return Failed(message="\n".join([f"{len(failures)} of {len(results)} data stores failed", *failures]))
        case Outcome.STOPPED:
            return Cancelled(message=_stopped([result.report for result in results if result.report]))
        case Outcome.DONE:
            read = sum(result.report.rows_read for result in results if result.report)
            return Completed(message=f"{len(results)} data stores, {read:,} image sets read")
