"""Run reports as the page shows them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.report.history import history

NOW = datetime(2024, 5, 2, tzinfo=UTC)


def run_report(**values: Any) -> dict[str, Any]:
    return {
        "flow": "sync",
        "outcome": "done",
        "started_at": "2024-05-01T12:00:00Z",
        "seconds": 60.0,
        "requests": 5,
        "throttles": 1,
        "retries": 0,
        "new": 0,
        "updated": 0,
        "removed": 0,
        "watermark_after": "2024-05-01T11:50:00Z",
        **values,
    }


def test_runs_come_oldest_first_with_their_lag() -> None:
    """The lag is counted from the watermark to the end of the run; without a watermark there is none."""
    later = run_report(started_at="2024-05-01T13:00:00Z", watermark_after=None)
    first, second = history([later, run_report()], NOW)
    assert (first.started_at, first.lag) == (datetime(2024, 5, 1, 12, tzinfo=UTC), timedelta(minutes=11))
    assert second.lag is None


def test_freshness_is_shown_of_eleven_rows_and_more() -> None:
    """Fewer would tell when a single patient came; a report of an earlier version has none."""
    few, enough = Freshness(), Freshness()
    few.add([20.0] * 10)
    enough.add([*[20.0] * 10, 300.0])
    documents = [{}, {"freshness": few.document()}, {"freshness": enough.document()}]
    shown = [record.published_after for record in history((run_report(**document) for document in documents), NOW)]
    assert shown[:2] == [None, None]
    assert shown[2]
    assert [round(each.total_seconds(), -1) for each in shown[2]] == [20, 310, 310]


@pytest.mark.parametrize(
    ("counts", "shown"),
    [((0, 0, 0), "none"), ((1, 0, 0), "1 to 10"), ((5, 5, 1), "11 to 100"), ((10_000, 0, 1), "over 10,000")],
)
def test_changed_rows_are_shown_as_a_class(counts: tuple[int, int, int], shown: str) -> None:
    """New, updated and removed rows together, never their exact number."""
    new, updated, removed = counts
    [record] = history([run_report(new=new, updated=updated, removed=removed)], NOW)
    assert record.changed == shown


def test_a_run_that_stopped_beating_was_killed() -> None:
    """One that beats goes on, and is no history yet."""
    beat = {"beat_at": "2024-05-01T23:54:59Z"}
    killed = run_report(outcome="running", under_way=beat, watermark_after=None)
    [record] = history([killed], NOW)
    assert record.outcome == "killed"
    assert not history([killed], NOW - timedelta(minutes=1))
