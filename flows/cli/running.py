"""Running a job from the command line: as a Prefect flow, or on plain threads."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from connectors.errors import AhiCatalogError
from connectors.settings import Quota, Settings
from flows.cli.output import print_json, print_pairs
from flows.cli.progress import TerminalObserver
from flows.observers import watched_by
from flows.report import Outcome, RunReport
from flows.runners import Runner, ThreadRunner
from flows.signals import INTERRUPTED, stop_on_signals

_PREFECT_DEFAULTS: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # A failure is told in one line, by us; Prefect keeps its logs for its own pages.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}
"""Prefect's settings where the user has none; read when Prefect is imported."""


def make_settings(*, rate: float, burst: int, share: float, as_json: bool, prefect: bool, **given: Any) -> Settings:
    """The run's settings from a command's options; those of the command line alone are left out."""
    del as_json, prefect
    return Settings(quota=Quota(rate=rate, burst=burst).part(share), **given)


def run_job(
    job: Callable[[Runner, threading.Event], RunReport],
    flow: Callable[[], Any],
    *,
    prefect: bool,
    as_json: bool,
    workers: int,
) -> int:
    """Run, show the report, and say the exit code.

    Args:
        job: The run on plain threads.
        flow: The same run as a Prefect flow; returns its final state. Imports Prefect only when it is called.
        prefect: Which of the two.
        as_json: The report as JSON.
        workers: Scans side by side.

    Raises:
        AhiCatalogError: The run failed.
    """
    # Arrow's own allocators keep what many threads freed: half as much memory again at a million image sets.
    pa.set_memory_pool(pa.system_memory_pool())
    with TerminalObserver() as terminal, watched_by(terminal):
        if prefect:
            _run_flow(flow)
        else:
            with stop_on_signals() as stop, ThreadRunner(workers) as runner:
                job(runner, stop)
    report = terminal.report
    if report is None:
        raise AhiCatalogError("Prefect did not run the flow; see its logs, or run with --no-prefect")
    if as_json:
        print_json(report.document())
    else:
        print_pairs(f"{report.flow} of data store {report.datastore_id}", report.table())
    return INTERRUPTED if report.outcome is Outcome.STOPPED else 0


def _run_flow(flow: Callable[[], Any]) -> None:
    for name, value in _PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Ctrl-C reaches the whole process group, Prefect's temporary server too, which a run needs to end in order.
    # The server inherits what is blocked here; the flow's own `stop_on_signals` lets Ctrl-C through again.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        state = flow()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if state.is_failed() or state.is_crashed():
        state.result(raise_on_failure=True)
