"""Prefect's events of runs, and the table that a run refreshed as an asset: counts and times, never rows."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from prefect.assets import add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import flow_run

from ahi_catalog.connectors.catalog.verification import outcome_in_words
from ahi_catalog.connectors.redaction import describe
from ahi_catalog.pipeline.many import Result
from ahi_catalog.pipeline.notifying import counts_of
from ahi_catalog.schemas import IMAGE_SETS

_log = logging.getLogger(__name__)

_NOT_IN_KEYS: Final = re.compile(r"[\s\0#?&%\"'<>\[\]{}|\\^`]")
"""What Prefect refuses in an asset's key."""


def asset_key(catalog: str) -> str:
    """The key of a catalog's table among Prefect's assets.

    Args:
        catalog: Where it is: ``s3://bucket/prefix``, or a folder.
    """
    url = catalog.rstrip("/") if "://" in catalog else f"file://{Path(catalog).absolute()}"
    return _NOT_IN_KEYS.sub("_", f"{url}/{IMAGE_SETS.name}")


def tell(catalog: str, results: Sequence[Result]) -> None:
    """Emit how runs of the current flow ended, and that the table was refreshed where rows of it were written.

    Never fails, and waits for nothing: Prefect sends events in the background.

    Args:
        catalog: Where the catalog is.
        results: What became of each data store.
    """
    try:
        for result in results:
            _tell_run(catalog, result)
        _tell_refresh(catalog, results)
    except Exception as error:  # noqa: BLE001  # whatever it is, the run does without events
        _log.warning("Prefect took no event of the run: %s", describe(error))


def _tell_run(catalog: str, result: Result) -> None:
    report = result.report
    outcome = outcome_in_words(str(result.outcome), report.unrepaired if report else 0)
    events = ["completed" if outcome == "done" else outcome, *(["drifted"] if report and report.drift else [])]
    resource = {
        # One for each data store of each catalog, so that an alarm waits for each of them.
        "prefect.resource.id": f"ahi-catalog.{asset_key(catalog)}.{result.datastore_id}",
        "prefect.resource.name": f"data store {result.datastore_id} in {catalog}",
        "ahi-catalog.catalog": catalog,
        "ahi-catalog.datastore-id": result.datastore_id,
    }
    for event in events:
        emit_event(f"ahi-catalog.{flow_run.flow_name}.{event}", resource, payload=counts_of(report))


def _tell_refresh(catalog: str, results: Sequence[Result]) -> None:
    """After any run that wrote rows: one that failed may have published what the next one finds unchanged."""
    reports = [result.report for result in results if result.report and result.report.partitions_written]
    if not reports:
        return
    key = asset_key(catalog)
    counts: dict[str, Any] = {
        "datastore_ids": [report.datastore_id for report in reports],
        "partitions_written": sum(report.partitions_written for report in reports),
        "bytes_written": sum(report.bytes_written for report in reports),
    }

    # A task does nothing but be done: what it is said to have made is there already.
    @materialize(key, name="refreshed", cache_policy=NO_CACHE, persist_result=False, retries=0)
    def refreshed() -> None:
        add_asset_metadata(key, counts)

    refreshed()
