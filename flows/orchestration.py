"""A job as the body of a Prefect flow."""

import threading
from collections.abc import Callable

from prefect import State
from prefect.states import Cancelled, Completed, Failed

from connectors.settings import Settings
from flows.many import Job, outcome_of, run_many
from flows.observers import watched_by
from flows.report import Outcome, RunReport
from flows.runners import Runner, open_runner
from flows.signals import stop_on_signals
from flows.tasks import PrefectObserver, PrefectRunner


def run_in_flow(job: Callable[[Runner, threading.Event], RunReport], settings: Settings) -> State[None]:
    """Run a job inside the current flow; the flow's final state.

    SIGTERM and Ctrl-C end the job in an orderly way, and the flow run as cancelled.

    Args:
        job: Given where to run scans and the event that asks it to stop.
        settings: Its settings.
    """
    with stop_on_signals() as stop, open_runner(settings, stop) as runner, watched_by(PrefectObserver()):
        report = job(PrefectRunner(runner), stop)
    if report.outcome is Outcome.STOPPED:
        return Cancelled(message="stopped; the next run resumes where this one ended")
    if report.left:
        return Failed(
            name="Differs", message=f"{report.left:,} differences between catalog and service; run verify with repair"
        )
    return Completed(message=f"{report.rows_read:,} image sets read, {report.new + report.updated:,} rows changed")


def run_many_in_flow(job: Job, settings: Settings, datastore_ids: list[str] | None) -> State[None]:
    """Run a job on several data stores inside the current flow; the flow's final state, failed where one failed.

    Each data store has its own run, its tasks named after it, its own progress and report as artifacts.

    Args:
        job: What to run.
        settings: Of each.
        datastore_ids: The data stores; None: all active ones.
    """
    with stop_on_signals() as stop, open_runner(settings, stop) as runner:
        results = run_many(
            job,
            settings,
            datastore_ids,
            stop,
            runner_for=lambda datastore_id: PrefectRunner(runner, of=datastore_id),
            observers_for=lambda datastore_id: [PrefectObserver(of=datastore_id)],
        )
    failures = [f"{result.datastore_id}: {result.failure}" for result in results if result.failure]
    match outcome_of(results):
        case Outcome.FAILED:
            return Failed(message="\n".join([f"{len(failures)} of {len(results)} data stores failed", *failures]))
        case Outcome.STOPPED:
            return Cancelled(message="stopped; the next run resumes where this one ended")
        case Outcome.DONE:
            read = sum(result.report.rows_read for result in results if result.report)
            return Completed(message=f"{len(results)} data stores, {read:,} image sets read")
