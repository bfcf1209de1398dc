"""The run reports of a catalog as a table: one row a run."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.windows import parse_time
from ahi_catalog.schemas.tables import TIMESTAMP

_READERS: Final = 16
_TIMES: Final = ("started_at", "watermark_before", "watermark_after", "followed_to")
_COUNTS: Final = (
    *("rows_read", "new", "updated", "unchanged", "removed", "unrepaired"),
    *("partitions_written", "bytes_written", "windows", "requests", "throttles", "retries"),
)

RUNS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("datastore_id", "run_id", "flow", "outcome")),
        *((name, TIMESTAMP) for name in _TIMES),
        ("seconds", pa.float64()),
        *((name, pa.int64()) for name in _COUNTS),
    ]
)
"""Of the table: a run report's parts under their names, and of a verify how many differences it left."""


def runs_table(catalog: Catalog) -> pa.Table:
    """All run reports that are kept; a request each.

    Raises:
        StateError: One is damaged, or of a later version.
        StoreError: One cannot be got.
    """
    keys = [key for datastore_id in catalog.datastore_ids() for key in catalog.run_keys(datastore_id)]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="runs") as readers:
        return pa.Table.from_pylist(list(_records(readers.map(catalog.run, keys))), RUNS)


def _records(reports: Iterator[dict[str, Any] | None]) -> Iterator[dict[str, Any]]:
    for report in reports:
        if report is not None:
            times = {name: parse_time(report[name]) if report.get(name) else None for name in _TIMES}
            verified = report.get("verification") or {}
            yield {**report, **times, "unrepaired": verified.get("left")}
