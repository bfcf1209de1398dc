"""The verify flow: what is covered, read again and compared with the catalog."""

from functools import partial

from prefect import State, flow

from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import (
    USUAL,
    BlockName,
    Count,
    DatastoreIds,
    Moment,
    Options,
    Part,
    Rate,
    make_settings,
)
from ahi_catalog.pipeline.verify import job


@flow(
    name="verify",
    description="Compare a catalog with its data store, value by value. The run fails where they differ.",
    persist_result=False,
)
def verify(
    catalog: str,
    *,
    datastore_ids: DatastoreIds | None = None,
    part: Part | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    repair: bool = False,
    restart: bool = False,
    rate: Rate = 25.0,
    burst: Count = 50,
    credentials: BlockName | None = None,
    options: Options = USUAL,
) -> State[None]:
    """Compare a catalog with its data store, value by value; the run fails where they differ.

    Args:
        catalog: Where the catalog is: s3://bucket/prefix, or a folder of the machine that runs the flow.
        datastore_ids: The data stores to read, each 32 of 0-9 and a-z. None: all active ones of the account and region.
        part: 3/30 for the third of thirty parts of the catalog, today/30 for another one each day. None: all of it.
        start: Start of a range of createdAt, UTC where no zone is given. None: from the beginning.
        end: End of the range. None: to the end of what is covered.
        repair: Mend what is found.
        restart: Begin anew where an earlier verification was interrupted.
        rate: Requests a second: this run's share of the account's quota for HealthImaging.
        burst: Requests that may go out at once after a pause.
        credentials: Name of an AwsCredentials block. None: the credentials that boto3 finds on the machine.
        options: What a run seldom needs to be told.
    """
    settings = make_settings(catalog=catalog, datastore_ids=datastore_ids, rate=rate, burst=burst, options=options)
    request = job.Request(start=start, end=end, part=part, is_repairing=repair, is_restart=restart)
    return run_in_flow(partial(job.verify, request=request), settings, datastore_ids, credentials)
