"""The flows' parameters as Prefect's form and `prefect deployment run -p` show them, and the settings made of them.

Prefect keeps parameters in its database: they hold no patient's data, and of credentials only a block's name.
"""

from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ahi_catalog.connectors.durations import PATTERN, format_duration, parse_duration
from ahi_catalog.connectors.settings import Quota, S3Access, Settings
from ahi_catalog.pipeline.many import EACH


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


DatastoreIds = Annotated[list[Annotated[str, Field(pattern=r"^[0-9a-z]{32}$")]], Field(min_length=1)]
Duration = Annotated[str, Field(pattern=PATTERN)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
BlockName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Part = Annotated[str, Field(pattern=r"^(today|\d+)/\d+$")]


class Options(BaseModel):
    """What a run seldom needs to be told."""

    model_config = ConfigDict(extra="forbid")

    concurrency: Count | None = Field(
        default=None, description="Windows scanned side by side; as many as the rate needs if nothing is said."
    )
    settle: Duration = Field(
        default="10m", description="Held back from now: image sets younger than this may not be searchable yet."
    )
    partition: Literal["day", "month"] | None = Field(
        default=None, description="Span of one data object, fixed when the catalog is created; day if nothing is said."
    )
    dask: str | None = Field(
        default=None, description="Scan on a Dask cluster: its scheduler's tcp://host:8786, or local for this machine."
    )
    phi: Literal["keep", "pseudonymize", "drop"] | None = Field(
        default=None,
        description="What is done with patients' data, fixed when the catalog is created; keep if nothing is said.",
    )
    keep_text: bool = Field(
        default=False, description="With pseudonymize: keep study descriptions, which may name anyone."
    )
    shift_dates: bool = Field(
        default=False, description="With pseudonymize: move each patient's dates by days of their own."
    )
    phi_key_from: str = Field(
        default="env",
        description="Where the key of pseudonyms is kept: env, file:PATH, aws-secret:NAME, prefect-secret:NAME.",
    )
    bucket_owner: str | None = Field(default=None, description="Refuse a bucket that another account owns.")
    kms_key: str | None = Field(default=None, description="Encrypt objects in S3 with this KMS key.")
    sse_s3: bool = Field(default=False, description="Encrypt objects in S3 with S3's own keys.")
    page_budget: Count = Field(default=40, description="Pages after which a scan hands the rest of its window back.")
    buffer_rows: Count = Field(
        default=50_000,
        description="Rows held before partitions are published early, compressed ones counted as a fifth.",
    )
    max_attempts: Count = Field(default=10, description="Tries of one request before the run gives up.")


USUAL: Final = Options()
_S3: Final = tuple(field.name for field in fields(S3Access))


def make_settings(
    *,
    datastore_ids: list[str] | None,
    rate: float,
    burst: int,
    options: Options,
    look_back: str | None = None,
    **given: Any,
) -> Settings:
    """The settings of a run from its flow's parameters.

    Args:
        datastore_ids: The data stores; where it is not one, the settings are those of each.
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
    s3 = S3Access(**{name: named.pop(name) for name in _S3})
    datastore_id = datastore_ids[0] if datastore_ids and len(datastore_ids) == 1 else EACH
    return Settings(datastore_id=datastore_id, quota=Quota(rate=rate, burst=burst), s3=s3, **named, **given)


def parameters_of(settings: Settings) -> dict[str, Any]:
    """The parameters that every flow has, from settings: the way back from `make_settings`."""
    named = {name: getattr(settings.s3 if name in _S3 else settings, name) for name in Options.model_fields}
    return {
        "catalog": settings.catalog,
        "datastore_ids": None if settings.datastore_id == EACH else [settings.datastore_id],
        "rate": settings.quota.rate,
        "burst": settings.quota.burst,
        "options": Options.model_validate(named | {"settle": format_duration(settings.settle)}),
    }
