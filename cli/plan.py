"""`ahi-catalog plan`: a dry run."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import (
    DATES,
    Count,
    datastore_option,
    json_option,
    option,
    price_options,
    quota_options,
    setting,
    settle_option,
    sync_options,
)
from ahi_catalog.cli.output import counted, print_json, print_pairs
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import Moment, Settings

if TYPE_CHECKING:
    from ahi_catalog.schemas.views import StoragePrices


@click.command()
@read_options
@datastore_option
@quota_options
@settle_option
@sync_options
@option("--from", "begin", metavar="DATE", type=Moment, help=f"Plan a backfill from there, {DATES}; with --to.")
@option("--to", "end", metavar="DATE", type=Moment, help=f"End of the backfill's range, not included, {DATES}.")
@option(
    "--probes",
    type=Count,
    default=60,
    metavar="N",
    help="Requests to spend at most; bursts take 300 and more.",
)
@option("--price", type=float, default=0.005, metavar="USD", help="Of a thousand requests.")
@option("--metadata", envvar=None, is_flag=True, help="Plan the reading of metadata instead, from the catalog alone.")
@setting("metadata_rate")
@setting("metadata_burst")
@price_options
@json_option
def plan(
    *,
    look_back: timedelta,
    start: datetime | None,
    begin: datetime | None,
    end: datetime | None,
    probes: int,
    price: float,
    metadata: bool,
    frequent_price: float,
    archive_price: float,
    as_json: bool,
    **given: Any,
) -> None:
    """Say what a sync or a backfill would read, how long it would take and what it would cost. Writes nothing.

    The number of image sets is guessed from pages here and there, and told where more pages no longer change the
    guess: then it is right within a factor of two, unless an archive was imported between those pages. Where image
    sets come in bursts that takes more pages, and until it is so, only how many were seen is told: give more --probes.
    The price is that of AWS's own example for US East (https://aws.amazon.com/healthimaging/pricing/); S3 is not in it.

    \b
    The first sync of a data store, on half of the quota:
      ahi-catalog plan --catalog s3://bucket/imaging --datastore-id ID --share 0.5
    A backfill:
      ahi-catalog plan --catalog s3://bucket/imaging --datastore-id ID --from 2026-05-01 --to 2026-06-01
    The metadata of what was synced, and what waking the archived part would cost:
      ahi-catalog plan --catalog s3://bucket/imaging --datastore-id ID --metadata
    """
    from ahi_catalog.cli.running import make_settings
    from ahi_catalog.connectors.healthimaging.executor import RequestCounts
    from ahi_catalog.connectors.healthimaging.source import open_source  # `--help` does without boto3 and pyarrow
    from ahi_catalog.pipeline.dry_run import plan_run
    from ahi_catalog.pipeline.estimate import estimate

    if (begin is None) != (end is None):
        raise UsageError("a backfill has both --from and --to")
    settings = make_settings(look_back=look_back, start=start, as_json=as_json, prefect=False, **given)
    if metadata:
        from ahi_catalog.schemas.views import StoragePrices

        prices = StoragePrices(frequent=frequent_price, archive=archive_price)
        _plan_metadata(settings, price, prices, as_json=as_json)
        return
    # Probes go out one after the other, so they need no burst.
    source = open_source(replace(settings, concurrency=1), threading.Event())
    span = None if begin is None or end is None else (begin, end)
    counts = RequestCounts()
    windows = plan_run(settings, source, datetime.now(UTC), span, counts)
    found = estimate(source.page, windows, probes=probes, counts=counts)
    minutes, dollars = found.minutes(settings.quota), found.dollars(price)
    document = {
        "format": 1,
        "windows": [[str(by), str(window)] for by, window in windows],
        "image_sets": None if found.is_rough else found.rows,
        "image_sets_at_least": found.least,
        "is_rough": found.is_rough,
        "requests": None if found.is_rough else found.requests,
        "minutes": None if found.is_rough else round(minutes, 1),
        "dollars": None if found.is_rough else round(dollars, 4),
        "probes": found.probes,
    }
    if as_json:
        print_json(document)
        return
    told = [
        ("image sets", f"about {found.rows:,}; {found.least:,} were seen"),
        ("requests", f"about {found.requests:,}"),
        ("minutes", f"{_amount(minutes, 1)} at {settings.quota.rate:g} requests a second"),
        ("cost", f"{_amount(dollars, 2, '$')} for requests, at ${price:g} a thousand"),
    ]
    hint = "more --probes may tell how many" if found.probes >= probes else "how many cannot be told"
    unknown = [("image sets", f"{found.least:,} were seen; the others come in bursts: {hint}")]
    print_pairs(
        f"A {'sync' if span is None else 'backfill'} of data store {settings.datastore_id} would read",
        [
            *((f"by {by}", str(window)) for by, window in windows),
            *(unknown if found.is_rough else told),
            ("this took", counted(found.probes, "request", "requests")),
        ],
    )


def _plan_metadata(settings: Settings, price: float, prices: "StoragePrices", *, as_json: bool) -> None:
    """Show what reading the metadata would take.

    Args:
        settings: Of the run.
        price: Of a thousand requests.
        prices: Of storage.
        as_json: For machines.
    """
    from ahi_catalog.pipeline.lacks import plan_metadata
    from ahi_catalog.schemas.views import GIGABYTE

    quota = settings.metadata.quota
    catalog = open_to_read(settings.catalog, bucket_owner=settings.bucket_owner, allow_http=settings.allow_http)
    found = plan_metadata(catalog, settings.datastore_id, datetime.now(UTC))
    waking = found.waking_dollars(prices)
    document = {
        "format": 1,
        "requests": found.image_sets,
        "hours": round(found.hours(quota), 2),
        "dollars": round(found.image_sets / 1000 * price, 4),
        "archived": found.archived,
        "archived_bytes": found.archived_bytes,
        "archived_hours": round(found.hours(quota, with_archived=True) - found.hours(quota), 2),
        "waking_dollars": round(waking, 2),
    }
    if as_json:
        print_json(document)
        return
    pairs = [("requests", f"{found.image_sets:,}, one an image set" if found.image_sets else "none")]
    if found.image_sets:
        pairs += [
            ("hours", f"{_amount(found.hours(quota), 1)} at {quota.rate:g} requests a second"),
            ("cost", f"{_amount(found.image_sets / 1000 * price, 2, '$')} for requests, at ${price:g} a thousand"),
        ]
    if found.archived:
        pairs += [
            ("archived or idle", f"{found.archived:,} image sets, not read without --archived"),
            ("waking these", f"{_amount(waking, 2, '$')} at least for storage in 30 days, and as many requests"),
            ("their bytes", f"{found.archived_bytes / GIGABYTE:,.1f} GB as billed: at least 5 MB each"),
        ]
    print_pairs(f"Reading the metadata of data store {settings.datastore_id} would take", pairs)


def _amount(value: float, digits: int, unit: str = "") -> str:
    """The value so rounded; what would be rounded to nothing is less than the least."""
    least = 10.0**-digits
    return f"less than {unit}{least:g}" if value < least else f"{unit}{value:,.{digits}f}"
