"""The run report: counts that add up, and nothing of a patient."""

import json
from dataclasses import fields
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import Published
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.scan import ScanResult
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.schemas import IMAGE_SETS

AT = datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=UTC)
counts = st.integers(0, 1_000)
tallies = st.builds(RequestCounts, requests=counts, throttles=counts, retries=counts)
NOTHING = IMAGE_SETS.schema.empty_table()["created_at"]
published = st.builds(
    Published,
    new=counts,
    updated=counts,
    unchanged=counts,
    removed=counts,
    is_populated=st.booleans(),
    bytes_written=st.sampled_from([0, 10, 10_000]),
    created=st.just(NOTHING),
)


def report() -> RunReport:
    return RunReport(flow="sync", run_id="abcdef01", datastore_id="0" * 32, started_at=AT)


def scanned(tally: RequestCounts) -> ScanResult:
    return ScanResult(
        rows=IMAGE_SETS.schema.empty_table(),
        proven=None,
        remainder=None,
        is_sorted=True,
        pace=None,
        counts=tally,
        served_at=None,
        unparsable={},
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(tallies),
    st.lists(published),
    st.lists(st.dictionaries(st.sampled_from(["study_date", "series_number"]), st.integers(1, 9))),
)
def test_a_report_adds_up(asked: list[RequestCounts], written: list[Published], misfits: list[dict[str, int]]) -> None:
    """Requests, rows, partitions and unparsable values are the sums of what was reported."""
    run = report()
    for tally in asked:
        run.count_scan(scanned(tally))
    for one in written:
        run.count_published(one)
    for misfit in misfits:
        run.count_rows(7, misfit, {})
    document = run.document()
    assert document["windows"] == len(asked)
    assert document["rows_read"] == 7 * len(misfits)
    for name in ("requests", "throttles", "retries"):
        assert document[name] == sum(getattr(tally, name) for tally in asked)
    for name in ("new", "updated", "unchanged", "removed", "bytes_written"):
        assert document[name] == sum(getattr(one, name) for one in written)
    assert document["partitions_written"] == sum(one.bytes_written > 0 for one in written)
    assert document["unparsable"] == {
        name: total
        for name in ("series_number", "study_date")
        if (total := sum(misfit.get(name, 0) for misfit in misfits))
    }


def test_a_report_is_json_with_every_field() -> None:
    """Machines get each count flat, times as ISO 8601 in UTC, and what never happened as null."""
    run = report()
    run.outcome, run.watermark_after = Outcome.STOPPED, datetime(2024, 3, 1, tzinfo=UTC)
    document = run.document()
    assert json.loads(json.dumps(document)) == document
    assert set(document) == {
        "format",
        *(field.name for field in fields(RunReport) if field.name != "counts"),
        *(field.name for field in fields(RequestCounts)),
    }
    assert document["outcome"] == "stopped"
    assert document["started_at"] == "2024-02-29T12:00:00Z"
    assert (document["watermark_before"], document["watermark_after"]) == (None, "2024-03-01T00:00:00Z")


def test_people_read_the_same_numbers() -> None:
    """The table has the document's counts, with thousands apart, and says `none` where there is nothing."""
    run = report()
    run.count_published(
        Published(
            new=12_345, updated=0, unchanged=0, removed=0, is_populated=True, bytes_written=2_500_000, created=NOTHING
        )
    )
    run.count_rows(12_345, {"study_date": 1_001}, {})
    table = dict(run.table())
    assert table["rows new"] == table["image sets read"] == "12,345"
    assert table["partitions written"] == "1 (2.5 MB)"
    assert table["unparsable values"] == "study_date 1,001"
    assert table["watermark before"] == "none"
