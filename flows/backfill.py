"""The backfill flow: a range of createdAt, read whatever the coverage."""

from functools import partial

from prefect import State, flow

from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import USUAL, BlockName, Count, DatastoreIds, Moment, Options, Rate, make_settings
from ahi_catalog.pipeline import backfill as job


@flow(
    name="backfill",
    description="Read a range of createdAt again, whatever is covered. Rows of deleted image sets are removed.",
    flow_run_name="backfill {start:%Y-%m-%d} to {end:%Y-%m-%d}",
    # Nobody repeats a backfill that an outage ended; the next hour repeats a sync, the next day a verify.
    retries=2,
    retry_delay_seconds=600,
    persist_result=False,
)
def backfill(
    catalog: str,
    start: Moment,
    end: Moment,
    *,
    datastore_ids: DatastoreIds | None = None,
    rate: Rate = 25.0,
    burst: Count = 50,
    credentials: BlockName | None = None,
    options: Options = USUAL,
) -> State[None]:
    """Read a range of createdAt again, or for the first time; rows of deleted image sets are removed.

    Args:
        catalog: Where the catalog is: s3://bucket/prefix, or a folder of the machine that runs the flow.
        datastore_ids: The data stores to read, each 32 of 0-9 and a-z. None: all active ones of the account and region.
        start: The range's start, UTC where no zone is given.
        end: The range's end, not included.
        rate: Requests a second: this run's share of the account's quota for HealthImaging.
        burst: Requests that may go out at once after a pause.
        credentials: Name of an AwsCredentials block. None: the credentials that boto3 finds on the machine.
        options: What a run seldom needs to be told.
    """
    settings = make_settings(catalog=catalog, datastore_ids=datastore_ids, rate=rate, burst=burst, options=options)
    return run_in_flow(partial(job.backfill, start=start, end=end), settings, datastore_ids, credentials)
