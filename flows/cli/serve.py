"""`ahi-catalog serve`: the schedules, in one process."""

from datetime import UTC, datetime

import click

from connectors.errors import UsageError
from flows.cli.options import Moment, catalog_option, datastore_option, option


@click.command()
@catalog_option
@datastore_option
@option("--name", metavar="NAME", help="What to call the deployments: sync/NAME.  [default: the data store's id]")
@option("--credentials", metavar="BLOCK", help="An AwsCredentials block of Prefect.  [default: boto3's own]")
@option("--rate", type=float, default=25.0, metavar="N", help="Requests a second for all runs together.")
@option("--burst", type=int, default=50, metavar="N", help="Requests that may go out at once after a pause.")
@option("--start", type=Moment(), help="Where coverage begins.  [default: when the data store was created]")
@option("--sync-cron", default="0 * * * *", metavar="CRON", help="When to sync; '' for on demand only.")
@option("--verify-cron", default="30 3 * * *", metavar="CRON", help="When to verify; '' for on demand only.")
@option("--part", metavar="K/N", default="today/30", help="What each verify takes of the catalog.")
@option("--time-zone", default="UTC", metavar="ZONE", help="Of the schedules, as in Europe/Berlin.")
def serve(
    *,
    catalog: str,
    datastore_id: str,
    name: str | None,
    credentials: str | None,
    rate: float,
    burst: int,
    start: datetime | None,
    sync_cron: str,
    verify_cron: str,
    part: str,
    time_zone: str,
) -> None:
    """Run the schedules from this process, without workers: sync hourly, verify daily, backfill on demand.

    The runs are processes beside this one. Until Ctrl-C or SIGTERM, which end them in order and pause the schedules.
    Needs a Prefect server, which keeps and shows the runs.

    \b
      prefect server start
      export PREFECT_API_URL=http://127.0.0.1:4200/api
      ahi-catalog serve --catalog s3://bucket/imaging --datastore-id ID --name radiology
    And from another shell:
      prefect deployment run backfill/radiology -p start=2026-05-01 -p end=2026-06-01
    """
    from connectors.settings import Quota, Settings
    from flows.cli.running import set_prefect_defaults
    from flows.planning import Part

    # What is wrong is said here and now, rather than by the first run at night.
    Settings(catalog=catalog, datastore_id=datastore_id, start=start, quota=Quota(rate=rate, burst=burst))
    Part.parse(part, datetime.now(UTC))
    # The runs inherit this: what is throttled, retried or stopped shows on their pages.
    set_prefect_defaults(PREFECT_LOGGING_EXTRA_LOGGERS="flows,connectors")
    from prefect.settings import get_current_settings  # Prefect takes seconds to import

    from flows.deployments import Plan, make_deployments
    from flows.serving import serve_deployments

    plan = Plan(
        name=name or datastore_id,
        catalog=catalog,
        datastore_id=datastore_id,
        credentials=credentials,
        quota=Quota(rate=rate, burst=burst),
        start=start,
        sync_cron=sync_cron,
        verify_cron=verify_cron,
        part=part,
        time_zone=time_zone,
    )
    try:
        deployments = make_deployments(plan)
    except ValueError:
        raise UsageError("a schedule is a cron expression ('0 * * * *'), a time zone one of IANA's (UTC)") from None
    if not get_current_settings().api.url:
        raise UsageError(
            "no Prefect server: run `prefect server start`, then export PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    names = ", ".join(f"{deployment.flow_name}/{deployment.name}" for deployment in deployments)
    click.echo(f"Serving {names}; Ctrl-C ends it. Run one now: prefect deployment run sync/{plan.name}", err=True)
    serve_deployments(deployments)
