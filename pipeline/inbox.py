"""Events for the data stores that a process reads: shared out, kept until what they tell is published, counted.

An event says when to look, never what is there; so the queue may be away, and runs go on without it.
"""

import logging
import threading
from collections import deque
from collections.abc import Collection
from typing import Final

from ahi_catalog.connectors.errors import QueueError
from ahi_catalog.connectors.events import Event, Queue, open_queue
from ahi_catalog.connectors.redaction import describe
from ahi_catalog.pipeline.run_report import EventCounts, RunReport

_log = logging.getLogger(__name__)

_DRAIN_SECONDS: Final = 1.0
"""A long poll asks all of a queue's servers, a short one some of them."""
_POLL_SECONDS: Final = 20.0
_AWAY_SECONDS: Final = 10.0
"""Between two tries of a queue that is away."""
_MOST: Final = 5_000
"""Events held while runs are busy; the queue keeps the rest."""
_LOOKS: Final = 6
"""Passes that come early, after 1, 2, 4 s and so on, for an image set that the search does not list yet."""


class Mailbox:
    """The events of one data store.

    Args:
        inbox: Of the process.
    """

    def __init__(self, inbox: "Inbox") -> None:
        self.woken = threading.Event()
        self._inbox = inbox
        self._arrived: deque[Event] = deque()
        self._taken: list[Event] = []
        self._looks = 0
        self._has_begun = False
        self.is_failing = False
        """Whether the last run has not come to its end."""

    @property
    def held(self) -> int:
        """How many events are kept."""
        return len(self._arrived) + len(self._taken)

    def put(self, event: Event) -> None:
        """Take an event in, for the run that begins next."""
        self._arrived.append(event)
        self.woken.set()

    def wait(self, seconds: float) -> None:
        """Return after so many seconds; earlier where an event comes, or has told of what the search did not list."""
        self.woken.wait(min(seconds, 2.0 ** (self._looks - 1)) if self._looks else seconds)

    def deleted(self) -> list[str]:
        """Take what has come; the ids of the image sets that were told to be deleted."""
        self.is_failing, self._has_begun = self._has_begun, True
        self.woken.clear()
        while self._arrived:
            self._taken.append(self._arrived.popleft())
        return sorted({event.image_set_id for event in self._taken if event.deleted and event.image_set_id})

    def awaited(self) -> list[str]:
        """The ids of the other image sets that what was taken tells of."""
        return sorted({event.image_set_id for event in self._taken if not event.deleted and event.image_set_id})

    def published(self, waiting: Collection[str], report: RunReport) -> None:
        """Delete the messages of what was taken.

        Args:
            waiting: Image sets that are not as they were told to be. Their messages stay, and after some more looks
                are forgotten here, until the queue delivers them again.
            report: Of the run.
        """
        done = [event for event in self._taken if event.image_set_id not in waiting]
        self._looks = self._looks + 1 if waiting and self._looks < _LOOKS else 0
        self._taken = [event for event in self._taken if event.image_set_id in waiting] if self._looks else []
        self.is_failing = self._has_begun = False
        self._inbox.delete(done)
        report.events.add(self._inbox.take_counts())


class Inbox:
    """The queue of a process, for the runs of all its data stores. Thread-safe.

    Args:
        url: Of the queue; None: there is none, and no event comes.
        datastore_ids: The data stores that are read; None: all of the account, as far as they are known by then.
    """

    def __init__(self, url: str | None, datastore_ids: Collection[str] | None = None) -> None:
        self._url = url
        self._datastore_ids = None if datastore_ids is None else set(datastore_ids)
        self._queue: Queue | None = None
        self._lock = threading.RLock()
        self._draining = threading.Lock()
        self._mailboxes: dict[str, Mailbox] = {}
        self._counts = EventCounts()
        self._malformed = 0
        self._is_away = False
        self._is_filled = False

    def mailbox(self, datastore_id: str) -> Mailbox:
        """The events of a data store."""
        with self._lock:
            return self._mailboxes.setdefault(datastore_id, Mailbox(self))

    def close(self, datastore_id: str) -> None:
        """Hold no more events of a data store that is read no longer: they stay on the queue, and hold up no other."""
        with self._lock:
            self._mailboxes.pop(datastore_id, None)
            if self._datastore_ids is not None:
                self._datastore_ids.discard(datastore_id)

    def drain(self, stop: threading.Event) -> None:
        """Take in what is on the queue now; once for all the runs of a process, and each waits until it is in.

        Of a queue that holds very much, a part: the rest would come again before this run has published anything.
        """
        if self._url is None:
            return
        with self._draining:
            if self._is_filled:
                return
            self._is_filled = True
            self._queue = open_queue(self._url)
            while not (stop.is_set() or self._is_full) and self._receive(_DRAIN_SECONDS, stop, is_draining=True):
                pass

    def listen(self, stop: threading.Event) -> None:
        """Take in what comes from now on, in a thread of its own, until the process is asked to stop."""
        if self._url is None:
            return
        with self._lock:
            if self._is_filled:
                return
            self._is_filled = True
            # Here, where the session is known and a failure is heard of.
            self._queue = open_queue(self._url)
        threading.Thread(target=self._listen, args=(stop,), name="events", daemon=True).start()

    def delete(self, events: Collection[Event]) -> None:
        """Delete the messages of events; those that cannot be deleted come again."""
        if events and self._queue is not None:
            try:
                self._queue.delete(events)
            except QueueError as error:
                self._fail(error)

    def take_counts(self) -> EventCounts:
        """What was counted since this was last called."""
        with self._lock:
            counts, self._counts = self._counts, EventCounts()
        return counts

    def _listen(self, stop: threading.Event) -> None:
        while not stop.is_set():
            # What is held and not done with comes again, and wears its number of deliveries out: so no more of it.
            if self._is_full or any(box.is_failing for box in list(self._mailboxes.values())):
                stop.wait(1)
            elif self._receive(_POLL_SECONDS, stop) is None:
                stop.wait(_AWAY_SECONDS)
        for box in self._mailboxes.values():
            box.woken.set()

    @property
    def _is_full(self) -> bool:
        return sum(box.held for box in list(self._mailboxes.values())) > _MOST

    def _box_of(self, event: Event, *, is_draining: bool) -> Mailbox | None:
        with self._lock:
            ids = self._datastore_ids
            # Runs of data stores that were not named may begin after the queue was drained.
            is_ours = event.datastore_id in ids if ids is not None else is_draining
            return self.mailbox(event.datastore_id) if is_ours else self._mailboxes.get(event.datastore_id)

    def _receive(self, seconds: float, stop: threading.Event, *, is_draining: bool = False) -> int | None:
        """Take events in, and say how many; None where the queue cannot be asked."""
        assert self._queue is not None  # noqa: S101  # both callers have opened it
        try:
            events = self._queue.receive(seconds, stop)
        except QueueError as error:
            self._fail(error)
            return None
        except Exception as error:  # noqa: BLE001  # told without its text, which is not ours; passes go on without events
            self._fail(QueueError(f"the queue: unexpected {describe(error)}"))
            return None
        malformed, self._malformed = self._queue.malformed - self._malformed, self._queue.malformed
        boxes = [self._box_of(event, is_draining=is_draining) for event in events]
        foreign = boxes.count(None)
        with self._lock:
            self._counts.add(EventCounts(received=len(events) - foreign, foreign=foreign, malformed=malformed))
        for box, event in zip(boxes, events, strict=True):
            if box is not None:
                box.put(event)
        if malformed and malformed == self._malformed:
            _log.warning("messages on the queue hold no event; they are left to its dead-letter queue, and counted")
        if self._is_away:
            self._is_away = False
            _log.warning("the queue answers again")
        return len(events)

    def _fail(self, error: QueueError) -> None:
        with self._lock:
            self._counts.add(EventCounts(failures=1))
        if not self._is_away:
            self._is_away = True
            _log.warning("%s; runs go on without events", error)
