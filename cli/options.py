"""Options that commands share, and the types of their values."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from ahi_catalog.connectors.durations import parse_duration

PREFIX: Final = "AHI_CATALOG_"
"""What the name of every variable of ours begins with."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Duration(click.ParamType[timedelta]):
    """A number and a unit of s, m, h or d; 0 needs no unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The duration that a text names."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType[datetime]):
    """An ISO 8601 date, or date and time; UTC where no zone is given."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The aware UTC moment that a text names, or a date of TOML."""
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail("a date is 2026-05-01 or 2026-05-01T12:30:00Z (UTC where no zone is given)", param, ctx)


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """A click option that `AHI_CATALOG_<NAME>` sets too, and that shows its default."""
    long = max((name for name in names if name.startswith("--")), key=len).partition("/")[0]
    variable = PREFIX + long.removeprefix("--").removeprefix("no-").replace("-", "_").upper()
    attributes.setdefault("show_default", True)
    return click.option(*names, envvar=variable, **attributes)


def options(*several: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: _Command) -> _Command:
        for add in reversed(several):
            command = add(command)
        return command

    return decorate


catalog_option = option("--catalog", required=True, metavar="URL", help="s3://bucket/prefix or a local folder.")


def _only_one(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> str:
    """The one that is given; a settings file or a variable may name several, and none of them must be overlooked."""
    if len(given) != 1:
        raise click.BadParameter(f"one data store here, not {len(given)}: choose one by this flag", context, parameter)
    return given[0]


datastore_option = option(
    "--datastore-id",
    required=True,
    multiple=True,
    callback=_only_one,
    metavar="ID",
    help="The data store, 32 of 0-9 and a-z.",
)
datastore_options = options(
    option(
        "--datastore-id",
        multiple=True,
        metavar="ID",
        help="The data store, 32 of 0-9 and a-z; again for each of several.",
    ),
    option("--all", is_flag=True, help="All active data stores of the account and region, side by side."),
)
json_option = option("--json", "as_json", is_flag=True, help="One JSON document on stdout, for machines.")

owner_option = option("--bucket-owner", metavar="ACCOUNT", help="Refuse a bucket that another account owns.")

phi_key_option = option(
    "--phi-key-from",
    default="env",
    metavar="PLACE",
    help="Where the key is kept: env (AHI_CATALOG_PHI_KEY), file:PATH, aws-secret:NAME or prefect-secret:NAME.",
)
phi_options = options(
    option(
        "--phi",
        type=click.Choice(["keep", "pseudonymize", "drop"]),
        help="What is done with patients' data, fixed when the catalog is created.  [default: keep]",
    ),
    option("--keep-text", is_flag=True, help="With pseudonymize: keep study descriptions, which may name anyone."),
    option("--shift-dates", is_flag=True, help="With pseudonymize: move each patient's dates by days of their own."),
    phi_key_option,
)

s3_options = options(
    owner_option,
    option("--kms-key", metavar="KEY", help="Encrypt objects in S3 with this KMS key: an id, an ARN or an alias."),
    option("--sse-s3", is_flag=True, help="Encrypt objects in S3 with S3's own keys, whatever the bucket's default."),
)

quota_options = options(
    option("--rate", type=float, default=25.0, metavar="N", help="Requests a second that the quota allows."),
    option("--burst", type=int, default=50, metavar="N", help="Requests that may go out at once after a pause."),
    option("--share", type=float, default=1.0, metavar="X", help="Of rate and burst; viewers keep the rest."),
)
settle_option = option(
    "--settle", type=Duration(), default="10m", help="Held back from now: younger rows may not be searchable."
)

reading_options = options(
    quota_options,
    option("--concurrency", type=int, metavar="N", help="Windows scanned side by side.  [default: as the rate needs]"),
    settle_option,
    option("--dask", metavar="ADDRESS", help="Scan on a Dask cluster: its scheduler's tcp://host:8786, or local."),
    phi_options,
    s3_options,
)

run_options = options(
    catalog_option,
    datastore_options,
    reading_options,
    option("--prefect/--no-prefect", default=True, help="Run as a Prefect flow, or on plain threads."),
    json_option,
)

creation_options = options(
    option(
        "--partition",
        type=click.Choice(["day", "month"]),
        help="Span of one data object, fixed when the catalog is created.  [default: day]",
    ),
)

sync_options = options(
    option("--look-back", type=Duration(), default="1d", help="Read again behind the watermark, for late rows."),
    option("--start", type=Moment(), help="Where coverage begins.  [default: when the data store was created]"),
)
