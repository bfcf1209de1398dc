"""A catalog of a single writer: one run holds the lease, compares before each put, and reads back after it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from ahi_catalog.connectors.catalog.single_writer import LEASE, LEASE_KEY, SingleWriterStore, writing_alone
from ahi_catalog.connectors.errors import ConflictError, StoreError
from ahi_catalog.connectors.storage import MemoryStore, Stored

START = datetime(2024, 2, 29, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Pretender(MemoryStore):
    """A store that takes every conditional put; a test may meddle just after a write."""

    meddle: Callable[[str], object] | None = None

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        del expected
        return self.overwrite(key, body)

    def overwrite(self, key: str, body: bytes) -> str:
        etag = super().overwrite(key, body)
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle(key)
        return etag


def body_of(stored: Stored | None) -> bytes | None:
    return stored.body if stored else None


def test_a_put_replaces_only_what_it_expects_though_the_store_takes_all() -> None:
    """The comparison that the store leaves out is made here."""
    pretender = Pretender()
    with writing_alone(pretender, "a", Clock()) as store:
        first = store.put("k", b"one", expected=None)
        assert store.put("k", b"one", expected=None) == first
        with pytest.raises(ConflictError):
            store.put("k", b"two", expected=None)
        second = store.put("k", b"two", expected=first)
        with pytest.raises(ConflictError):
            store.put("k", b"three", expected=first)
        assert store.put("k", b"three", expected=second)
    assert body_of(pretender.get("k")) == b"three"


def test_a_put_that_another_writer_overtakes_is_a_conflict() -> None:
    """What is read back is not what was written, so nothing counts as published."""
    pretender = Pretender()
    with writing_alone(pretender, "a", Clock()) as store:
        pretender.meddle = lambda key: pretender.overwrite(key, b"theirs")
        with pytest.raises(ConflictError):
            store.put("k", b"ours", expected=None)


def test_a_second_run_is_refused_until_the_first_has_ended() -> None:
    """The lease names the run that is writing; it is given back at the end."""
    pretender, clock = Pretender(), Clock()
    first, second = SingleWriterStore(pretender, "a", clock), SingleWriterStore(pretender, "b", clock)
    first.take_lease()
    with pytest.raises(StoreError, match="run a is writing"):
        second.take_lease()
    first.give_lease_back()
    with writing_alone(pretender, "b", clock) as store:
        assert store.put("k", b"b", expected=None)


def test_a_killed_run_blocks_nobody_for_long() -> None:
    """A lease that nobody renews is over after a quarter of an hour."""
    pretender, clock = Pretender(), Clock()
    SingleWriterStore(pretender, "killed", clock).take_lease()
    clock.now += LEASE - timedelta(seconds=1)
    with pytest.raises(StoreError, match="killed"), writing_alone(pretender, "b", clock):
        pass
    clock.now += timedelta(seconds=1)
    with writing_alone(pretender, "b", clock) as store:
        assert store.put("k", b"b", expected=None)


def test_a_run_renews_its_lease_while_it_writes_and_stops_when_it_has_lost_it() -> None:
    """A run that was taken for dead writes no more, and leaves the other's lease alone."""
    pretender, clock = Pretender(), Clock()
    slow = SingleWriterStore(pretender, "slow", clock)
    slow.take_lease()
    for number in range(40):
        clock.now += timedelta(minutes=1)
        slow.put("k", str(number).encode(), expected=etag(slow))
    clock.now += LEASE
    with writing_alone(pretender, "other", clock):
        with pytest.raises(StoreError, match="other has taken this catalog over"):
            slow.put("k", b"late", expected=etag(slow))
        slow.give_lease_back()
        with pytest.raises(StoreError, match="run other is writing"):
            slow.take_lease()


def etag(store: SingleWriterStore) -> str | None:
    found = store.get("k")
    return found.etag if found else None


def test_a_damaged_lease_is_named() -> None:
    """It is not taken for free, and the error says what to do."""
    pretender = Pretender()
    pretender.overwrite(LEASE_KEY, b"[]")
    with pytest.raises(StoreError, match=r"writer\.json is damaged; delete it"), writing_alone(pretender, "a", Clock()):
        pass
