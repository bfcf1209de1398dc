"""The deployments that one process serves, the same as those of prefect.yaml, which a test compares."""

from dataclasses import dataclass, replace
from typing import Any, Final

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger, DeploymentTriggerTypes, ResourceSpecification, TriggerTypes
from prefect.types.entrypoint import EntrypointType

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.flows.backfill import backfill
from ahi_catalog.flows.metadata import metadata, metadata_parameters
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
        settings: Of every run, but that the quota is what syncs, verifies and backfills may use together.
        credentials: The name of an AwsCredentials block; None: what boto3 finds.
        sync_cron: When to sync; empty: never by itself.
        verify_cron: When to verify; empty: never by itself.
        part: What each verify takes.
        is_reading_metadata: Whether metadata is read after each sync; else on demand only.
        time_zone: That the schedules are meant in, as the IANA names it.
    """

    name: str
    settings: Settings
    credentials: str | None
    sync_cron: str
    verify_cron: str
    part: str
    is_reading_metadata: bool
    time_zone: str


def check_cron(setting: str, cron: str) -> None:
    """See that a setting is a cron expression, or empty.

    Raises:
        UsageError: It is neither.
    """
    try:
        CronSchedule(cron=cron or "0 * * * *")
    except ValueError:
        raise UsageError(f"`{setting}` is a cron expression of five fields, as '30 3 * * *', or empty") from None


def check_time_zone(time_zone: str) -> None:
    """See that there is such a time zone.

    Raises:
        UsageError: There is none.
    """
    try:
        CronSchedule(cron="0 * * * *", timezone=time_zone)
    except ValueError:
        raise UsageError("`time_zone` is one of the IANA's names, as UTC or Europe/Berlin") from None


def make_deployments(plan: Plan) -> list[RunnerDeployment]:
    """The deployments of a plan; nothing is sent to the server yet."""

    def shared(share: float, *names: str) -> dict[str, Any]:
        return parameters_of(replace(plan.settings, quota=plan.settings.quota.part(share)), *names)

    after_sync = DeploymentEventTrigger(
        name=f"{plan.name}: a sync is complete",
        enabled=plan.is_reading_metadata,
        match=ResourceSpecification.model_validate(
            {"ahi-catalog.catalog": plan.settings.catalog, "ahi-catalog.datastore-id": plan.settings.datastore_id}
        ),
        expect={"ahi-catalog.sync.completed"},
    )
    # Two syncs have nothing to do that one does not; ranges of a backfill wait for each other.
    return [
        _deploy(sync, plan, shared(0.4, "look_back", "start", "queue"), cron=plan.sync_cron),
        _deploy(verify, plan, shared(0.2) | {"part": plan.part}, cron=plan.verify_cron),
        _deploy(backfill, plan, shared(0.4), meeting=ConcurrencyLimitStrategy.ENQUEUE),
        _deploy(metadata, plan, metadata_parameters(plan.settings), triggers=[after_sync]),
    ]


def _deploy(
    flow: Flow[..., Any],
    plan: Plan,
    parameters: dict[str, Any],
    *,
    cron: str = "",
    meeting: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.CANCEL_NEW,
    triggers: list[DeploymentTriggerTypes | TriggerTypes] | None = None,
) -> RunnerDeployment:
    parameters["datastore_ids"] = [plan.settings.datastore_id]
    if plan.credentials:
        parameters["credentials"] = plan.credentials
    return RunnerDeployment.from_flow(
        flow,
        name=plan.name,
        schedules=[CronSchedule(cron=cron, timezone=plan.time_zone)] if cron else [],
        parameters=parameters,
        triggers=triggers,
        tags=["ahi-catalog", plan.settings.datastore_id],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=meeting, grace_period_seconds=_GRACE_SECONDS
        ),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
