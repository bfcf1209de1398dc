"""Options that commands share, and the types of their values."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from flows.durations import parse_duration

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
        except ValueError:
            self.fail("a date is 2026-05-01 or 2026-05-01T12:30:00Z (UTC where no zone is given)", param, ctx)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """A click option that `AHI_CATALOG_<NAME>` sets too, and that shows its default."""
    long = max(names, key=len).partition("/")[0]
    variable = "AHI_CATALOG_" + long.removeprefix("--").removeprefix("no-").replace("-", "_").upper()
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
datastore_option = option("--datastore-id", required=True, metavar="ID", help="The data store, 32 of 0-9 and a-z.")
json_option = option("--json", "as_json", is_flag=True, help="One JSON document on stdout, for machines.")

run_options = options(
    catalog_option,
    datastore_option,
    option("--rate", type=float, default=25.0, metavar="N", help="Requests a second that the quota allows."),
    option("--burst", type=int, default=50, metavar="N", help="Requests that may go out at once after a pause."),
    option("--concurrency", type=int, default=8, metavar="N", help="Windows scanned side by side."),
    option("--settle", type=Duration(), default="10m", help="Held back from now: younger rows may not be searchable."),
    option("--prefect/--no-prefect", default=True, help="Run as a Prefect flow, or on plain threads."),
    json_option,
)

creation_options = options(
    option(
        "--partition",
        type=click.Choice(["day", "month"]),
        help="Span of one data object, fixed when the catalog is created.  [default: day]",
    ),
    option(
        "--single-writer",
        is_flag=True,
        help="Create the catalog on a store that ignores conditional writes: one run at a time, and none beside it.",
    ),
)
