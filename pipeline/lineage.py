"""OpenLineage's events of a run (https://openlineage.io): what it reads and writes, which field became which column.

Counts and names of columns, never rows. Imported where OpenLineage is configured only: it is an extra.
"""

import os
import uuid
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import column_lineage_dataset as lineage
from openlineage.client.facet_v2 import input_statistics_input_dataset, output_statistics_output_dataset
from openlineage.client.facet_v2 import schema_dataset as schemas

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.pipeline.observers import Progress
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.schemas import IMAGE_SETS, Table
from ahi_catalog.schemas.external import partition_keys
from ahi_catalog.schemas.phi.policy import Action, action
from ahi_catalog.schemas.series import DERIVED_TABLES

_PRODUCER: Final = "https://pypi.org/project/ahi-catalog/"
_SERVICE: Final = "aws-healthimaging"
_WRITTEN: Final = {"metadata": DERIVED_TABLES}
"""Tables by flow; all others write `image_sets`."""
_ENDS: Final = {Outcome.DONE: "COMPLETE", Outcome.STOPPED: "ABORT", Outcome.FAILED: "FAIL"}


class Lineage:
    """An observer that sends an event when a run begins to read, and one when it has ended.

    Args:
        client: Sends events.
        catalog: What the run writes to.
        flow: What it is: ``sync``, for example.
        datastore_id: What it reads.
    """

    def __init__(self, client: OpenLineageClient, catalog: Catalog, flow: str, datastore_id: str) -> None:
        self._client = client
        self._catalog = catalog
        self._job = f"{flow}.{datastore_id}"
        self._datastore_id = datastore_id
        self._tables = _WRITTEN.get(flow, (IMAGE_SETS,))
        self._run_id = str(uuid.uuid4())
        self._is_begun = False

    def progressed(self, progress: Progress) -> None:
        del progress
        if not self._is_begun:
            self._is_begun = True
            self._client.emit(self._event("START", None))

    def finished(self, report: RunReport) -> None:
        self._client.emit(self._event(_ENDS[report.outcome], report))

    def _event(self, state: str, report: RunReport | None) -> RunEvent:
        return RunEvent(
            eventType=RunState(state),
            eventTime=datetime.now(UTC).isoformat(),
            run=Run(runId=self._run_id),
            job=Job(namespace=os.environ.get("OPENLINEAGE_NAMESPACE", "ahi-catalog"), name=self._job),
            producer=_PRODUCER,
            inputs=[self._input(report)],
            outputs=[self._output(table, report) for table in self._tables],
        )

    def _input(self, report: RunReport | None) -> InputDataset:
        fields = [
            schemas.SchemaDatasetFacetFields(name=".".join(column.source), type=str(column.type))
            for table in self._tables
            for column in table.columns
            if column.source
        ]
        read = report and input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=report.rows_read, producer=_PRODUCER
        )
        return InputDataset(
            namespace=_SERVICE,
            name=self._datastore_id,
            facets={"schema": schemas.SchemaDatasetFacet(fields=fields, producer=_PRODUCER)},
            inputFacets={"inputStatistics": read} if read else {},
        )

    def _output(self, table: Table, report: RunReport | None) -> OutputDataset:
        fields = [
            schemas.SchemaDatasetFacetFields(column.name, str(column.type), description=column.doc)
            for column in [*table.columns, *partition_keys(self._catalog.description.unit.column)]
        ]
        policy = self._catalog.description.phi.policy
        columns = {}
        for column in table.columns:
            done = action(policy, column)
            how = lineage.Transformation(
                type="DIRECT",
                subtype="IDENTITY" if column.source and done is Action.KEEP else "TRANSFORMATION",
                description=str(done),
                masking=done is not Action.KEEP,
            )
            of = [
                lineage.InputField(_SERVICE, self._datastore_id, source, transformations=[how])
                for source in table.sources(column)
            ]
            if of:
                columns[column.name] = lineage.Fields(inputFields=of)
        namespace, name = _place(f"{self._catalog.store.url}/{table.name}")
        # Of several tables a run report has the sum.
        counted = report if len(self._tables) == 1 else None
        written = counted and output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=counted.new + counted.updated,
            size=counted.bytes_written,
            fileCount=counted.partitions_written,
            producer=_PRODUCER,
        )
        return OutputDataset(
            namespace=namespace,
            name=name,
            facets={
                "schema": schemas.SchemaDatasetFacet(fields=fields, producer=_PRODUCER),
                "columnLineage": lineage.ColumnLineageDatasetFacet(fields=columns, producer=_PRODUCER),
            },
            outputFacets={"outputStatistics": written} if written else {},
        )


def _place(url: str) -> tuple[str, str]:
    """Namespace and name of a dataset, as OpenLineage names them."""
    parts = urlsplit(url)
    return (f"s3://{parts.netloc}", parts.path.lstrip("/")) if parts.scheme == "s3" else ("file", url)
