"""`ahi-catalog report`."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import WholeNumber, option, price_options
from ahi_catalog.cli.output import counted
from ahi_catalog.connectors.errors import AhiCatalogError, missing_extra


@click.command()
@read_options
@option("--out", type=click.Path(dir_okay=False, path_type=Path), default="report.html", help="The file to write.")
@option("--runs", type=WholeNumber, default=100, metavar="N", help="How many of the last runs to show.")
@option("--time-zone", default="UTC", metavar="ZONE", help="Of the hours of the day, as in Europe/Berlin.")
@price_options
def report(
    *,
    catalog: str,
    bucket_owner: str | None,
    allow_http: bool,
    out: Path,
    runs: int,
    time_zone: str,
    frequent_price: float,
    archive_price: float,
) -> None:
    """Write a page on what a catalog holds: arrivals, modalities, tiers, cost of storage, quality, sync history.

    One HTML file that opens anywhere, without a network. It holds counts only: no identifier, no free text, and no
    group of fewer than 11 patients (image sets, where --phi drop leaves nothing to tell patients apart).

    \b
    A page of the demo's catalog:
      ahi-catalog report --catalog demo-catalog --out report.html
    """
    from importlib.metadata import version  # and without what reads packages' metadata

    from ahi_catalog.report import collect  # `--help` does without pyarrow
    from ahi_catalog.schemas.views import StoragePrices

    try:
        from ahi_catalog.report.page.render import render
    except ImportError:
        raise missing_extra("the report", "report") from None

    opened = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http)
    now = datetime.now(UTC)
    prices = StoragePrices(frequent=frequent_price, archive=archive_price)
    told = partial(collect, opened, runs=runs, now=now, zone=time_zone, prices=prices)
    reports = [told(found) for found in opened.datastore_ids()]
    page = render(catalog, reports, version=version("ahi-catalog"), now=now)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise AhiCatalogError(f"cannot write {out}: {error.strerror}") from None
    stores = counted(len(reports), "data store", "data stores")
    click.echo(f"{out}: {stores}, {len(page) / 1e6:.1f} MB. Open it in a browser.", err=True)
