"""`ahi-catalog changes`."""

from datetime import datetime
from typing import Any

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import DATES, chosen_form, form_options, option
from ahi_catalog.cli.output import print_json
from ahi_catalog.cli.query import records, write_answer
from ahi_catalog.connectors.settings import Moment
from ahi_catalog.connectors.windows import format_time


@click.command()
@read_options
@option("--since", type=Moment, metavar="DATE", required=True, help=f"What changed from then on, {DATES}.")
@form_options
def changes(
    *, catalog: str, bucket_owner: str | None, allow_http: bool, since: datetime, form: str | None, as_json: bool
) -> None:
    """List the image sets that are new, updated or removed since a time: ids and times, for whoever copies a catalog.

    One row an image set, by time. Nothing is asked of the service. Up to which time the list is complete is told on
    stderr, and in the JSON as complete_to: give that as --since the next time. What is told twice, is the same.

    \b
    As CSV, for a copy elsewhere:
      ahi-catalog changes --catalog s3://bucket/imaging --since 2026-11-01 --format csv > changes.csv
    """
    from ahi_catalog.connectors.catalog.changes import changes_since  # `--help` does without pyarrow

    form = chosen_form(form, as_json=as_json)
    found = changes_since(open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http), since)
    complete_to = format_time(found.complete_to)
    if form == "json":
        document: dict[str, Any] = {"format": 1, "since": format_time(since), "complete_to": complete_to}
        print_json(document | {"changes": records(found.rows)})
        return
    write_answer(found.rows, form, title="")
    if found.complete_to < since:
        click.echo(
            f"Not complete: a range from {complete_to} on is not covered; sync, then ask again: --since {complete_to}",
            err=True,
        )
    else:
        click.echo(f"Complete up to {complete_to}; next time: --since {complete_to}", err=True)
