"""The checkpoint: JSON and back, growth that commutes, and what is refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog.checkpoint import FORMAT, Checkpoint, decode, encode
from ahi_catalog.connectors.errors import StateError
from ahi_catalog.connectors.windows import Coverage, Window

CATALOG = "c" * 32
ID, OTHER = "0" * 32, "1" * 32
START = datetime(2024, 2, 28, 23, 59, 30, tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
windows = st.builds(
    lambda start, length: Window(START + timedelta(seconds=start), START + timedelta(seconds=start + length)),
    st.integers(-(10**9), 10**9) | st.integers(0, 60),
    st.integers(1, 10**7) | st.integers(1, 12),
)
coverages = st.lists(windows, max_size=6)
checkpoints = st.builds(
    lambda several, to, created, start: Checkpoint(
        datastore_id=ID,
        catalog_id=CATALOG,
        coverage=Coverage(several),
        followed_to=to,
        datastore_created_at=created,
        start=start,
    ),
    coverages,
    moments,
    st.none() | moments,
    st.none() | moments,
)


def document(**changes: Any) -> bytes:
    """A good checkpoint as JSON, with some of its fields replaced."""
    good = {
        "format": FORMAT,
        "catalog_id": CATALOG,
        "datastore_id": ID,
        "followed_to": "2024-01-01T00:00:00Z",
        "coverage": [["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]],
    }
    return json.dumps(good | changes).encode()


@settings(max_examples=100, deadline=None)
@given(checkpoints)
def test_a_checkpoint_is_read_back_as_it_was(checkpoint: Checkpoint) -> None:
    """Nothing is lost in JSON, in any year, and writing it again gives the same bytes."""
    body = encode(checkpoint)
    assert decode(body, ID, CATALOG) == checkpoint
    assert encode(decode(body, ID, CATALOG)) == body


@settings(max_examples=100, deadline=None)
@given(checkpoints, coverages, coverages, moments, moments)
def test_updates_commute_and_only_grow(
    checkpoint: Checkpoint, left: list[Window], right: list[Window], early: datetime, late: datetime
) -> None:
    """Whatever the order of two runs' updates, the checkpoint ends the same, and nothing proven is taken back."""
    one = checkpoint.with_coverage(left).following(early).with_coverage(right).following(late)
    other = checkpoint.with_coverage(right).following(late).with_coverage(left).following(early)
    assert one == other
    assert not checkpoint.coverage.minus(one.coverage)
    assert one.followed_to == max(checkpoint.followed_to, early, late)


def test_the_good_document_is_good() -> None:
    """The document that the refusals below start from is itself accepted."""
    assert decode(document(), ID, CATALOG).followed_to == datetime(2024, 1, 1, tzinfo=UTC)


def test_a_checkpoint_of_before_knows_no_creation_and_learns_it_once() -> None:
    """One without that field is read; what is noted then stays, also where a later run knows nothing."""
    before = decode(document(), ID, CATALOG)
    assert before.datastore_created_at is None
    assert before.created(START).created(None).datastore_created_at == START


def test_the_watermark_is_not_read_back() -> None:
    """It stands there for people: a wrong one changes nothing."""
    assert decode(document(watermark="never"), ID, CATALOG) == decode(document(), ID, CATALOG)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        document()[:-2],
        document(format="1"),
        document(format=None),
        document(format=0),
        document(format=FORMAT + 1),
        document(datastore_id=OTHER),
        document(datastore_id=None),
        document(followed_to=None),
        document(followed_to=7),
        document(followed_to="2024-01-01"),
        document(followed_to="2024-02-30T00:00:00Z"),
        document(coverage=None),
        document(coverage=4),
        document(coverage=[["2024-01-01T00:00:00Z"]]),
        document(coverage=[["2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"]]),
        document(coverage=[["2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]]),
        document(coverage=[[1, 2]]),
    ],
)
def test_what_is_no_checkpoint_is_refused(body: bytes) -> None:
    """Damaged, foreign and later checkpoints raise the one error that says what to do."""
    with pytest.raises(StateError, match=r"verify it with `repair`|upgrade"):
        decode(body, ID, CATALOG)


@settings(max_examples=100, deadline=None)
@given(checkpoints, st.data())
def test_a_cut_checkpoint_is_never_half_read(checkpoint: Checkpoint, data: st.DataObject) -> None:
    """A file that was not written to its end is refused, wherever it was cut."""
    body = encode(checkpoint).rstrip()
    with pytest.raises(StateError):
        decode(body[: data.draw(st.integers(0, len(body) - 1))], ID, CATALOG)
