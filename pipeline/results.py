"""Results of work that goes on elsewhere, taken in by the one thread that owns the state they change."""

import queue
from collections.abc import Callable
from functools import partial
from typing import Any

from ahi_catalog.pipeline.scan_task import Pending

Add = Callable[[Callable[[], Any]], None]
"""Takes a result in, given what returns it or raises what it failed with."""


class Results:
    """What is under way, and the first failure of any of it, which its owner raises once the rest is written.

    Attributes:
        under_way: How many results are still to be taken in.
        failure: None: nothing has failed yet.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self.failure: Exception | None = None
        self._arrived: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def expect(self, pending: Pending, add: Add) -> None:
        """Have a result added by the owner's thread when it is there."""
        self.under_way += 1
        pending.add_done_callback(lambda done: self._arrived.put(partial(self._add, add, done.result)))

    def take(self, timeout: float | None = None) -> bool:
        """Wait for a result and take it in; whether one came within so many seconds."""
        try:
            add = self._arrived.get(timeout=timeout)
        except queue.Empty:
            return False
        add()
        return True

    def _add(self, add: Add, result: Callable[[], Any]) -> None:
        self.under_way -= 1
        try:
            add(result)
        except Exception as error:  # noqa: BLE001  # raised by the owner, after what is proven is written
            self.failure = self.failure or error
