"""`ahi-catalog watch`."""

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from ahi_catalog.cli.datastores import chosen_datastores
from ahi_catalog.cli.options import (
    catalog_option,
    creation_options,
    datastore_options,
    metadata_options,
    notify_option,
    option,
    reading_options,
    setting,
    sync_options,
)
from ahi_catalog.cli.output import counted, json_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ahi_catalog.connectors.catalog.summary import Summary
    from ahi_catalog.connectors.settings import Settings
    from ahi_catalog.pipeline.observers import Progress
    from ahi_catalog.pipeline.run_report import RunReport


_RUNS: Final = 20
"""Run reports that the metrics look at."""


@click.command()
@catalog_option
@datastore_options
@setting("every")
@reading_options
@creation_options
@sync_options
@option(
    "--metadata", is_flag=True, help="Read the metadata of what arrives too, into series; never of what is archived."
)
@metadata_options
@notify_option
@option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="9464",
    help="Serve the catalog's state as OpenMetrics over http, for Prometheus; 0: at any free port.",
)
@option(
    "--metrics-host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Where to serve it; elsewhere than on this machine anyone sees it.",
)
@option("--json", "as_json", is_flag=True, help="The run report of each hour, as a line of JSON on stdout.")
def watch(
    *,
    datastore_id: "Sequence[str]",
    metadata: bool,
    metrics_port: int | None,
    metrics_host: str,
    as_json: bool,
    **given: Any,
) -> int:
    """Keep a catalog current until it is stopped: new image sets are in it seconds after they can be searched.

    It begins like a sync; then a pass --every 30s asks for what is new and what has changed, which takes two requests
    where there is nothing. What a later pass may mend is logged; wrong credentials or a catalog that is gone end it.
    SIGTERM and Ctrl-C end it in order, with exit code 0. One line an hour says what it did; `status` shows it too.

    \b
    Half of the quota, for two data stores:
      ahi-catalog watch --catalog s3://bucket/imaging --datastore-id ID --datastore-id ID2 --share 0.5
    With series, and Iceberg tables that follow within five minutes:
      ahi-catalog watch --catalog s3://bucket/imaging --datastore-id ID --metadata --iceberg glue.imaging
    """
    from ahi_catalog.cli.running import make_settings, show_failures  # `--help` does without boto3 and pyarrow
    from ahi_catalog.flows.secrets import load_phi_key
    from ahi_catalog.pipeline import watch as job
    from ahi_catalog.pipeline.background import MirrorJob
    from ahi_catalog.pipeline.executors import open_executor
    from ahi_catalog.pipeline.inbox import Inbox
    from ahi_catalog.pipeline.many import EACH, run_many
    from ahi_catalog.pipeline.observers import watched_by
    from ahi_catalog.pipeline.signals import stop_on_signals

    chosen = chosen_datastores(datastore_id, every=given.pop("all"))
    settings = make_settings(datastore_id=EACH, as_json=as_json, prefect=False, **given)
    with (
        stop_on_signals() as stop,
        open_executor(settings, stop) as executor,
        watched_by(_Hours(as_json=as_json)),
        ExitStack() as stack,
    ):
        if metrics_port is not None:
            stack.enter_context(_serving_metrics(settings, metrics_host, metrics_port))
        run = partial(
            job.watch,
            with_metadata=metadata,
            mirror=stack.enter_context(MirrorJob.of(settings)),
            load_key=load_phi_key,
            inbox=Inbox(settings.queue, chosen),
        )
        results = run_many(run, settings, chosen, stop, executor_for=lambda _: executor, is_lasting=True)
    if len(results) == 1 and results[0].error is not None:
        raise results[0].error
    show_failures(results)
    return int(any(result.failure for result in results))


@contextmanager
def _serving_metrics(settings: "Settings", host: str, port: int) -> "Iterator[None]":
    from ahi_catalog.connectors.catalog import open_catalog, open_store
    from ahi_catalog.connectors.catalog.summary import summarize
    from ahi_catalog.report import metrics

    def summaries() -> "list[Summary]":
        catalog = open_catalog(open_store(settings.catalog, settings.s3))
        return [summarize(catalog, datastore_id, runs=_RUNS) for datastore_id in catalog.datastore_ids()]

    with metrics.serving(summaries, host, port) as served:
        click.echo(f"Metrics at http://{host}:{served}/metrics", err=True)
        yield


class _Hours:
    """An observer that says in a line what a watch did in an hour.

    Args:
        as_json: The whole report, as JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def progressed(self, progress: "Progress") -> None:
        pass

    def finished(self, report: "RunReport") -> None:
        if self._as_json:
            click.echo(json_text(report.document()))
            return
        click.echo(
            f"{report.started_at:%Y-%m-%d %H:%M} UTC, data store {report.datastore_id}: "
            f"{counted(report.passes, 'pass', 'passes')} "
            f"({report.failed_passes:,} failed), {report.new:,} rows new, {report.updated:,} updated, "
            f"{report.removed:,} removed; published: {report.freshness}"
        )
