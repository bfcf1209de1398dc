"""`ahi-catalog iceberg`."""

from datetime import timedelta

import click

from ahi_catalog.cli.options import catalog_option, json_option, option, options, s3_options
from ahi_catalog.cli.output import print_json, print_pairs
from ahi_catalog.connectors.settings import Duration, Iceberg, ImageSetId, S3Access


@click.command()
@options(catalog_option, s3_options)
@option(
    "--to",
    type=Iceberg,
    metavar="NAME.NAMESPACE",
    required=True,
    help="NAME of a catalog that PyIceberg is configured with, and a NAMESPACE in it.",
)
@option("--overwrite", is_flag=True, help="Replace what other engines compacted, or wrote to the tables.")
@option("--keep-snapshots", type=Duration, metavar="30d", help="Expire older ones, with files that only they need.")
@option(
    "--forget",
    type=ImageSetId,
    metavar="IMAGE_SET_ID",
    help="Take the rows of a deleted image set out of the tables' history too.",
)
@option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def iceberg(
    *,
    catalog: str,
    to: str,
    overwrite: bool,
    keep_snapshots: timedelta | None,
    forget: str | None,
    dry_run: bool,
    as_json: bool,
    **access: str | bool | None,
) -> None:
    """Make Iceberg tables equal to a catalog: for time travel, and for engines that read Iceberg.

    For each table one commit for all that changed since the last time, and none where nothing did. It can be killed
    and run again at any time. Glue, S3 Tables, REST and SQL catalogs are PyIceberg's own settings (.pyiceberg.yaml,
    PYICEBERG_*).

    \b
    Once a day, beside `ahi-catalog sync --iceberg glue.imaging`:
      ahi-catalog iceberg --catalog s3://bucket/imaging --to glue.imaging --keep-snapshots 30d
    """
    from ahi_catalog.pipeline.iceberg import Request, mirror_tables  # `--help` does without pyarrow

    request = Request(to=to, is_overwriting=overwrite, is_dry=dry_run, keep=keep_snapshots, forget=forget)
    reports = mirror_tables(catalog, S3Access(**access), request)  # type: ignore[arg-type]  # as the options declare
    if as_json:
        print_json([report.document() for report in reports])
        return
    if not reports:
        click.echo("Nothing to mirror yet: the catalog has no rows.")
    for report in reports:
        title = f"{report.table}, as it would be" if dry_run else report.table
        print_pairs(title, report.rows())
