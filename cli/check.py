"""`ahi-catalog check`."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import DURATIONS, json_option, notify_option, option
from ahi_catalog.cli.output import print_json, print_table
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import Duration

if TYPE_CHECKING:
    from ahi_catalog.connectors.catalog import Catalog


class _Share(click.ParamType[tuple[str, float]]):
    """``column=1%`` or ``column=0.01``, as a pair of a name and a share."""

    name = "share"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """The column, and a share from 0 to 1."""
        column, _, text = value.partition("=")
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not column or not 0 <= share <= 1:
            self.fail("this is a column and a share of the rows: study_date=1%", param, ctx)
        return column, share


def _tell(opened: "Catalog", datastore_id: str, failed: list[str]) -> None:
    from ahi_catalog.connectors import notices  # `--help` does without pyarrow

    state = "failed" if failed else notices.WELL
    words = f"fails: {', '.join(failed)}" if failed else "is well again"
    notice = {
        "text": f"ahi-catalog: the check of data store {datastore_id} {words}",
        "flow": "check",
        "state": state,
        "catalog": opened.store.url,
        "datastore_id": datastore_id,
        "failed": failed,
    }
    notices.tell_change(opened.store, datastore_id, "check", state, notice)


@click.command()
@read_options
@option("--max-lag", type=Duration, metavar="2h", help=f"The watermark is at most so old, {DURATIONS}.")
@option("--max-gap", type=Duration, metavar="0", help=f"No uncovered range is longer, {DURATIONS}; 0: there is none.")
@option(
    "--max-verify-age",
    type=Duration,
    metavar="35d",
    help=f"A verify has ended so lately, {DURATIONS}, and left nothing.",
)
@option("--no-lost-objects", is_flag=True, help="No data object is lost.")
@option(
    "--max-unparsable",
    type=_Share(),
    multiple=True,
    metavar="study_date=1%",
    help="In at most so many rows the column cannot hold what was sent. Again for each column.",
)
@option("--no-unknown-fields", is_flag=True, help="The service has sent no field that this version does not know.")
@option("--no-conflicts", is_flag=True, help="The view conflicts has no row.")
@notify_option
@json_option
def check(
    *,
    catalog: str,
    bucket_owner: str | None,
    allow_http: bool,
    max_lag: timedelta | None,
    max_gap: timedelta | None,
    max_verify_age: timedelta | None,
    no_lost_objects: bool,
    max_unparsable: Iterable[tuple[str, float]],
    no_unknown_fields: bool,
    no_conflicts: bool,
    as_json: bool,
) -> int:
    """Say whether a catalog is fit to be used: a line for each limit, and a verdict.

    Exit code 0 where all limits are met, 1 where one is not. Nothing is asked of the service. Without a limit
    the usual ones are checked: --max-lag 3h --max-gap 0 --no-lost-objects

    \b
    Before a report is made from it:
      ahi-catalog check --catalog s3://bucket/imaging --max-lag 2h --max-unparsable study_date=1%
    The limits may stand in ahi-catalog.toml:
      max-lag = "2h"
      max-unparsable = ["study_date=1%", "study_datetime=5%"]
    """
    from ahi_catalog.connectors.catalog import checks  # `--help` does without pyarrow
    from ahi_catalog.connectors.catalog.summary import summarize
    from ahi_catalog.schemas.decoding import UNPARSABLE

    shares = dict(max_unparsable)
    if unknown := sorted(set(shares) - UNPARSABLE):
        raise UsageError(
            f"no value of {unknown[0]} can be unparsable; those of these can: {', '.join(sorted(UNPARSABLE))}"
        )
    asked = checks.Limits(
        max_lag=max_lag,
        max_gap=max_gap,
        max_verify_age=max_verify_age,
        no_lost_objects=no_lost_objects,
        max_unparsable=shares,
        no_unknown_fields=no_unknown_fields,
        no_conflicts=no_conflicts,
    )
    limits = checks.USUAL if asked == checks.Limits() else asked
    opened, now = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http), datetime.now(UTC)
    found = {
        datastore_id: checks.check(opened, summarize(opened, datastore_id, runs=0), limits, now)
        for datastore_id in opened.datastore_ids()
    }
    if not found:
        raise UsageError("the catalog holds no data store yet; sync it first")
    for datastore_id, checked in found.items():
        _tell(opened, datastore_id, [its.name for its in checked if not its.is_met])
    passed = all(its.is_met for checked in found.values() for its in checked)
    if as_json:
        stores = [
            {
                "datastore_id": datastore_id,
                "checks": [
                    {"name": its.name, "passed": its.is_met, "found": its.found, "limit": its.limit} for its in checked
                ],
            }
            for datastore_id, checked in found.items()
        ]
        print_json({"format": 1, "passed": passed, "datastores": stores})
        return int(not passed)
    for datastore_id, checked in found.items():
        rows = [["ok" if its.is_met else "FAILED", its.name, its.found, its.limit] for its in checked]
        print_table(f"data store {datastore_id}", ["", "what", "found", "limit"], rows)
    click.echo("Fit to be used." if passed else "Not fit to be used.")
    return int(not passed)
