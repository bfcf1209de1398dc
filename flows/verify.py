"""The verify flow: what is covered, read again and compared with the catalog."""

from functools import partial
from typing import Annotated

from prefect import State, flow
from pydantic import Field

from ahi_catalog.connectors.settings import Burst, Catalog, MetadataBurst, MetadataRate, Moment, Rate
from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import USUAL, BlockName, DatastoreIds, Rest, described, make_settings, name_run
from ahi_catalog.flows.secrets import load_phi_key
from ahi_catalog.pipeline.verify import job

Part = Annotated[
    str | None,
    Field(
        pattern=r"^(today|\d+)/\d+$",
        description="3/30 for the third of thirty parts of the catalog, today/30 for another one each day. "
        "None: all of it.",
    ),
]


@flow(
    name="verify",
    description="Compare a catalog with its data store, value by value. The run fails where they differ.",
    flow_run_name=name_run,
    persist_result=False,
)
@described
def verify(
    catalog: Catalog,
    *,
    datastore_ids: DatastoreIds = None,
    part: Part = None,
    start: Annotated[
        Moment | None,
        Field(description="Start of a range of createdAt, UTC where no zone is given. None: from the beginning."),
    ] = None,
    end: Annotated[Moment | None, Field(description="End of the range. None: to the end of what is covered.")] = None,
    repair: Annotated[bool, Field(description="Mend what is found.")] = False,
    restart: Annotated[bool, Field(description="Begin anew where an earlier verification was interrupted.")] = False,
    metadata: Annotated[
        bool, Field(description="Read a sample of the metadata again too, of what is not archived.")
    ] = False,
    sample: Annotated[
        float, Field(gt=0, le=1, description="Of the image sets of each partition, and ten at least; 1 for all.")
    ] = 0.01,
    rate: Rate = USUAL.rate,
    burst: Burst = USUAL.burst,
    metadata_rate: MetadataRate = USUAL.metadata_rate,
    metadata_burst: MetadataBurst = USUAL.metadata_burst,
    credentials: BlockName = None,
    options: Rest = USUAL.options,
) -> State[None]:
    """Compare a catalog with its data store, value by value; the run fails where they differ."""
    settings = make_settings(
        catalog=catalog,
        datastore_ids=datastore_ids,
        rate=rate,
        burst=burst,
        options=options,
        metadata_rate=metadata_rate,
        metadata_burst=metadata_burst,
    )
    share = sample if metadata else None
    request = job.Request(start=start, end=end, part=part, is_repairing=repair, is_restart=restart, share=share)
    run = partial(job.verify, request=request, load_key=load_phi_key)
    return run_in_flow(run, settings, datastore_ids, credentials)
