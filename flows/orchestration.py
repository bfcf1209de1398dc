"""A job as the body of a Prefect flow."""

import threading
from collections.abc import Callable

from prefect import State
from prefect.states import Cancelled, Completed, Failed

from connectors import aws
from flows.credentials import find_session
from flows.observers import watched_by
from flows.report import Outcome, RunReport
from flows.runners import Runner
from flows.signals import stop_on_signals
from flows.tasks import PrefectObserver, PrefectRunner


def run_in_flow(job: Callable[[Runner, threading.Event], RunReport], credentials: str | None = None) -> State[None]:
    """Run a job inside the current flow; the flow's final state.

    SIGTERM and Ctrl-C end the job in an orderly way, and the flow run as cancelled.

    Args:
        job: Given where to run scans and the event that asks it to stop.
        credentials: The name of the AwsCredentials block to use for both ends; None: what boto3 finds itself.

    Raises:
        UsageError: There is no such block, or no session can be made of it.
        AhiCatalogError: The job failed.
    """
    session = find_session(credentials) if credentials else None
    with aws.using(session), stop_on_signals() as stop, watched_by(PrefectObserver()):
        report = job(PrefectRunner(), stop)
    if report.outcome is Outcome.STOPPED:
        return Cancelled(message="stopped; the next run resumes where this one ended")
    if report.left:
        return Failed(
            name="Differs", message=f"{report.left:,} differences between catalog and service; run verify with repair"
        )
    return Completed(message=f"{report.rows_read:,} image sets read, {report.new + report.updated:,} rows changed")
