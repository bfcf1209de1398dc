"""`ahi-catalog register`."""

from dataclasses import asdict

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import json_option, option
from ahi_catalog.cli.output import print_json


@click.command()
@read_options
@option("--database", required=True, metavar="NAME", help="Glue's database; made if there is none.")
@option("--table", default="image_sets", metavar="NAME", help="The first table in it; series and instances follow it.")
@option("--injected", is_flag=True, help="Each query names its datastore_id, so that new ones need no change.")
@json_option
def register(
    *,
    catalog: str,
    bucket_owner: str | None,
    allow_http: bool,
    database: str,
    table: str,
    injected: bool,
    as_json: bool,
) -> None:
    """Make the tables of a catalog on S3 Athena's, in the Glue Data Catalog; again: bring them up to date.

    The tables removals and series, which the views read, come beside it. New columns, data stores and older days are
    added. Nothing that is there is dropped: your properties, comments, columns and tags stay. The views come with:
    ahi-catalog ddl athena --only studies

    \b
      ahi-catalog register --catalog s3://bucket/imaging --database imaging
    """
    from ahi_catalog.connectors.catalog.external import describe, further  # `--help` does without pyarrow
    from ahi_catalog.connectors.glue import open_glue
    from ahi_catalog.connectors.glue import register as register_table
    from ahi_catalog.schemas.ddl import BESIDE

    opened = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http)
    main = describe(opened, "athena", injected=injected, database=database, name=table)
    tables = [main, *(main.beside(each) for each in BESIDE), *further(opened, main)]
    glue = open_glue()
    first, *others = [register_table(glue, each) for each in tables]
    if as_json:
        print_json(asdict(first) | {"more": [asdict(each) for each in others]})
        return
    for done in (first, *others):
        for change in done.changes:
            click.echo(change)
        if not done.changes:
            click.echo(f"{database}.{done.table} is up to date; nothing changed")
