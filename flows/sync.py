"""The sync flow: what is new since the last sync, then the changes."""

from prefect import State, flow

from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import (
    USUAL,
    BlockName,
    Count,
    DatastoreIds,
    Duration,
    Moment,
    Options,
    Rate,
    make_settings,
)
from ahi_catalog.pipeline import sync as job


@flow(
    name="sync",
    description="Bring a catalog up to date with a data store. A run that is ended early is resumed by the next one.",
    persist_result=False,
)
def sync(
    catalog: str,
    *,
    datastore_ids: DatastoreIds | None = None,
    look_back: Duration = "1d",
    start: Moment | None = None,
    rate: Rate = 25.0,
    burst: Count = 50,
    credentials: BlockName | None = None,
    options: Options = USUAL,
) -> State[None]:
    """Bring a catalog up to date with a data store: new image sets, then changed ones. Resumes where it was ended.

    Args:
        catalog: Where the catalog is: s3://bucket/prefix, or a folder of the machine that runs the flow.
        datastore_ids: The data stores to read, each 32 of 0-9 and a-z. None: all active ones of the account and region.
        look_back: Read again behind the watermark, for image sets that became searchable late: 90s, 10m, 12h, 1d.
        start: Where coverage begins, UTC where no zone is given. None: when the data store was created.
        rate: Requests a second: this run's share of the account's quota for HealthImaging.
        burst: Requests that may go out at once after a pause.
        credentials: Name of an AwsCredentials block. None: the credentials that boto3 finds on the machine.
        options: What a run seldom needs to be told.
    """
    settings = make_settings(
        catalog=catalog,
        datastore_ids=datastore_ids,
        look_back=look_back,
        start=start,
        rate=rate,
        burst=burst,
        options=options,
    )
    return run_in_flow(job.sync, settings, datastore_ids, credentials)
