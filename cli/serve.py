"""`ahi-catalog serve`: the schedules, in one process."""

import os
import re
from dataclasses import replace as changed
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ahi_catalog.cli.options import (
    catalog_option,
    creation_options,
    datastore_option,
    metadata_options,
    notify_option,
    option,
    reading_options,
    sync_options,
)
from ahi_catalog.connectors.errors import UsageError

if TYPE_CHECKING:
    from ahi_catalog.flows.deployments import Plan


@click.command()
@catalog_option
@datastore_option
@option("--name", metavar="NAME", help="What to call the deployments: sync/NAME.  [default: of catalog and data store]")
@option("--replace", is_flag=True, help="Take over a NAME under which another catalog is served.")
@option("--credentials", metavar="BLOCK", help="An AwsCredentials block of Prefect.  [default: boto3's own]")
@option("--sync-cron", default="0 * * * *", metavar="CRON", help="When to sync, as cron has it; '' for on demand only.")
@option(
    "--verify-cron", default="30 3 * * *", metavar="CRON", help="When to verify, as cron has it; '' for on demand only."
)
@option("--part", metavar="K/N", default="today/30", help="What each verify takes of the catalog.")
@option(
    "--metadata", is_flag=True, help="Read the metadata of what is new after each sync too, a request an image set."
)
@metadata_options
@option("--time-zone", default="UTC", metavar="ZONE", help="Of the schedules, as in Europe/Berlin.")
@notify_option
@reading_options
@creation_options
@sync_options
def serve(*, replace: bool, **given: Any) -> None:
    """Run the schedules from this process, without workers: sync hourly, verify daily, backfill on demand.

    With --metadata series are read after each sync, else on demand. The runs are processes beside this one, until
    Ctrl-C or SIGTERM, which end them in order and pause the schedules. Needs a Prefect server, which keeps and shows
    the runs. Of the quota sync and backfill get 40 % each, verify 20 %; metadata has a quota of its own.

    \b
      prefect server start
      export PREFECT_API_URL=http://127.0.0.1:4200/api
      ahi-catalog serve --catalog s3://bucket/imaging --datastore-id ID --name radiology
    And from another shell:
      prefect deployment run backfill/radiology -p start=2026-05-01 -p end=2026-06-01
    """
    from ahi_catalog.flows.server import check_server
    from ahi_catalog.flows.settings import is_server_named, set_prefect_defaults

    # The runs inherit this: what is throttled, retried or stopped shows on their pages.
    set_prefect_defaults(PREFECT_LOGGING_EXTRA_LOGGERS="ahi_catalog")
    plan = make_plan(**given)
    from ahi_catalog.flows.deployments import make_deployments  # Prefect takes seconds to import
    from ahi_catalog.flows.serving import refuse_to_take_over, serve_deployments

    deployments = make_deployments(plan)
    if not is_server_named():
        raise UsageError(
            "no Prefect server: run `prefect server start`, then export PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    check_server()
    if not replace:
        refuse_to_take_over(deployments)
    names = ", ".join(f"{deployment.flow_name}/{deployment.name}" for deployment in deployments)
    click.echo(f"Serving {names}; Ctrl-C ends it. Run one now: prefect deployment run sync/{plan.name}", err=True)
    serve_deployments(deployments)
    click.echo("The schedules are paused: no sync comes before it is served again.", err=True)


def make_plan(
    *,
    name: str | None,
    credentials: str | None,
    sync_cron: str,
    verify_cron: str,
    part: str,
    metadata: bool,
    time_zone: str,
    **given: Any,
) -> "Plan":
    """What to serve, from the command's options; what is wrong is said now, rather than by the first run at night.

    Raises:
        UsageError: The options do not go together.
    """
    from ahi_catalog.cli.running import make_settings
    from ahi_catalog.pipeline.planning import Part

    settings = make_settings(as_json=False, prefect=True, **given)
    Part.parse(part, datetime.now(UTC))
    if "://" not in settings.catalog:
        # Another process may be served the same name from another folder.
        settings = changed(settings, catalog=os.path.abspath(settings.catalog))  # noqa: PTH100  # takes ".." out too
    own_name = re.sub(r"[^\w.-]+", "-", settings.catalog.rpartition("://")[2]).strip("-")
    from ahi_catalog.flows.deployments import Plan, check_cron, check_time_zone  # Prefect takes seconds to import

    check_cron("sync_cron", sync_cron)
    check_cron("verify_cron", verify_cron)
    check_time_zone(time_zone)
    return Plan(
        name=name or f"{own_name}-{settings.datastore_id}",
        settings=settings,
        credentials=credentials,
        sync_cron=sync_cron,
        verify_cron=verify_cron,
        part=part,
        is_reading_metadata=metadata,
        time_zone=time_zone,
    )
