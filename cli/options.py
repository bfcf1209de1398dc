"""Options that commands share, made of the declared settings, and the types of options' values."""

import os
import sys
from collections.abc import Callable
from functools import cached_property, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic import Field, TypeAdapter, ValidationError

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import Keyword, declared, explain

PREFIX: Final = "AHI_CATALOG_"
"""What the name of every variable of ours begins with."""

_Command = TypeVar("_Command", bound=Callable[..., Any])

DURATIONS: Final = "as 90s, 10m, 12h or 35d"
DATES: Final = "as 2026-05-01 or 2026-05-01T12:30:00Z (UTC where no zone is given)"
Count = Annotated[int, Field(ge=1)]
Rows = Annotated[int, Field(ge=1, le=1_009_557)]
"""Series of the Imaging Data Commons."""
WholeNumber = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


class Value(click.ParamType[Any]):
    """A value of a type that pydantic checks; text is converted, and what comes from TOML has to be of the type.

    Args:
        kind: The type.
    """

    name = "value"

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._kind)  # the help does without

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value as a command takes it."""
        try:
            return self._adapter.validate_python(value, strict=not isinstance(value, str))
        except ValidationError as error:
            self.fail(explain(error), param, ctx)


class Flag(click.types.BoolParamType):
    """True or false; of TOML's values nothing else."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """The value as a command takes it."""
        if not isinstance(value, str | bool):
            self.fail("this is true or false", param, ctx)
        return super().convert(value, param, ctx)


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """A click option that `AHI_CATALOG_<NAME>` sets too, and that shows its default.

    Args:
        names: As click takes them.
        attributes: As click takes them; `type` may be any type that pydantic checks, and is text by default. With
            `envvar` None neither a variable nor the settings file sets it, for it is asked for.
    """
    long = max((name for name in names if name.startswith("--")), key=len).partition("/")[0]
    variable = PREFIX + long.removeprefix("--").replace("-", "_").upper()
    attributes.setdefault("envvar", variable)
    attributes.setdefault("show_default", True)
    kind = attributes.pop("type", str)
    if attributes.get("is_flag") or "/" in "".join(names):
        kind = Flag()
    elif not isinstance(kind, click.ParamType):
        kind = Value(kind)
    return click.option(*names, type=kind, **attributes)


def setting(name: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """The option of a declared setting: its type, default and description.

    Args:
        name: Of the setting.
        attributes: What a command has otherwise, as click takes it.
    """
    found = declared()[name]
    kind, choices = found.type, _choices(found.field.annotation)
    if choices:
        kind = click.Choice(choices)
    told: dict[str, Any] = {"help": found.description, "type": kind, "required": found.is_required}
    if found.field.annotation is bool:
        told["is_flag"] = True
    elif not choices:
        told["metavar"] = found.metavar or "N"
    if found.default is not None:
        told["default"] = found.default
    return option(f"--{name.replace('_', '-')}", **told | attributes)


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, UnionType) or get_origin(annotation) is not None:
        return next((found for each in get_args(annotation) if each is not NoneType and (found := _choices(each))), ())
    return ()


def options(*several: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: _Command) -> _Command:
        for add in reversed(several):
            command = add(command)
        return command

    return decorate


def _only_one(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> str:
    """The one that is given; a settings file or a variable may name several, and none of them must be overlooked."""
    if len(given) != 1:
        raise click.BadParameter(f"one data store here, not {len(given)}: choose one by this flag", context, parameter)
    return given[0]


catalog_option = setting("catalog")
# The form of an id is checked where `Settings` are made, in one line that says how to find the right one.
datastore_option = setting("datastore_id", type=str, multiple=True, callback=_only_one)
datastore_options = options(
    setting(
        "datastore_id",
        type=str,
        multiple=True,
        required=False,
        help=f"{declared()['datastore_id'].description} Again for each of several.",
    ),
    option("--all", is_flag=True, help="All active data stores of the account and region, side by side."),
)
json_option = option("--json", "as_json", is_flag=True, help="One JSON document on stdout, for machines.")
owner_option = setting("bucket_owner")
http_option = setting("allow_http")
phi_key_option = setting("phi_key_from")
phi_options = options(setting("phi"), setting("keep_text"), setting("shift_dates"), phi_key_option)
s3_options = options(owner_option, setting("kms_key"), setting("sse_s3"), http_option)
share_option = option(
    "--share", type=Number, default=1.0, metavar="X", help="Of rate and burst; viewers keep the rest."
)
_AGAIN: Final = "Again for each of several."
quota_options = options(setting("rate"), setting("burst"), share_option)
metadata_options = options(
    setting("metadata_rate"),
    setting("metadata_burst"),
    setting("keyword", multiple=True, type=Keyword, help=f"{declared()['keyword'].description} {_AGAIN}"),
    setting("instances"),
)
form_options = options(
    option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "json", "parquet"]),
        show_default="table",
        help="How to write the answer to stdout.",
    ),
    option("--json", "as_json", is_flag=True, help="The same as --format json."),
)


def chosen_form(form: str | None, *, as_json: bool) -> str:
    """The form that the options --format and --json ask for.

    Raises:
        UsageError: They contradict each other, or bytes would go to a terminal.
    """
    if as_json and form not in {None, "json"}:
        raise UsageError("give --json or --format, not both")
    if form == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal: send stdout to a file")
    return form or ("json" if as_json else "table")


def _usual_price(tier: str) -> float:
    from ahi_catalog.schemas.views import US_EAST  # `--help` does without pyarrow

    price: float = getattr(US_EAST, tier)
    return price


_PRICE: Final[dict[str, Any]] = {"type": Number, "metavar": "USD", "show_default": "US East's"}
price_options = options(
    option(
        "--frequent-price",
        default=partial(_usual_price, "frequent"),
        help="Of a GB and month, not archived.",
        **_PRICE,
    ),
    option(
        "--archive-price",
        default=partial(_usual_price, "archive"),
        help="Of a GB and month in the archive.",
        **_PRICE,
    ),
)
settle_option = setting("settle")
reading_options = options(
    quota_options,
    setting("concurrency"),
    settle_option,
    setting("dask"),
    phi_options,
    s3_options,
    setting("unknown_fields"),
    setting("iceberg"),
    setting("page_budget"),
    setting("buffer_bytes"),
    setting("max_attempts"),
)


def _set_receiver(context: click.Context, parameter: click.Parameter, url: str | None) -> None:
    del context, parameter
    if url:
        from ahi_catalog.connectors import notices  # `--help` does without pyarrow

        os.environ[notices.VARIABLE] = notices.check_receiver(url)


notify_option = option(
    "--notify",
    metavar="URL",
    expose_value=False,
    callback=_set_receiver,
    help="POST a notice here when this fails, differs or drifts, and when it is well again (Slack, Teams, Mattermost). "
    "The URL is a secret: better in the variable than in the command.",
)
prefect_option = option(
    "--prefect/--no-prefect",
    default=None,
    show_default="a flow where Prefect's settings name a server",
    help="Run as a Prefect flow, on a temporary server where none is named; or on plain threads, without Prefect.",
)
run_options = options(
    catalog_option,
    datastore_options,
    reading_options,
    notify_option,
    prefect_option,
    json_option,
)
creation_options = setting("partition")
sync_options = options(setting("look_back"), setting("start"), setting("queue"))
