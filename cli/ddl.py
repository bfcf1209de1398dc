"""`ahi-catalog ddl`."""

import itertools

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import json_option, option, price_options
from ahi_catalog.cli.output import print_json
from ahi_catalog.connectors.errors import UsageError

_MAKES = (
    "image_sets",
    "removals",
    "series",
    "instances",
    "partitions",
    "studies",
    "patients",
    "conflicts",
    "changes",
    "storage",
)


@click.command()
@click.argument("engine", type=click.Choice(["athena", "spark", "duckdb"]))
@read_options
@option("--database", default="", metavar="NAME", show_default=False, help="Database to name before each table.")
@option("--table", default="image_sets", metavar="NAME", help="What to call the first table.")
@option(
    "--only",
    type=click.Choice(_MAKES),
    help="This statement alone: Athena takes one at a time.  [default: all]",
)
@option("--injected", is_flag=True, help="Athena: each query names its datastore_id, so that new ones need no change.")
@price_options
@json_option
def ddl(
    *,
    engine: str,
    catalog: str,
    bucket_owner: str | None,
    allow_http: bool,
    database: str,
    table: str,
    only: str | None,
    injected: bool,
    frequent_price: float,
    archive_price: float,
    as_json: bool,
) -> None:
    """Print the DDL that makes a catalog's tables those of ENGINE: athena, spark or duckdb.

    It has a comment on each column, partition projection for Athena (from the first day covered to NOW), the tables
    removals and series, and the views studies, patients, conflicts, changes, and storage with the prices given.

    \b
    A view file for DuckDB:
      ahi-catalog ddl duckdb --catalog demo-catalog > image_sets.sql
    The table, then a view, for Athena's console:
      ahi-catalog ddl athena --catalog s3://bucket/imaging --database imaging --only image_sets
      ahi-catalog ddl athena --catalog s3://bucket/imaging --database imaging --only studies
    """
    from ahi_catalog.connectors.catalog.external import describe, further  # `--help` does without pyarrow
    from ahi_catalog.schemas.ddl import ENGINES
    from ahi_catalog.schemas.views import StoragePrices

    opened = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http)
    prices = StoragePrices(frequent=frequent_price, archive=archive_price)
    main = describe(opened, engine, injected=injected, database=database, name=table, prices=prices)
    tables = [main, *further(opened, main)]
    statements = [found for each in tables for found in ENGINES[engine](each) if only in {None, found.makes}]
    if not statements and only == "instances":
        raise UsageError("there is no table instances yet: read the metadata first, with instances")
    if not statements:
        raise UsageError(f"{engine} needs no statement that makes {only}: its table knows them itself")
    if as_json:
        print_json([{"makes": statement.makes, "sql": statement.sql} for statement in statements])
        return
    for makes, several in itertools.groupby(statements, key=lambda statement: statement.makes):
        click.echo("".join(f"{statement.sql};\n" for statement in several), nl=makes != statements[-1].makes)
