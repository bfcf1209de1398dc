"""The iceberg flow: Iceberg tables made equal to a catalog, and what they remember."""

from typing import Annotated

from prefect import State, flow
from prefect.states import Completed
from pydantic import Field

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.settings import Catalog, Duration, Iceberg, S3Access
from ahi_catalog.flows.credentials import find_session
from ahi_catalog.flows.parameters import BlockName, described, name_run
from ahi_catalog.pipeline.iceberg import Request, mirror_tables


@flow(
    name="iceberg",
    description="Make Iceberg tables equal to a catalog: for each table one commit for what changed, or none.",
    flow_run_name=name_run,
    persist_result=False,
)
@described
def iceberg(
    catalog: Catalog,
    to: Iceberg,
    *,
    keep_snapshots: Annotated[
        Duration | None, Field(description="Expire older snapshots, with files that only they need. None: none.")
    ] = None,
    overwrite: Annotated[
        bool, Field(description="Replace what other engines compacted, or wrote to the tables.")
    ] = False,
    credentials: BlockName = None,
    access: Annotated[S3Access, Field(description="How objects in S3 are read and written.")] = S3Access(),  # noqa: B008  # frozen
) -> State[None]:
    """Make Iceberg tables equal to a catalog; a run that is ended early leaves them as they were."""
    with aws.using(find_session(credentials) if credentials else None):
        request = Request(to=to, is_overwriting=overwrite, keep=keep_snapshots)
        reports = mirror_tables(catalog, access, request)
    done = [report.mirrored for report in reports]
    changed = sum(each.added + each.replaced + each.removed for each in done)
    return Completed(message=f"{len(reports)} Iceberg tables, {changed:,} partitions changed")
