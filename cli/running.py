"""Running a job from the command line: as a Prefect flow, or on plain threads; on one data store, or on several."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

import click

from ahi_catalog.cli.datastores import chosen_datastores
from ahi_catalog.cli.output import print_json, print_pairs, print_table
from ahi_catalog.cli.progress import Bars, Lines
from ahi_catalog.cli.wording import in_shell_words
from ahi_catalog.connectors.errors import AhiCatalogError, StoppedError
from ahi_catalog.connectors.healthimaging.source import connect
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.flows.settings import is_server_named
from ahi_catalog.pipeline.executors import open_executor
from ahi_catalog.pipeline.iceberg import mirror_after
from ahi_catalog.pipeline.many import EACH, Job, Result, collecting, outcome_of, run_many
from ahi_catalog.pipeline.observers import collecting_reports, watched_by
from ahi_catalog.pipeline.run_report import Outcome, RunReport, summary_table
from ahi_catalog.pipeline.signals import INTERRUPTED, stop_on_signals
from ahi_catalog.pipeline.verify import findings

_EXIT_CODES: Final = {Outcome.DONE: 0, Outcome.FAILED: 1, Outcome.STOPPED: INTERRUPTED}


def make_settings(
    *,
    share: float,
    as_json: bool,
    prefect: bool | None,
    **given: Any,
) -> Settings:
    """The run's settings from a command's options; those of the command line alone are left out."""
    del as_json, prefect
    settings = Settings.of(**given)
    return replace(settings, quota=settings.quota.part(share), metadata=settings.metadata.part(share))


def run_chosen(
    job: Job,
    flow: Callable[[Settings, list[str] | None], Any],
    *,
    datastore_id: Sequence[str],
    adjust: Callable[[Settings], Settings] = lambda settings: settings,
    **given: Any,
) -> int:
    """Run on the data stores that a command's options choose, show what came of it, and say the exit code.

    Args:
        job: The run of one data store on plain threads.
        flow: The same as a Prefect flow for these data stores (None: for all); returns its final state. Imports
            Prefect only when it is called.
        datastore_id: Of the options.
        adjust: What the job makes of its settings.
        given: The other options of the run.

    Raises:
        AhiCatalogError: The run failed; of several: none could begin.
    """
    chosen = chosen_datastores(datastore_id, every=given.pop("all"))
    prefect, as_json = given["prefect"], given["as_json"]
    if prefect is None:
        prefect = is_server_named()
    if chosen is not None and len(chosen) == 1:
        settings = adjust(make_settings(datastore_id=chosen[0], **given))
        return run_job(job, lambda: flow(settings, chosen), settings, prefect=prefect, as_json=as_json)
    settings = adjust(make_settings(datastore_id=EACH, **given))
    with _watched(is_one_of_many=True), collecting() as results:
        if prefect:
            from ahi_catalog.flows.calling import call_flow

            state = call_flow(lambda: flow(settings, chosen))
            if (state.is_failed() or state.is_crashed()) and not results:
                state.result(raise_on_failure=True)
            if state.is_cancelled() and not results:
                raise StoppedError("stopped before anything was read")
        else:
            with stop_on_signals() as stop, open_executor(settings, stop) as executor:
                run_many(job, settings, chosen, stop, executor_for=lambda _: executor)
    if not results:
        raise AhiCatalogError("Prefect did not run the flow; see its logs, or run with --no-prefect")
    _show_many(results, as_json=as_json)
    if not prefect and outcome_of(results) is not Outcome.STOPPED:
        mirror_after(settings)
    return _EXIT_CODES[outcome_of(results)]


def run_job(job: Job, flow: Callable[[], Any], settings: Settings, *, prefect: bool, as_json: bool) -> int:
    """Run on one data store, show the report, and say the exit code.

    Args:
        job: The run on plain threads.
        flow: The same run as a Prefect flow; returns its final state. Imports Prefect only when it is called.
        settings: Of the run.
        prefect: Which of the two.
        as_json: The report as JSON.

    Raises:
        AhiCatalogError: The run failed.
    """
    with _watched(is_one_of_many=False) as reports:
        if prefect:
            from ahi_catalog.flows.calling import call_flow

            state = call_flow(flow)
            # A verification that found differences has a failed state too, and a report to show.
            if (state.is_failed() or state.is_crashed()) and not (reports and reports[-1].unrepaired):
                state.result(raise_on_failure=True)
            if state.is_cancelled() and not reports:
                raise StoppedError("stopped before anything was read")
        else:
            with stop_on_signals() as stop, open_executor(settings, stop) as executor:
                job(settings, executor=executor, stop=stop, connection=connect(settings))
    if not reports:
        raise AhiCatalogError("Prefect did not run the flow; see its logs, or run with --no-prefect")
    report = reports[-1]
    if as_json:
        print_json(report.document())
    else:
        print_pairs(f"{report.flow} of data store {report.datastore_id}", report.table())
        _print_findings("what was found", report)
    if report.difference:
        click.echo(f"Error: {in_shell_words(report.difference)}", err=True)
    if report.outcome is Outcome.STOPPED:
        return INTERRUPTED
    if not prefect:
        mirror_after(settings)
    return 1 if report.unrepaired else 0


@contextmanager
def _watched(*, is_one_of_many: bool) -> Iterator[list[RunReport]]:
    """Have runs started inside watched, by bars on a terminal and by lines elsewhere; their reports."""
    with ExitStack() as stack:
        reports = stack.enter_context(collecting_reports())
        bars = Bars(is_one_of_many=is_one_of_many) if sys.stderr.isatty() else None
        stack.enter_context(watched_by(stack.enter_context(bars) if bars else Lines()))
        yield reports


def _show_many(results: Sequence[Result], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "format": 1,
                "outcome": str(outcome_of(results)),
                "datastores": [result.document() for result in results],
            }
        )
    else:
        columns, rows = summary_table([(its.datastore_id, its.outcome, its.report) for its in results])
        print_table("", columns, rows)
        for result in results:
            if result.report is not None:
                _print_findings(f"what was found, data store {result.datastore_id}", result.report)
    show_failures(results)


def show_failures(results: Sequence[Result]) -> None:
    """Say on stderr what went wrong, a line for each data store."""
    for result in results:
        if result.failure is not None:
            click.echo(f"Error: data store {result.datastore_id}: {in_shell_words(result.failure)}", err=True)


def _print_findings(title: str, report: RunReport) -> None:
    if report.verification is not None and report.verification.findings:
        print_table(title, *findings.table(report.verification))
