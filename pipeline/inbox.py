"""Events for the data stores that a process reads: shared out, kept until what they tell is published, counted.

An event says when to look, never what is there; so the queue may be away, and runs go on without it.
"""

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ahi_catalog.connectors.errors import QueueError
from ahi_catalog.connectors.events import Event, Queue, open_queue
from ahi_catalog.connectors.healthimaging.source import ImageSet
from ahi_catalog.pipeline.deletions import look_up_all, remove_rows
from ahi_catalog.pipeline.run import Run

_log = logging.getLogger(__name__)

_DRAIN_SECONDS: Final = 1.0
"""A long poll asks all of a queue's servers, a short one some of them."""
_LOOKS: Final = 6
"""Passes that come early, after 1, 2, 4 s and so on, for an image set that the search does not list yet."""


@dataclass(slots=True)
class EventCounts:
    """Deliveries since the process began; a message that comes again counts again.

    Attributes:
        received: Events of the data stores that are read here.
        foreign: Events of others. They stay on the queue, for whoever reads those, or for its dead-letter queue.
        malformed: Messages without an event of HealthImaging's; they are left to the dead-letter queue.
        failures: Requests in vain: the queue refused, or could not be reached.
    """

    received: int = 0
    foreign: int = 0
    malformed: int = 0
    failures: int = 0


class Inbox:
    """The queue of a process; for use by the runs of all its data stores. Thread-safe.

    Args:
        url: Of the queue; None: there is none.
        datastore_ids: The data stores that are read; None: whichever are.
    """

    def __init__(self, url: str | None, datastore_ids: Collection[str] | None = None) -> None:
        self.counts = EventCounts()
        self._url = url
        self._datastore_ids = datastore_ids
        self._queue: Queue | None = None
        self._lock = threading.Lock()
        self._events: dict[str, list[Event]] = {}
        self._awaited: dict[str, list[Event]] = {}
        self._looks: dict[str, int] = {}
        self._is_away = False
        self._is_drained = False

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait until an event comes, the time is over, or the process is asked to stop.

        The time is shorter while an event tells of an image set that the search does not list yet.
        """
        until = time.monotonic() + min([seconds, *(2.0 ** (looks - 1) for looks in self._looks.values())])
        while (left := until - time.monotonic()) > 0 and not stop.is_set():
            # While events are kept that a run has failed to act on, more would only wear out their deliveries.
            if self._url is None or any(self._events.values()) or not self._receive(left, stop):
                stop.wait(left)
            if any(self._events.values()):
                return

    def drain(self, stop: threading.Event) -> None:
        """Take all events that are there; once for all the runs of a process."""
        with self._lock:
            if self._url is None or self._is_drained:
                return
            self._is_drained = True
            before = -1
            while before < self.counts.received + self.counts.foreign and not stop.is_set():
                before = self.counts.received + self.counts.foreign
                if not self._receive(_DRAIN_SECONDS, stop):
                    break
            if self.counts.malformed:
                _log.warning(
                    "%d messages on the queue hold no event of HealthImaging's; see its dead-letter queue",
                    self.counts.malformed,
                )

    def expect(self, run: Run) -> None:
        """Have a run note, before it reads anything, which image sets its events tell of."""
        run.awaited.update(event.image_set_id for event in self._of(run.datastore_id) if event.image_set_id)

    def act(self, run: Run) -> None:
        """Do what a run's events tell, after it has published what it found; delete the messages that are done with.

        An image set that the run has not met is asked about: it may be deleted, or out of the run's windows because
        an earlier run published it, or too young for the search, and then its message stays.

        Raises:
            AhiCatalogError: The service or the store fails; the events are kept, and their messages too.
        """
        events = self._of(run.datastore_id)
        if not events:
            return
        told = {event.image_set_id for event in events if event.image_set_id and event.deleted}
        answers = look_up_all(run, told | run.awaited)
        gone = {name: its for name, its in answers.items() if its is None or its.is_deleted}
        remove_rows(run, {name: its.created_at if its else None for name, its in gone.items()})
        if run.stop.is_set():
            return
        there = {name: its for name, its in answers.items() if its and name not in gone}
        waiting = {name for name, its in there.items() if name in told or _is_young(run, its)}
        self._events[run.datastore_id] = []
        self._awaited[run.datastore_id] = [event for event in events if event.image_set_id in waiting]
        looks = self._looks.pop(run.datastore_id, 0) + 1
        if waiting and looks <= _LOOKS:
            self._looks[run.datastore_id] = looks
        else:
            # The queue delivers their messages again.
            self._awaited[run.datastore_id] = []
        self._delete([event for event in events if event.image_set_id not in waiting])

    def _of(self, datastore_id: str) -> list[Event]:
        return [*self._awaited.get(datastore_id, []), *self._events.get(datastore_id, [])]

    def _receive(self, seconds: float, stop: threading.Event) -> bool:
        """Take events in; False where the queue cannot be asked."""
        try:
            queue = self._open()
            events = queue.receive(seconds, stop)
        except QueueError as error:
            self._fail(error)
            return False
        self.counts.malformed = queue.malformed
        for event in events:
            if self._datastore_ids is not None and event.datastore_id not in self._datastore_ids:
                self.counts.foreign += 1
            else:
                self.counts.received += 1
                self._events.setdefault(event.datastore_id, []).append(event)
        if self._is_away:
            self._is_away = False
            _log.warning("the queue answers again")
        return True

    def _delete(self, events: Collection[Event]) -> None:
        try:
            self._open().delete(events)
        except QueueError as error:
            self._fail(error)

    def _open(self) -> Queue:
        assert self._url is not None  # noqa: S101  # events come from a queue
        if self._queue is None:
            self._queue = open_queue(self._url)
        return self._queue

    def _fail(self, error: QueueError) -> None:
        self.counts.failures += 1
        if not self._is_away:
            self._is_away = True
            _log.warning("%s; runs go on without events", error)


def _is_young(run: Run, found: ImageSet) -> bool:
    """Whether changes are not yet followed to the image set's last one, so that no run need have met it."""
    last = max(filter(None, (found.created_at, found.updated_at)), default=None)
    followed_to = run.report.followed_to
    return last is not None and (followed_to is None or last >= followed_to)
