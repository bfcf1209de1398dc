"""Observers: what only watches a run never slows, ends or falsifies it."""

import logging
import threading
from datetime import UTC, datetime

import pytest

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.pipeline.observers import InBackground, Observers, Progress, collecting_reports, watched_by
from ahi_catalog.pipeline.run_report import RunReport
from tests.support.world import World

_PATIENCE = 30.0
PROGRESS = Progress(
    datastore_id="0" * 32, phase="reading", seconds_done=1, seconds_total=2, seconds=5.0, rows=3, requests=4
)
REPORT = RunReport(flow="sync", run_id="abcdef01", datastore_id="0" * 32, started_at=datetime(2024, 1, 1, tzinfo=UTC))


class Failing:
    """Raises at one of its calls, quoting a row, and counts them all."""

    def __init__(self, *, at: int) -> None:
        self.calls = 0
        self._at = at

    def progressed(self, progress: Progress) -> None:
        del progress
        self._call()

    def finished(self, report: RunReport) -> None:
        del report
        self._call()

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self._at:
            raise RuntimeError("Tester^a0000001")


@pytest.mark.parametrize("at", [1, 5])
def test_a_run_goes_on_without_an_observer_that_fails(world: World, caplog: pytest.LogCaptureFixture, at: int) -> None:
    """It is called no more, the log says so once and quotes nothing, and every row is published."""
    world.fill(1_000)
    failing, watching = Failing(at=at), Failing(at=0)
    with caplog.at_level(logging.WARNING), watched_by(failing, watching), collecting_reports() as reports:
        world.sync()
    assert failing.calls == at < watching.calls
    assert [report.outcome for report in reports] == ["done"]
    [said] = {record.message for record in caplog.records if record.name.startswith("ahi_catalog")}
    assert said.startswith("an observer of the run failed and is left out: RuntimeError")
    assert "Tester" not in said
    world.assert_catalog_equals_service()


def test_an_observer_that_fails_at_the_end_does_not_fail_the_run(world: World) -> None:
    """The report says done, and was kept, whatever becomes of it afterwards."""

    class AtTheEnd(Failing):
        def finished(self, report: RunReport) -> None:
            raise RuntimeError(report.outcome)

    world.fill(50)
    with watched_by(AtTheEnd(at=0)):
        assert world.sync().outcome == "done"
    world.assert_catalog_equals_service()


def test_an_observer_in_the_background_is_not_waited_for() -> None:
    """While it is busy progress goes by; the last word is passed on when it is free, and then it is over."""
    gate, seen = threading.Event(), list[object]()

    class Slow:
        def progressed(self, progress: Progress) -> None:
            assert gate.wait(_PATIENCE)
            seen.append(progress.rows)

        def finished(self, report: RunReport) -> None:
            seen.append(report.outcome)

    observer = InBackground(Slow())
    for _ in range(100):
        observer.progressed(PROGRESS)
    gate.set()
    observer.finished(REPORT)
    assert seen[-1] == "done"
    assert 1 <= len(seen) - 1 <= 2


def test_an_observer_in_the_background_may_fail() -> None:
    """The end of the run is not told to one that has failed before, and is not held up by it."""
    failing = Failing(at=1)
    observer = InBackground(failing)
    observer.progressed(PROGRESS)
    observer.finished(REPORT)
    assert failing.calls == 1


def test_an_observer_that_never_answers_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run waits for its last word some seconds, and no longer."""
    monkeypatch.setattr("ahi_catalog.pipeline.observers._LAST_WORD_SECONDS", 0.01)
    gate = threading.Event()

    class Stuck(Failing):
        def progressed(self, progress: Progress) -> None:
            del progress
            gate.wait(_PATIENCE)

    observer = InBackground(Stuck(at=0))
    observer.progressed(PROGRESS)
    observer.finished(REPORT)
    gate.set()


def test_observers_are_called_in_their_order() -> None:
    """Each of several, one after the other."""
    called: list[str] = []

    class Named(Failing):
        def __init__(self, name: str) -> None:
            super().__init__(at=0)
            self._name = name

        def progressed(self, progress: Progress) -> None:
            del progress
            called.append(self._name)

    Observers(Named("a"), Named("b")).progressed(PROGRESS)
    assert called == ["a", "b"]


def test_an_observer_of_a_run_that_never_begins_leaves_no_thread(world: World) -> None:
    """A job that fails before its run calls no observer, so none waits for a call for ever."""
    before = set(threading.enumerate())
    with watched_by(InBackground(Failing(at=0))), pytest.raises(UsageError):
        world.verify()
    assert not [each for each in threading.enumerate() if each.name == "observer" and each not in before]


def test_an_observer_watches_one_run_after_another() -> None:
    """A report ends the thread, and the next call begins another."""
    watching = Failing(at=0)
    observer = InBackground(watching)
    for _ in range(2):
        observer.progressed(PROGRESS)
        observer.finished(REPORT)
    assert watching.calls >= 2
