"""The three deployments that one process serves, the same as those of prefect.yaml, which a test compares."""

from dataclasses import dataclass, replace
from typing import Any, Final

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from ahi_catalog.connectors.settings import Settings
from ahi_catalog.flows.backfill import backfill
from ahi_catalog.flows.parameters import parameters_of
from ahi_catalog.flows.sync import sync
from ahi_catalog.flows.verify import verify

_GRACE_SECONDS: Final = 600
"""For which a run that is starting holds its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run when.

    Attributes:
        name: Of the deployments, after the flow's: ``sync/NAME``.
        settings: Of every run, but that the quota is what the three may use together.
        credentials: The name of an AwsCredentials block; None: what boto3 finds.
        sync_cron: When to sync; empty: never by itself.
        verify_cron: When to verify; empty: never by itself.
        part: What each verify takes.
        time_zone: That the schedules are meant in, as the IANA names it.
    """

    name: str
    settings: Settings
    credentials: str | None
    sync_cron: str
    verify_cron: str
    part: str
    time_zone: str


def make_deployments(plan: Plan) -> list[RunnerDeployment]:
    """The deployments of a plan; nothing is sent to the server yet.

    Raises:
        ValueError: A schedule is no cron expression, or the time zone is none.
    """
    # Two syncs have nothing to do that one does not; ranges of a backfill wait for each other.
    return [
        _deploy(sync, plan, 0.4, "look_back", "start", "queue", cron=plan.sync_cron),
        _deploy(verify, plan, 0.2, cron=plan.verify_cron, parameters={"part": plan.part}),
        _deploy(backfill, plan, 0.4, meeting=ConcurrencyLimitStrategy.ENQUEUE),
    ]


def _deploy(
    flow: Flow[..., Any],
    plan: Plan,
    share: float,
    *settings: str,
    cron: str = "",
    parameters: dict[str, Any] | None = None,
    meeting: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.CANCEL_NEW,
) -> RunnerDeployment:
    always = parameters_of(replace(plan.settings, quota=plan.settings.quota.part(share)), *settings)
    always["datastore_ids"] = [plan.settings.datastore_id]
    if plan.credentials:
        always["credentials"] = plan.credentials
    return RunnerDeployment.from_flow(
        flow,
        name=plan.name,
        schedules=[CronSchedule(cron=cron, timezone=plan.time_zone)] if cron else [],
        parameters=always | (parameters or {}),
        tags=["ahi-catalog", plan.settings.datastore_id],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=meeting, grace_period_seconds=_GRACE_SECONDS
        ),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
