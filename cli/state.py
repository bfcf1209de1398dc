"""`ahi-catalog state`."""

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import DATES, json_option, option, setting
from ahi_catalog.cli.output import print_json, print_pairs
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import Moment
from ahi_catalog.connectors.windows import Coverage, Window, ceil_second, floor_second

if TYPE_CHECKING:
    from ahi_catalog.connectors.catalog import Catalog


@click.command()
@click.argument("action", type=click.Choice(["show", "forget"]))
@read_options
@setting("datastore_id", type=str, multiple=True, required=False)
@option("--from", "start", metavar="DATE", type=Moment, help=f"Start of the range to forget, {DATES}.")
@option("--to", "end", metavar="DATE", type=Moment, help=f"End of the range, not included, {DATES}.")
@click.option("--yes", is_flag=True, help="Forget without asking.")
@json_option
def state(
    *,
    action: str,
    catalog: str,
    bucket_owner: str | None,
    allow_http: bool,
    datastore_id: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Show what a catalog knows of itself, or have it forget that a range was read.

    show prints the checkpoint of each data store: what is covered, how far changes are followed, which ranges have
    objects. forget takes a range of createdAt out of what is covered, so that the next sync reads it again; no row
    is touched. Do it while no run goes on: one that has read the range counts it as covered again.

    \b
      ahi-catalog state show --catalog s3://bucket/imaging
      ahi-catalog state forget --catalog s3://bucket/imaging --datastore-id ID --from 2026-05-01 --to 2026-06-01
    """
    opened = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http)
    if action == "show":
        if start or end or yes:
            raise UsageError("--from, --to and --yes go with forget")
        _show(opened, datastore_id or opened.datastore_ids(), as_json=as_json)
        return
    if len(datastore_id) != 1 or start is None or end is None:
        raise UsageError("forget takes one --datastore-id, and a range by --from and --to")
    if start >= end:
        raise UsageError("the range is empty: it has to begin before it ends")
    _forget(opened, datastore_id[0], Window(floor_second(start), ceil_second(end)), is_asking=not yes, as_json=as_json)


def _show(catalog: "Catalog", datastore_ids: Iterable[str], *, as_json: bool) -> None:
    from ahi_catalog.connectors.catalog import checkpoint as checkpoints  # `--help` does without pyarrow

    found = [known for each in datastore_ids if (known := catalog.checkpoint(each))]
    if as_json:
        print_json({"format": 1, "datastores": [checkpoints.document(each) for each in found]})
        return
    for each in found:
        told = checkpoints.document(each)
        names = ("catalog_id", "watermark", "followed_to", "datastore_created_at")
        lines = [(name.replace("_", " "), told[name] or "none") for name in names]
        lines += [("covered", str(window)) for window in each.coverage]
        lines += [("has objects", str(window)) for window in each.populated]
        lines += [(f"sends {name} since", since) for name, since in told["unknown_fields"].items()]
        print_pairs(f"data store {each.datastore_id}", lines)
    if not found:
        click.echo("Nothing was ever synced into this catalog.", err=True)


def _forget(catalog: "Catalog", datastore_id: str, window: Window, *, is_asking: bool, as_json: bool) -> None:
    from ahi_catalog.connectors.catalog.checkpoint import format_windows  # `--help` does without pyarrow

    found = catalog.checkpoint(datastore_id)
    if found is None:
        raise UsageError(f"nothing of data store {datastore_id} was ever synced into this catalog")
    known = found
    forgotten = known.coverage.within(window)
    if forgotten:
        if is_asking and not sys.stdin.isatty():
            raise UsageError("nobody is there to ask: give --yes")
        if is_asking:
            click.confirm(f"{_words(forgotten)} is covered. Read it again?", abort=True, err=True)
        found = catalog.update_checkpoint(datastore_id, lambda now: (now or known).forgetting(window))
    if as_json:
        print_json({"format": 1, "forgotten": format_windows(forgotten), "coverage": format_windows(found.coverage)})
    elif forgotten:
        click.echo(f"{_words(forgotten)} is forgotten; the next sync reads it")
    else:
        click.echo(f"nothing of {window} is covered")


def _words(coverage: Coverage) -> str:
    return ", ".join(map(str, coverage))
