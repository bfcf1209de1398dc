"""`ahi-catalog metadata`."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from ahi_catalog.cli.opening import open_to_read
from ahi_catalog.cli.options import (
    catalog_option,
    datastore_options,
    json_option,
    metadata_options,
    notify_option,
    option,
    phi_key_option,
    prefect_option,
    price_options,
    s3_options,
    setting,
    share_option,
)
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import Settings


@click.command()
@catalog_option
@datastore_options
@metadata_options
@setting("archived")
@option("--yes", is_flag=True, help="With --archived: do not ask first.")
@price_options
@share_option
@setting("concurrency")
@setting("dask")
@setting("iceberg")
@phi_key_option
@s3_options
@setting("max_attempts")
@notify_option
@prefect_option
@json_option
def metadata(*, yes: bool, frequent_price: float, archive_price: float, **given: Any) -> int:
    """Read what the summaries cannot say: the table series, with scanners, slices, instances and bytes.

    It reads the metadata of image sets whose version the table does not have, the newest first, a request each.
    Reading counts as access: it moves an archived image set to the frequent tier, seventeen times as dear, for at
    least 30 days. So it reads what is in the frequent tier and counts the rest, unless --archived is given;
    `ahi-catalog plan --metadata` says the price. It can be killed and run again, beside syncs and itself.

    \b
    After each sync, from cron:
      ahi-catalog metadata --catalog s3://bucket/imaging --datastore-id ID --no-prefect --json
    With the exposure time, and a row for each instance:
      ahi-catalog metadata --catalog s3://bucket/imaging --datastore-id ID --keyword ExposureTime --instances
    """
    from ahi_catalog.cli.running import run_chosen  # `--help` does without boto3 and pyarrow
    from ahi_catalog.flows.secrets import load_phi_key
    from ahi_catalog.pipeline import metadata as job

    if given["archived"] and not yes:
        _ask_first(frequent_price, archive_price, **given)
    run = partial(job.read_metadata, load_key=load_phi_key)
    return run_chosen(run, metadata_flow, adjust=job.for_metadata, **given)


def metadata_flow(settings: Settings, datastore_ids: list[str] | None) -> Any:
    """The reading of data stores' metadata (None: of all) as a Prefect flow; its final state."""
    from ahi_catalog.flows.metadata import metadata as flow  # Prefect takes seconds to import
    from ahi_catalog.flows.metadata import metadata_parameters

    return flow(**metadata_parameters(settings) | {"datastore_ids": datastore_ids}, return_state=True)


def _ask_first(frequent_price: float, archive_price: float, *, datastore_id: Sequence[str], **given: Any) -> None:
    """Say what waking what is archived would cost, and ask.

    Raises:
        UsageError: There is nobody to ask.
        Abort: The answer is no.
    """
    from datetime import UTC, datetime

    from ahi_catalog.pipeline.lacks import plan_metadata
    from ahi_catalog.schemas.views import StoragePrices

    catalog = open_to_read(given["catalog"], bucket_owner=given["bucket_owner"], allow_http=given["allow_http"])
    plans = [plan_metadata(catalog, each, datetime.now(UTC)) for each in datastore_id or catalog.datastore_ids()]
    archived = sum(plan.archived for plan in plans)
    if not archived:
        return
    prices = StoragePrices(frequent=frequent_price, archive=archive_price)
    dollars = sum(plan.waking_dollars(prices) for plan in plans)
    question = f"Reading {archived:,} archived image sets costs at least ${dollars:,.2f} more for storage in 30 days"
    if not sys.stdin.isatty():
        raise UsageError(f"{question[0].lower()}{question[1:]}; give --yes to read them all the same")
    click.confirm(f"{question}. Read them?", abort=True, err=True)
