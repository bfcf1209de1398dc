"""Metadata beside a watch: what its passes publish is read in the background, in a run an hour."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from ahi_catalog.connectors.catalog import Partition
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline.background import BackgroundJob
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.lacks import newest_first
from ahi_catalog.pipeline.metadata import Take, for_metadata, reading
from ahi_catalog.pipeline.notifying import Teller
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.pipeline.run import Clock, Run, open_run
from ahi_catalog.pipeline.run_report import Outcome


@dataclass(frozen=True, slots=True)
class _Hour:
    """A run under way.

    Attributes:
        run: The run.
        read: Reads and publishes what partitions lack.
        whole: Partitions of the catalog that were not looked at yet.
        resources: What ends with it.
    """

    run: Run
    read: Callable[[Take], Collection[Partition]]
    whole: Iterator[Partition]
    resources: ExitStack = field(repr=False)


class MetadataJob(BackgroundJob):
    """Reads the metadata of what a watch publishes: a run an hour, which looks at the whole catalog once.

    What passes have published comes before the rest of the catalog.

    Args:
        settings: Of the watch. Archived image sets are not read, whatever they say.
        clock: The local clock, aware.
        connection: To the service.
        load_key: Loads the key of pseudonyms.
        then: Called when something was published.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        connection: Connection,
        load_key: LoadKey,
        then: Callable[[], None] | None = None,
    ) -> None:
        super().__init__("the metadata of what is new is not read", clock)
        options = replace(settings.metadata, archived=False)
        self._settings = for_metadata(replace(settings, metadata=options))
        self._teller = Teller(self._settings, "metadata")
        self._connection = connection
        self._load_key = load_key
        self._then = then
        self._stop = threading.Event()
        self._published: set[Partition] = set()
        self._adding = threading.Lock()
        self._is_new_hour = False
        self._hour: _Hour | None = None
        self._last_failure: Exception | None = None

    def begin_hour(self) -> None:
        """Have the whole catalog looked at again, in a run of its own."""
        self._is_new_hour = self._is_due = True
        self.start()

    def follow(self, changed: Collection[Partition]) -> None:
        """Have partitions that were published looked at."""
        self._add(changed)
        super().follow(changed)

    def tell(self, outcome: Outcome) -> None:
        """The same; of the data store's metadata."""
        self._teller.tell(outcome)

    def end(self) -> None:
        """End the reading in order: what is read is published, and the report is kept."""
        self._stop.set()
        self._join()
        self._end_hour()

    @redact_errors
    def work(self) -> bool:
        """Read what is lacking; whether the service was not ready for some of it."""
        if self._is_new_hour or self._hour is None:
            self._is_new_hour = False  # first, for the next hour may begin meanwhile
            self._end_hour()
            self._hour = self._open_hour()
        run, taken = self._hour.run, set[Partition]()
        left: Collection[Partition] = taken
        written = run.report.partitions_written
        try:
            run.catalog.refuse_replaced()
            left = self._hour.read(partial(self._take, self._hour.whole, taken))
            self._last_failure = None
        except Exception as error:
            self._last_failure = error
            raise
        finally:
            self._add(left)
            if self._then and run.report.partitions_written > written:
                self._then()
        return bool(left)

    def _open_hour(self) -> _Hour:
        settings = self._settings
        with ExitStack() as stack:
            # Threads of its own: the passes' are for scans.
            executor = stack.enter_context(open_threads(settings.workers))
            setup = open_run(
                settings,
                executor,
                self._stop,
                clock=self._clock,
                connection=self._connection,
                load_key=self._load_key,
            )
            run, read = stack.enter_context(reading(setup, self._connection, has_heartbeat=False))
            whole = iter(newest_first(run.catalog, settings.datastore_id))
            return _Hour(run, read, whole, stack.pop_all())

    def _end_hour(self) -> None:
        """Keep the hour's report: as failed, where the last reading was."""
        if self._hour is not None:
            hour, failure, self._hour = self._hour, self._last_failure, None
            hour.resources.__exit__(type(failure) if failure else None, failure, None)

    def _add(self, partitions: Collection[Partition]) -> None:
        with self._adding:
            self._published.update(partitions)

    def _take(
        self, whole: Iterator[Partition], taken: set[Partition], under_way: Collection[Partition]
    ) -> Partition | None:
        with self._adding:
            found = max(self._published.difference(under_way), default=None)
            if found is not None:
                self._published.remove(found)
        if found is None:
            found = next((each for each in whole if each not in taken), None)
        if found is not None:
            taken.add(found)
        return found
