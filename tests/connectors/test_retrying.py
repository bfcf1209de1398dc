"""Trying again: how often, after what, and how long between two tries."""

import inspect
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.connectors.retrying import full_jitter, retry


class TransientError(Exception):
    """What may pass."""


class AnotherError(Exception):
    """What does not."""


def failing(times: int, error: Exception) -> tuple[Callable[[], int], list[int]]:
    """What brings 7 after so many failures; and its calls."""
    calls: list[int] = []

    def attempt() -> int:
        calls.append(len(calls) + 1)
        if len(calls) <= times:
            raise error
        return 7

    return attempt, calls


@given(failures=st.integers(0, 20), tries=st.integers(1, 10))
def test_it_is_tried_until_it_passes_or_the_tries_are_up(failures: int, tries: int) -> None:
    """Each failure but the last is told of, with its number and the wait that follows; the last one is raised."""
    attempt, calls = failing(failures, TransientError("at last"))
    told: list[tuple[str, int, float]] = []
    waited: list[float] = []

    def ask() -> int:
        return retry(
            attempt,
            TransientError,
            tries=tries,
            backoff=lambda tried: tried / 4,
            wait=waited.append,
            say=lambda failure, tried, seconds: told.append((str(failure), tried, seconds)),
        )

    if failures < tries:
        assert ask() == 7
    else:
        with pytest.raises(TransientError, match="at last"):
            ask()
    again = min(failures, tries - 1)
    assert len(calls) == again + 1
    assert waited == [tried / 4 for tried in range(1, again + 1)]
    assert told == [("at last", tried, tried / 4) for tried in range(1, again + 1)]


def test_what_does_not_pass_is_raised_at_once() -> None:
    """Another failure is no reason to try again, and is raised without the one before it hanging on."""
    attempt, calls = failing(9, AnotherError())
    with pytest.raises(AnotherError):
        retry(attempt, TransientError, tries=9, backoff=lambda _: 0)
    assert calls == [1]

    failures = [TransientError(), AnotherError()]

    def fail() -> None:
        raise failures.pop(0)

    with pytest.raises(AnotherError) as raised:
        retry(fail, TransientError, tries=9, backoff=lambda _: 0)
    assert raised.value.__context__ is None


def test_it_sleeps_unless_told_how_to_wait() -> None:
    """Between two tries the thread sleeps."""
    assert inspect.signature(retry).parameters["wait"].default is time.sleep


@given(first=st.floats(0.01, 1), factor=st.floats(1, 100), tries=st.integers(1, 10) | st.integers(1, 10**6))
def test_a_wait_grows_twofold_up_to_the_longest(first: float, factor: float, tries: int) -> None:
    """Never more than the longest, nor than the first doubled for each further try, however many tries there are."""
    longest = first * factor
    assert 0 <= full_jitter(first, longest)(tries) <= min(longest, first * 2.0 ** min(tries - 1, 99)) * (1 + 1e-9)


def test_waits_use_all_of_the_time_that_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter: those who failed together do not come back together."""
    longest: list[float] = []
    shortest: list[float] = []
    for waits, draw in ((longest, max), (shortest, min)):
        monkeypatch.setattr(random, "uniform", draw)
        waits += [full_jitter(first=0.2, longest=1)(tries) for tries in range(1, 6)]
    assert longest == pytest.approx([0.2, 0.4, 0.8, 1, 1])
    assert shortest == [0] * 5
