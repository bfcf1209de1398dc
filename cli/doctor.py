"""`ahi-catalog doctor`."""

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from ahi_catalog.cli.options import (
    catalog_option,
    datastore_option,
    json_option,
    phi_key_option,
    prefect_option,
    s3_options,
    setting,
)
from ahi_catalog.cli.output import print_json, show
from ahi_catalog.cli.wording import in_shell_words
from ahi_catalog.connectors.errors import AhiCatalogError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ahi_catalog.doctor import Check

_LOOKS: Final = {"ok": ("✓", "green"), "fix": ("✗", "red"), "note": ("–", "yellow")}  # noqa: RUF001  # a dash, not a minus
_MUST_BE_FIXED: Final = 1


@click.command()
@catalog_option
@datastore_option
@s3_options
@phi_key_option
@setting("rate")
@setting("queue", help="An SQS queue of HealthImaging's events.")
@prefect_option
@json_option
def doctor(
    *,
    catalog: str,
    datastore_id: str,
    rate: float,
    queue: str | None,
    prefect: bool | None,
    as_json: bool,
    phi_key_from: str,
    **s3: Any,
) -> int:
    """Check what a sync needs, and say line by line what to fix.

    Credentials, region, data store, every permission, the clock, the queue of events, the bucket and its
    conditional writes, the key of the pseudonyms, encryption, Prefect. Nothing is changed but one small object of
    the doctor's own, _state/probe/doctor; no image set and no message is read. Ends with code 1 where something
    must be fixed.

    \b
    Before the first sync:
      ahi-catalog doctor --catalog s3://bucket/imaging --datastore-id ID
    """
    from ahi_catalog.connectors.settings import Quota, Settings
    from ahi_catalog.doctor import Verdict, examine  # `--help` does without boto3
    from ahi_catalog.flows.secrets import load_phi_key

    settings = Settings(
        catalog=catalog,
        datastore_id=datastore_id,
        quota=Quota(rate=rate),
        phi_key_from=phi_key_from,
        queue=queue,
        **s3,
    )
    found: list[Check] = []
    prefects = (_prefect(is_asked=prefect is True) for _ in [1] if prefect is not False)
    for check in chain(examine(settings, load_key=load_phi_key), prefects):
        found.append(check)
        if not as_json:
            show(_line(check))
    if as_json:
        print_json(
            [{"name": each.name, "verdict": str(each.verdict), "says": in_shell_words(each.says)} for each in found]
        )
    failed = sum(each.verdict is Verdict.FIX for each in found)
    if failed and not as_json:
        click.echo(f"{failed} to fix. What a role has to be allowed: ahi-catalog iam-policy", err=True)
    return _MUST_BE_FIXED if failed else 0


def _prefect(*, is_asked: bool) -> "Check":
    from ahi_catalog.doctor import fix, note, ok
    from ahi_catalog.flows.server import check_server
    from ahi_catalog.flows.settings import is_server_named

    name = "Prefect"
    if not is_server_named():
        runs = "flows, each on a temporary server" if is_asked else "plain, without Prefect"
        return note(name, f"its settings name no server (PREFECT_API_URL, the profile): runs are {runs}")
    try:
        return ok(name, check_server())
    except AhiCatalogError as error:
        return fix(name, str(error))


def _line(check: "Check") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    mark, color = _LOOKS[check.verdict]
    line = Table.grid()
    for width in (7, 19, None):
        line.add_column(width=width, overflow="fold")
    # A mark and a word, since not everyone sees the colour.
    line.add_row(Text(f"{mark} {check.verdict}", color), Text(check.name, "bold"), Text(in_shell_words(check.says)))
    return line
