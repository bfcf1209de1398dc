"""The state of a verification: JSON and back, what is left, and what is refused."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog.verification import Finding, Verification, decode, encode
from ahi_catalog.connectors.errors import StateError
from ahi_catalog.connectors.windows import Coverage, Window

START = datetime(2024, 2, 28, 23, 59, 30, tzinfo=UTC)
windows = st.builds(
    lambda start, length: Window(START + timedelta(seconds=start), START + timedelta(seconds=start + length)),
    st.integers(0, 60),
    st.integers(1, 12),
)
coverages = st.lists(windows, max_size=4).map(Coverage)
counts = st.dictionaries(st.sampled_from(Finding), st.integers(1, 5), min_size=1).map(Counter)
places = st.sampled_from(["2024-02-28", "2024-02-29", "checkpoint", "created_date=2024-02-29/x.parquet"])
verifications = st.builds(
    Verification,
    run_id=st.sampled_from(["a", "b"]),
    asked=st.just(".. part 1/1"),
    started_at=st.just(START),
    finished_at=st.none() | st.just(START),
    is_repairing=st.booleans(),
    windows=coverages,
    verified=coverages,
    is_inspected=st.booleans(),
    seed=st.sampled_from(["", "a"]),
    sampled=st.none() | coverages,
    findings=st.dictionaries(places, counts, max_size=3),
)


@settings(max_examples=100, deadline=None)
@given(verifications)
def test_a_verification_is_read_back_as_it_was(verification: Verification) -> None:
    """So that another run can go on with it."""
    assert decode(encode(verification)) == verification


def test_one_of_an_earlier_version_is_read() -> None:
    """Which knew of no sample of metadata."""
    made = Verification(run_id="a", asked=".. part 1/1", started_at=START, is_repairing=False, windows=Coverage())
    document = json.loads(encode(made))
    del document["seed"], document["sampled"]
    assert decode(json.dumps(document).encode()) == made


@settings(max_examples=100, deadline=None)
@given(verifications, st.lists(st.tuples(places, counts), max_size=4))
def test_findings_add_up(verification: Verification, found: list[tuple[str, "Counter[Finding]"]]) -> None:
    """By place and in all; a repair leaves the files of others only."""
    after = verification.noting(found)
    assert after.totals == verification.totals + sum((c for _, c in found), Counter[Finding]())
    assert replace(after, is_repairing=False).unrepaired == after.totals.total()
    assert replace(after, is_repairing=True).unrepaired == after.totals[Finding.UNEXPECTED]
    assert verification.noting([("2024-02-28", Counter())]).findings == verification.findings


@settings(max_examples=100, deadline=None)
@given(verifications, st.lists(windows, max_size=4))
def test_what_is_verified_is_no_longer_left(verification: Verification, several: list[Window]) -> None:
    """What remains is what was planned without what has been verified."""
    after = verification.verifying(several)
    assert after.remaining == verification.windows.minus(verification.verified).minus(several)


GOOD = encode(Verification(run_id="a", asked="", started_at=START, is_repairing=False, windows=Coverage()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"format": 1}',
        b'{"format": 2}',
        GOOD[:-9],
        GOOD.replace(b'"findings": {}', b'"findings": []'),
        GOOD.replace(b'"findings": {}', b'"findings": {"2024-01-01": {"odd": 1}}'),
    ],
)
def test_what_is_no_verification_says_what_to_do(body: bytes) -> None:
    """Damaged and later ones are one line."""
    with pytest.raises(StateError, match=r"verify it with `restart`|upgrade"):
        decode(body)
