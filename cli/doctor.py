"""`ahi-catalog doctor`."""

from typing import TYPE_CHECKING, Any, Final

import click

from ahi_catalog.cli.options import catalog_option, datastore_option, json_option, option, phi_key_option, s3_options
from ahi_catalog.cli.output import print_json, show

if TYPE_CHECKING:
    from rich.text import Text

    from ahi_catalog.doctor import Check

_LOOKS: Final = {"ok": ("✓", "green"), "fix": ("✗", "red"), "note": ("–", "yellow")}  # noqa: RUF001  # a dash, not a minus
_MUST_BE_FIXED: Final = 1


@click.command()
@catalog_option
@datastore_option
@s3_options
@phi_key_option
@option("--rate", type=float, default=25.0, metavar="N", help="Requests a second that the quota allows.")
@option("--prefect/--no-prefect", default=True, help="Whether runs go through Prefect.")
@json_option
def doctor(
    *, catalog: str, datastore_id: str, rate: float, prefect: bool, as_json: bool, phi_key_from: str, **s3: Any
) -> int:
    """Check what a sync needs, and say line by line what to fix.

    Credentials, region, data store, every permission, the clock, the bucket and its conditional writes, the key
    of the pseudonyms, encryption, Prefect. Nothing is changed but one small object of the doctor's own,
    _state/probe/doctor, and no image set is read. Ends with code 1 where something must be fixed.

    \b
    Before the first sync:
      ahi-catalog doctor --catalog s3://bucket/imaging --datastore-id ID
    """
    from ahi_catalog.connectors.settings import Quota, S3Access, Settings  # `--help` does without boto3
    from ahi_catalog.doctor import Verdict, examine

    settings = Settings(
        catalog=catalog,
        datastore_id=datastore_id,
        quota=Quota(rate=rate),
        phi_key_from=phi_key_from,
        s3=S3Access(**s3),
    )
    found: list[Check] = []
    for check in examine(settings, prefect=prefect):
        found.append(check)
        if not as_json:
            show(_line(check), fold=False)
    if as_json:
        print_json([{"name": each.name, "verdict": str(each.verdict), "says": each.says} for each in found])
    failed = sum(each.verdict is Verdict.FIX for each in found)
    if failed and not as_json:
        click.echo(f"{failed} to fix. What a role has to be allowed: ahi-catalog iam-policy", err=True)
    return _MUST_BE_FIXED if failed else 0


def _line(check: "Check") -> "Text":
    from rich.text import Text

    mark, color = _LOOKS[check.verdict]
    # A mark and a word, since not everyone sees the colour.
    return Text.assemble((f"{mark} {check.verdict:<5}", color), (f"{check.name:<19}", "bold"), check.says)
