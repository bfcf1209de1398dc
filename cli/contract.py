"""`ahi-catalog contract`."""

from datetime import timedelta

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import DURATIONS, json_option, option
from ahi_catalog.cli.output import print_json
from ahi_catalog.connectors.settings import Duration


@click.command()
@read_options
@option(
    "--max-lag",
    type=Duration,
    metavar="3h",
    default="3h",
    help=f"How long after its creation the row of an image set is promised, {DURATIONS}.",
)
@json_option
def contract(*, catalog: str, bucket_owner: str | None, allow_http: bool, max_lag: timedelta, as_json: bool) -> None:
    """Print the catalog's tables as an Open Data Contract (ODCS 3.1): columns, classification, freshness, quality.

    Each column is classified as it is in this catalog: what --phi has nulled tells nothing.

    \b
    For a catalog of data products:
      ahi-catalog contract --catalog s3://bucket/imaging > image-sets.odcs.yaml
    """
    from ahi_catalog.schemas import IMAGE_SETS  # `--help` does without pyarrow
    from ahi_catalog.schemas import contract as contracts
    from ahi_catalog.schemas.dictionary import TABLES

    opened = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http)
    document = contracts.contract(
        [table for table in TABLES if table is IMAGE_SETS or any(opened.store.entries(table.folder))],
        catalog_id=opened.description.catalog_id,
        location=opened.store.url,
        key=opened.description.unit.column,
        phi=opened.description.phi,
        max_lag=max_lag,
    )
    if as_json:
        print_json(document)
        return
    import yaml

    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110), nl=False)
