"""The flows' parameters as Prefect's form and `prefect deployment run -p` show them, and the settings made of them.

Prefect keeps parameters in its database: they hold no patient's data, and of credentials only a block's name.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.settings import Quota, Settings
from flows.durations import PATTERN, format_duration, parse_duration


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


DatastoreId = Annotated[str, Field(pattern=r"^[0-9a-z]{32}$")]
Duration = Annotated[str, Field(pattern=PATTERN)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
BlockName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Part = Annotated[str, Field(pattern=r"^(today|\d+)/\d+$")]


class Options(BaseModel):
    """What a run seldom needs to be told."""

    model_config = ConfigDict(extra="forbid")

    concurrency: Count = Field(default=8, description="Windows scanned side by side.")
    settle: Duration = Field(
        default="10m", description="Held back from now: image sets younger than this may not be searchable yet."
    )
    partition: Literal["day", "month"] | None = Field(
        default=None, description="Span of one data object, fixed when the catalog is created; day if nothing is said."
    )
    single_writer: bool = Field(
        default=False,
        description="Create the catalog on a store that ignores conditional writes, for one run at a time.",
    )
    page_budget: Count = Field(default=40, description="Pages after which a scan hands the rest of its window back.")
    buffer_rows: Count = Field(
        default=200_000, description="Rows held in memory before partitions are published early."
    )
    max_attempts: Count = Field(default=10, description="Tries of one request before the run gives up.")


USUAL: Final = Options()


def make_settings(*, rate: float, burst: int, options: Options, look_back: str | None = None, **given: Any) -> Settings:
    """The settings of a run from its flow's parameters.

    Args:
        rate: Requests a second.
        burst: Requests that may go out at once after a pause.
        options: The rest.
        look_back: A duration in words.
        given: The settings that are parameters of the same name.

    Raises:
        UsageError: They do not go together.
    """
    if look_back is not None:
        given["look_back"] = parse_duration(look_back)
    named = options.model_dump() | {"settle": parse_duration(options.settle)}
    return Settings(quota=Quota(rate=rate, burst=burst), **named, **given)


def parameters_of(settings: Settings) -> dict[str, Any]:
    """The parameters that every flow has, from settings: the way back from `make_settings`."""
    named = {name: getattr(settings, name) for name in Options.model_fields}
    return {
        "catalog": settings.catalog,
        "datastore_id": settings.datastore_id,
        "rate": settings.quota.rate,
        "burst": settings.quota.burst,
        "options": Options.model_validate(named | {"settle": format_duration(settings.settle)}),
    }
