"""Scans as the tasks of a Prefect flow.

Task parameters are a window and the time that it bounds; clients stay in the closure of the scan, rows travel in memory
only, and no result is persisted.
"""

from typing import Any

from prefect import task as prefect_task
from prefect.cache_policies import NO_CACHE

from ahi_catalog.connectors.windows import Window
from ahi_catalog.pipeline.scan_task import Pending, ScanExecutor, ScanTask, WorkRequest


class PrefectScanExecutor:
    """Makes each scan a task of the flow that this is called in; the scan itself runs where another executor runs it.

    So Prefect shows what is going on, and workers of a cluster need no way to its API. How many are under way at once
    is up to the scheduler; the task runner needs no limit of its own.

    Args:
        executor: Where scans run.
        of: The data store that tasks are named after, where a flow reads several.
    """

    def __init__(self, executor: ScanExecutor, *, of: str | None = None) -> None:
        self._executor = executor
        self._name = "{by} {window}" if of is None else f"{of} {{by}} {{window}}"

    def submit(self, task: ScanTask, request: WorkRequest) -> Pending:
        def scan(by: str, window: Window) -> Any:
            # The parameters are what Prefect shows; the page token and the rows of a continuation stay here.
            del by, window
            return self._executor.submit(task, request).result()

        # Requests are tried again where they are made; a whole scan runs once, whatever Prefect's settings say.
        as_task = prefect_task(
            name="scan", task_run_name=self._name, cache_policy=NO_CACHE, persist_result=False, retries=0
        )
        return as_task(scan).submit(request.by, request.window)
