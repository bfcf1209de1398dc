"""`ahi-catalog sync`, `ahi-catalog backfill` and `ahi-catalog verify`."""

from datetime import datetime
from functools import partial
from typing import Any

import click

from ahi_catalog.cli.datastores import chosen_datastores
from ahi_catalog.cli.options import DATES, Share, creation_options, option, run_options, setting, sync_options
from ahi_catalog.connectors.settings import Moment, Settings


@click.command()
@run_options
@creation_options
@sync_options
def sync(**given: Any) -> int:
    """Bring a catalog up to date: new image sets, then changed ones.

    The first sync reads the whole data store; later ones read what is new, the last day again, and what was
    updated since. It can be killed and run again at any time, and runs may overlap. It is a Prefect flow run where
    Prefect's settings name a server, and needs none otherwise.

    \b
    Every hour, from cron:
      0 * * * *  ahi-catalog sync --catalog s3://bucket/imaging --datastore-id ID --json
    Every data store of the account, under the one quota:
      ahi-catalog sync --catalog s3://bucket/imaging --all
    """
    from ahi_catalog.cli.running import run_chosen  # `--help` does without boto3 and pyarrow
    from ahi_catalog.flows.secrets import load_phi_key
    from ahi_catalog.pipeline import sync as job
    from ahi_catalog.pipeline.inbox import Inbox

    inbox = Inbox(given["queue"], chosen_datastores(given["datastore_id"], every=given["all"]))
    return run_chosen(partial(job.sync, load_key=load_phi_key, inbox=inbox), sync_flow, **given)


def sync_flow(settings: Settings, datastore_ids: list[str] | None) -> Any:
    """The sync of data stores (None: of all) as a Prefect flow; its final state."""
    from ahi_catalog.flows.parameters import parameters_of
    from ahi_catalog.flows.sync import sync as flow  # Prefect takes seconds to import

    parameters = parameters_of(settings, "look_back", "start", "queue") | {"datastore_ids": datastore_ids}
    return flow(**parameters, return_state=True)


@click.command()
@run_options
@creation_options
@option(
    "--from", "start", metavar="DATE", type=Moment, required=True, help=f"Start of the range of createdAt, {DATES}."
)
@option("--to", "end", metavar="DATE", type=Moment, required=True, help=f"End of the range, not included, {DATES}.")
def backfill(*, start: datetime, end: datetime, **given: Any) -> int:
    """Read a range of createdAt again, or for the first time.

    Rows in the range are brought up to date, and rows whose image set the service confirms deleted are removed.
    The range counts as covered afterwards.

    \b
    One month again:
      ahi-catalog backfill --catalog s3://bucket/imaging --datastore-id ID --from 2026-05-01 --to 2026-06-01
    """
    from ahi_catalog.cli.running import run_chosen  # `--help` does without boto3 and pyarrow
    from ahi_catalog.flows.secrets import load_phi_key
    from ahi_catalog.pipeline import backfill as job

    def run_flow(settings: Settings, datastore_ids: list[str] | None) -> Any:
        from ahi_catalog.flows.backfill import backfill as flow  # Prefect takes seconds to import
        from ahi_catalog.flows.parameters import parameters_of

        # Whoever waits at a terminal would rather know.
        at_once = flow.with_options(retries=0)
        parameters = parameters_of(settings) | {"datastore_ids": datastore_ids}
        return at_once(**parameters, start=start, end=end, return_state=True)

    return run_chosen(partial(job.backfill, start=start, end=end, load_key=load_phi_key), run_flow, **given)


@click.command()
@run_options
@option(
    "--from",
    "start",
    metavar="DATE",
    type=Moment,
    help=f"Start of a range of createdAt, {DATES}. Not given: all that is covered.",
)
@option(
    "--to",
    "end",
    metavar="DATE",
    type=Moment,
    help=f"End of the range, {DATES}; whole days (or months) of it are verified.",
)
@option("--part", metavar="K/N", help="Every Nth partition: 3/30, or today/30 for another thirtieth each day.")
@option("--repair", is_flag=True, help="Mend what is found.")
@option("--restart", is_flag=True, help="Begin anew where an earlier verification was interrupted.")
@option(
    "--metadata",
    envvar=None,
    is_flag=True,
    help="Read a sample of the metadata again too, of what is not archived.",
)
@option(
    "--sample",
    type=Share,
    default=0.01,
    metavar="X",
    help="With --metadata: of the image sets of each partition, and ten at least; 1 for all.",
)
@setting("metadata_rate")
@setting("metadata_burst")
def verify(
    *,
    start: datetime | None,
    end: datetime | None,
    part: str | None,
    repair: bool,
    restart: bool,
    metadata: bool,
    sample: float,
    **given: Any,
) -> int:
    """Read what is covered again, and compare it with the catalog, value by value.

    It counts rows that are missing, stale, altered or duplicate, rows of deleted image sets, and files that are
    unreadable, lost or unexpected; in the tables series and instances, rows whose image set is gone, and with
    --metadata those that differ from what GetImageSetMetadata answers. Exit code 1 where anything is left that
    differs. With --repair the catalog is mended; a row is removed only where GetImageSet confirms that its image set
    is gone. An interrupted verification goes on when the same is asked for again.

    \b
    A thirtieth of the catalog every day, from cron:
      30 3 * * *  ahi-catalog verify --catalog s3://bucket/imaging --datastore-id ID --part today/30
    And of their metadata every image set in the frequent tier:
      ahi-catalog verify --catalog s3://bucket/imaging --datastore-id ID --part today/30 --metadata --sample 1
    """
    from ahi_catalog.cli.running import run_chosen
    from ahi_catalog.flows.secrets import load_phi_key
    from ahi_catalog.pipeline.verify import job  # `--help` does without boto3 and pyarrow

    share = sample if metadata else None
    request = job.Request(start=start, end=end, part=part, is_repairing=repair, is_restart=restart, share=share)

    def run_flow(settings: Settings, datastore_ids: list[str] | None) -> Any:
        from ahi_catalog.flows.parameters import parameters_of
        from ahi_catalog.flows.verify import verify as flow  # Prefect takes seconds to import

        asked: dict[str, Any] = {"start": start, "end": end, "part": part, "repair": repair, "restart": restart}
        asked |= {"metadata": metadata, "sample": sample, "datastore_ids": datastore_ids}
        return flow(**parameters_of(settings, "metadata_rate", "metadata_burst") | asked, return_state=True)

    return run_chosen(partial(job.verify, request=request, load_key=load_phi_key), run_flow, **given)
