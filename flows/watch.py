"""The watch flow: a catalog kept current until the run is cancelled."""

from functools import partial
from typing import Annotated

from prefect import State, flow
from pydantic import Field

from ahi_catalog.connectors.settings import (
    Burst,
    Catalog,
    Every,
    Instances,
    Keywords,
    LookBack,
    MetadataBurst,
    MetadataRate,
    QueueUrl,
    Rate,
    Start,
)
from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import USUAL, BlockName, DatastoreIds, Rest, described, make_settings, name_run
from ahi_catalog.flows.secrets import load_phi_key
from ahi_catalog.pipeline import watch as job
from ahi_catalog.pipeline.background import MirrorJob
from ahi_catalog.pipeline.inbox import Inbox


@flow(
    name="watch",
    description="Keep a catalog current with a data store until the run is cancelled, with a report every hour.",
    flow_run_name=name_run,
    persist_result=False,
)
@described
def watch(
    catalog: Catalog,
    *,
    datastore_ids: DatastoreIds = None,
    every: Every = USUAL.every,
    look_back: LookBack = USUAL.look_back,
    start: Start = USUAL.start,
    queue: QueueUrl = USUAL.queue,
    metadata: Annotated[
        bool, Field(description="Read the metadata of what arrives too, into series; never of what is archived.")
    ] = False,
    metadata_rate: MetadataRate = USUAL.metadata_rate,
    metadata_burst: MetadataBurst = USUAL.metadata_burst,
    keyword: Keywords = USUAL.keyword,
    instances: Instances = USUAL.instances,
    rate: Rate = USUAL.rate,
    burst: Burst = USUAL.burst,
    credentials: BlockName = None,
    options: Rest = USUAL.options,
) -> State[None]:
    """Keep a catalog current with a data store, until the run is cancelled."""
    settings = make_settings(
        catalog=catalog,
        datastore_ids=datastore_ids,
        every=every,
        look_back=look_back,
        start=start,
        queue=queue,
        metadata_rate=metadata_rate,
        metadata_burst=metadata_burst,
        keyword=keyword,
        instances=instances,
        rate=rate,
        burst=burst,
        options=options,
    )
    with MirrorJob.of(settings) as mirror:
        run = partial(
            job.watch,
            with_metadata=metadata,
            mirror=mirror,
            load_key=load_phi_key,
            inbox=Inbox(queue, datastore_ids),
        )
        return run_in_flow(run, settings, datastore_ids, credentials, is_lasting=True)
