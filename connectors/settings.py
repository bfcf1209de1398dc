"""The settings of a run, each declared once: its name, type, default, limits and description.

The command line, the variables, the settings file and Prefect's form are made of these declarations (`declared`).
Credentials, regions and endpoints are not here: they are boto3's own (``AWS_*``, profiles).
"""

import math
import re
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from dataclasses import dataclass as plain_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from ahi_catalog.connectors.durations import PATTERN, format_duration, parse_duration, parse_moment
from ahi_catalog.connectors.errors import UsageError

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No image set is older."""
DATASTORE_ID: Final = r"^[0-9a-z]{32}$"

_LATENCY: Final = 0.2
_FEWEST_WORKERS: Final = 8
_MOST_WORKERS: Final = 64
_LONGEST: Final = timedelta(days=36_500)
_SCHEDULER: Final = re.compile(r"(tcp|tls)://[A-Za-z0-9.:\[\]-]+:\d{1,5}")
_QUEUE: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9_.-]+)+")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")


@plain_dataclass(frozen=True, slots=True)
class Metavar:
    """What stands for a setting's value in a command's help."""

    text: str


def check_datastore_id(text: str) -> str:
    """The text, which may be a data store's id.

    Raises:
        UsageError: It is none.
    """
    if not re.fullmatch(DATASTORE_ID, text):
        raise UsageError("a data store id is 32 of 0-9 and a-z; list yours with: aws medical-imaging list-datastores")
    return text


def _check_image_set_id(text: str) -> str:
    if not re.fullmatch(DATASTORE_ID, text):
        raise UsageError("an image set id is 32 of 0-9 and a-z")
    return text


def _check_start(moment: datetime) -> datetime:
    if moment < EARLIEST:
        raise UsageError("coverage cannot begin before 1970-01-01: no image set is that old")
    return moment


def _check_length(length: timedelta) -> timedelta:
    if not timedelta() <= length <= _LONGEST:
        raise ValueError("a duration is between 0 and 36500d")
    return length


def _check_pause(length: timedelta) -> timedelta:
    if length < timedelta(seconds=1):
        raise ValueError("a watch waits at least 1s between two passes")
    return length


def _check_account(text: str) -> str:
    if not _ACCOUNT.fullmatch(text):
        raise ValueError("a bucket owner is an AWS account id, twelve digits")
    return text


def _check_queue(text: str) -> str:
    if not _QUEUE.fullmatch(text):
        raise ValueError("a queue is named by its URL: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    return text


def _check_dask(text: str) -> str:
    if text != "local" and not _SCHEDULER.fullmatch(text):
        raise ValueError("a Dask cluster is tcp://host:port or tls://host:port, or local for one on this machine")
    return text


def split_iceberg(text: str) -> tuple[str, tuple[str, ...]]:
    """The name of a catalog of PyIceberg's, and a namespace in it.

    Raises:
        ValueError: The text is not both.
    """
    name, *namespace = text.split(".")
    if not (namespace and name and all(namespace)):
        raise ValueError("Iceberg tables are at NAME.NAMESPACE: a catalog of PyIceberg's settings, and a part of it")
    return name, tuple(namespace)


def _check_iceberg(text: str) -> str:
    split_iceberg(text)
    return text


def _default_in_words(schema: dict[str, Any]) -> None:
    # Pydantic writes a default as ISO 8601 has it, whatever the serializer says.
    if "default" in schema:
        schema["default"] = format_duration(TypeAdapter(timedelta).validate_python(schema["default"]))


def _if_given(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda given: None if given is None else check(given)


Moment = Annotated[datetime, BeforeValidator(parse_moment), Metavar("DATE")]
"""ISO 8601, UTC where no zone is given; aware."""
Keyword = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{1,63}$")]
"""Of the DICOM dictionary, as in PS3.6."""
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    AfterValidator(_check_length),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "pattern": PATTERN}),
    Metavar("DURATION"),
]
"""A number and a unit of s, m, h or d; 0 needs no unit."""

Catalog = Annotated[
    str,
    Field(
        description="Where the catalog is: s3://bucket/prefix, or a folder of the machine that runs this.",
        examples=["s3://bucket/imaging"],
    ),
    Metavar("URL"),
]
DatastoreId = Annotated[
    str,
    AfterValidator(check_datastore_id),
    Field(
        description="The data store to read, 32 of 0-9 and a-z.",
        json_schema_extra={"pattern": DATASTORE_ID},
        examples=["0123456789abcdef0123456789abcdef"],
    ),
    Metavar("ID"),
]
ImageSetId = Annotated[str, AfterValidator(_check_image_set_id)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Burst = Annotated[int, Field(ge=1)]
Rate = Annotated[
    _Rate, Field(description="Requests a second: this run's share of the account's quota for HealthImaging.")
]
Burst = Annotated[_Burst, Field(description="Requests that may go out at once after a pause.")]
MetadataRate = Annotated[_Rate, Field(description="Requests a second of GetImageSetMetadata, which has its own quota.")]
MetadataBurst = Annotated[_Burst, Field(description="Requests of it that may go out at once after a pause.")]
Iceberg = Annotated[
    str,
    AfterValidator(_check_iceberg),
    Field(
        description="NAME of a catalog that PyIceberg is configured with, and a NAMESPACE in it.",
        examples=["glue.imaging"],
    ),
    Metavar("NAME.NAMESPACE"),
]
Keywords = Annotated[
    tuple[Keyword, ...],
    Field(
        description="A keyword of the DICOM dictionary to keep in the column attributes, from now on.",
        examples=["ExposureTime"],
    ),
    Metavar("KEYWORD"),
]
Instances = Annotated[bool, Field(description="Keep the table instances too, one row a SOP instance, from now on.")]
Archived = Annotated[
    bool,
    Field(description="Read archived image sets too. That moves them to the frequent tier for 30 days at least."),
]
LookBack = Annotated[
    Duration,
    Field(
        description="Read again behind the watermark, for image sets that became searchable late: 90s, 10m, 12h, 1d, 0."
    ),
]
Every = Annotated[
    Duration,
    AfterValidator(_check_pause),
    Field(description="How often a watch asks for what is new and what has changed: 30s, 5m; at least 1s."),
]
Start = Annotated[
    datetime | None,
    BeforeValidator(_if_given(parse_moment)),
    AfterValidator(_if_given(_check_start)),
    Field(
        description="Where coverage begins, as 2026-05-01 or 2026-05-01T12:30:00Z, UTC where no zone is given; fixed "
        "by a data store's first sync. Not set: when the data store was created.",
        examples=["2024-01-01"],
    ),
    Metavar("DATE"),
]
QueueUrl = Annotated[
    str | None,
    AfterValidator(_if_given(_check_queue)),
    Field(
        description="URL of an SQS queue of HealthImaging's events: what is deleted goes whatever its age, and a watch "
        "wakes at once.",
        examples=["https://sqs.eu-west-1.amazonaws.com/123456789012/ahi-catalog-events"],
    ),
    Metavar("URL"),
]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class _Declared:
    """Settings whose wrong values are a `UsageError`, wherever they come from."""

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_wrong_values(cls, given: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return make(given)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            reason = explain(error)
        # Outside of the handler: pydantic's error quotes values.
        raise UsageError(f"`{where}`: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(_Declared):
    """The account's request quota for HealthImaging, as far as this process may use it."""

    rate: Rate = 25.0
    burst: Burst = 50

    @property
    def workers(self) -> int:
        """Requests side by side that use the rate up while an answer takes a fifth of a second: rate times latency."""
        return min(max(math.ceil(self.rate * _LATENCY), _FEWEST_WORKERS), _MOST_WORKERS)

    def part(self, share: float) -> "Quota":
        """A share of the quota, so that others on the account keep the rest.

        Args:
            share: Above 0, at most 1.
        """
        if not 0 < share <= 1:
            raise UsageError("the share of the quota is above 0 and at most 1")
        return Quota(rate=self.rate * share, burst=max(1, int(self.burst * share)))


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataOptions(_Declared):
    """What of the image sets' metadata is read, and how fast."""

    metadata_rate: MetadataRate = 50.0
    metadata_burst: MetadataBurst = 100
    keyword: Keywords = ()
    instances: Instances = False
    archived: Archived = False

    @property
    def quota(self) -> Quota:
        """The account's quota for metadata, as far as this process may use it."""
        return Quota(rate=self.metadata_rate, burst=self.metadata_burst)

    def part(self, share: float) -> "MetadataOptions":
        """The same with a share of the quota, above 0 and at most 1."""
        part = self.quota.part(share)
        return replace(self, metadata_rate=part.rate, metadata_burst=part.burst)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access(_Declared):
    """How objects in S3 are read and written."""

    bucket_owner: Annotated[
        str | None,
        AfterValidator(_if_given(_check_account)),
        Field(
            description="Refuse a bucket that another account owns: the owner's twelve digits.",
            examples=["123456789012"],
        ),
        Metavar("ACCOUNT"),
    ] = None
    kms_key: Annotated[
        str | None,
        Field(
            description="Encrypt objects in S3 with this KMS key: an id, an ARN or an alias.",
            examples=["alias/catalog"],
        ),
        Metavar("KEY"),
    ] = None
    sse_s3: Annotated[
        bool, Field(description="Encrypt objects in S3 with S3's own keys, whatever the bucket's default.")
    ] = False
    allow_http: Annotated[
        bool,
        Field(
            description="Let rows travel in the clear to an endpoint that is not https, as http://minio:9000 in a "
            "network that you trust; never to AWS."
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.kms_key is not None and self.sse_s3:
            raise UsageError("give `kms_key` or `sse_s3`, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(S3Access):
    """What a run seldom needs to be told."""

    concurrency: Annotated[
        int | None,
        Field(ge=1, description="Windows scanned side by side. Not set: as many as the rate needs.", examples=[8]),
    ] = None
    settle: Annotated[
        Duration,
        Field(
            description="Held back from now, as 90s, 10m, 12h, 1d or 0: image sets younger than this may not be "
            "searchable yet.",
            json_schema_extra=_default_in_words,
        ),
    ] = timedelta(minutes=10)
    partition: Annotated[
        Literal["day", "month"] | None,
        Field(description="Span of one data object, fixed when the catalog is created. Not set: day."),
    ] = None
    dask: Annotated[
        str | None,
        AfterValidator(_if_given(_check_dask)),
        Field(
            description="Scan on a Dask cluster: its scheduler's tcp://host:8786, or local for processes of this "
            "machine. Not set: on threads.",
            examples=["local"],
        ),
        Metavar("ADDRESS"),
    ] = None
    phi: Annotated[
        Literal["keep", "pseudonymize", "drop"] | None,
        Field(description="What is done with patients' data, fixed when the catalog is created. Not set: keep."),
    ] = None
    keep_text: Annotated[
        bool, Field(description="With pseudonymize: keep study descriptions, which may name anyone.")
    ] = False
    shift_dates: Annotated[
        bool, Field(description="With pseudonymize: move each patient's dates by days of their own.")
    ] = False
    phi_key_from: Annotated[
        str,
        Field(
            description="Where the key of pseudonyms is kept: env (AHI_CATALOG_PHI_KEY), file:PATH, aws-secret:NAME or "
            "prefect-secret:NAME."
        ),
        Metavar("PLACE"),
    ] = "env"
    unknown_fields: Annotated[
        Literal["keep", "fail"],
        Field(description="Fields of the service that this version does not know: keep them in extra, or fail."),
    ] = "keep"
    iceberg: Annotated[
        str | None,
        AfterValidator(_if_given(_check_iceberg)),
        Field(
            description="Make Iceberg tables equal to the catalog at the end, a watch every five minutes: NAME of a "
            "catalog that PyIceberg is configured with, and a NAMESPACE in it.",
            examples=["glue.imaging"],
        ),
        Metavar("NAME.NAMESPACE"),
    ] = None
    page_budget: Annotated[
        int, Field(ge=1, description="Pages after which a scan hands the remainder of its window back.")
    ] = 4
    buffer_bytes: Annotated[
        int, Field(ge=1, description="Bytes of rows held in memory before partitions are published early.")
    ] = 64_000_000
    max_attempts: Annotated[int, Field(ge=1, description="Tries of one request before the run gives up.")] = 10

    def __post_init__(self) -> None:
        S3Access.__post_init__(self)
        if (self.keep_text or self.shift_dates) and self.phi != "pseudonymize":
            raise UsageError("`keep_text` and `shift_dates` go with `phi` pseudonymize")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Options):
    """Everything a run needs to know, fixed when it starts. Holds no client, no credential, no patient's data."""

    catalog: Catalog
    datastore_id: DatastoreId
    quota: Quota = Quota()
    metadata: MetadataOptions = MetadataOptions()
    look_back: LookBack = timedelta(days=1)
    every: Every = timedelta(seconds=30)
    start: Start = None
    queue: QueueUrl = None

    @classmethod
    def of(cls, **given: Any) -> Self:
        """Settings by their declared names, those of the two quotas among them.

        Raises:
            UsageError: One of them is wrong, or they do not go together.
        """

        def take(made: type[Quota | MetadataOptions]) -> Any:
            return made(**{each.name: given.pop(each.name) for each in fields(made) if each.name in given})

        return cls(quota=take(Quota), metadata=take(MetadataOptions), **given)

    @property
    def s3(self) -> S3Access:
        """How objects in S3 are read and written."""
        return S3Access(**{each.name: getattr(self, each.name) for each in fields(S3Access)})

    @property
    def workers(self) -> int:
        """Windows scanned side by side."""
        return self.quota.workers if self.concurrency is None else self.concurrency


@plain_dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is declared.

    Attributes:
        name: In Python, in Prefect's form and in the settings file.
        type: With its limits and its description, as pydantic reads them.
        default: As it is written in words; None where there is none.
        is_required: Whether it has to be given.
        field: Pydantic's view of it.
    """

    name: str
    type: Any
    default: Any
    is_required: bool
    field: FieldInfo

    @property
    def description(self) -> str:
        """A sentence or two."""
        return self.field.description or ""

    @property
    def example(self) -> Any:
        """A value of the right form; None where the default is one."""
        return self.field.examples[0] if self.field.examples else None

    @property
    def metavar(self) -> str | None:
        """What stands for a value in a command's help; None where the type says it."""
        return next((each.text for each in self.field.metadata if isinstance(each, Metavar)), None)


def _in_words(default: Any) -> Any:
    return format_duration(default) if isinstance(default, timedelta) else default


@cache
def declared() -> MappingProxyType[str, Setting]:
    """Every setting by its name, in the order of their declaration."""
    found = {
        field.name: Setting(
            field.name,
            hints[field.name],
            None if field.default is MISSING else _in_words(field.default),
            field.default is MISSING,
            FieldInfo.from_annotation(hints[field.name]),
        )
        for made in (Settings, Quota, MetadataOptions)
        for hints in [get_type_hints(made, include_extras=True)]
        for field in fields(made)
        if field.name not in {"quota", "metadata"}
    }
    return MappingProxyType(found)


def explain(error: ValidationError) -> str:
    """What is wrong with a value, in one line that does not quote it."""
    found = error.errors(include_url=False, include_input=False)[0]
    return str(found["ctx"]["error"]) if found["type"] == "value_error" else found["msg"]
