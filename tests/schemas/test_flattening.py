"""Flattening: the strict decoder, the lenient one, and an independent reference."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.schemas import MalformedSummaryError, flatten, read, unparsable
from ahi_catalog.schemas.decoding import lenient, strict
from ahi_catalog.schemas.image_sets import SUMMARIES
from tests.support.reference import expected_row

texts = st.text(max_size=8) | st.sampled_from(["", "\0", "Yamada^Tarou=山田^太郎=やまだ^たろう", "20240101", "1200"])
moments = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1e6)
integers = st.integers(-(2**31), 2**31 - 1)
ids = st.text("0123456789abcdef", min_size=32, max_size=32)
tags = st.fixed_dictionaries(
    {},
    optional={
        "DICOMPatientId": texts,
        "DICOMPatientName": texts,
        "DICOMStudyDate": texts,
        "DICOMStudyTime": texts,
        "DICOMPatientBirthDate": texts,
        "DICOMSeriesNumber": integers,
        "DICOMNumberOfStudyRelatedSeries": st.integers(-(2**63), 2**63 - 1),
    },
)
required = {"imageSetId": ids, "createdAt": moments}
typed = st.fixed_dictionaries(
    required,
    optional={
        "version": integers,
        "updatedAt": moments,
        "isPrimary": st.booleans(),
        "storageTier": texts,
        "DICOMTags": tags,
    },
)
anything = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
odd = st.fixed_dictionaries(
    required,
    optional={
        "version": anything,
        "isPrimary": anything,
        "updatedAt": anything | st.sampled_from(["2024-02-29T12:00:00.000001Z", "2024-02-29"]),
        "newField": anything | st.dictionaries(texts, anything, max_size=2),
        "DICOMTags": anything
        | st.dictionaries(st.sampled_from(["DICOMPatientId", "DICOMSeriesNumber", "DICOMNew"]), anything, max_size=3),
    },
)


def page(summaries: list[dict[str, Any]]) -> bytes:
    return json.dumps({SUMMARIES: summaries, "nextToken": "t"}).encode()


def flattened(bodies: list[bytes]) -> pa.Table:
    return flatten([read(body).rows for body in bodies])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(typed | odd, max_size=4), max_size=6))
def test_one_page_and_many_give_the_same_table(pages: list[list[dict[str, Any]]]) -> None:
    """Flattening all pages at once equals flattening each, whatever odd page is among them."""
    bodies = [page(summaries) for summaries in pages]
    apart = pa.concat_tables([flattened([body]) for body in bodies]) if bodies else flattened([])
    assert flattened(bodies).equals(apart)
    flattened(bodies).validate(full=True)


@settings(max_examples=100, deadline=None)
@given(st.lists(typed, max_size=6))
def test_the_two_decoders_agree_with_the_reference(summaries: list[dict[str, Any]]) -> None:
    """On pages as declared both decoders read every value as the reference does."""
    body = page(summaries)
    one, other = strict.read(body), lenient.read(body)
    assert strict.to_table(one.rows).equals(other.rows)
    assert replace(one, rows=()) == replace(other, rows=())
    assert flattened([body]).to_pylist() == [expected_row(json.loads(json.dumps(summary))) for summary in summaries]


@settings(max_examples=100, deadline=None)
@given(odd)
def test_nothing_that_was_sent_is_lost(summary: dict[str, Any]) -> None:
    """Each top-level value is in its column or in `extra`, and the text of `extra` does not depend on key order."""
    [row] = flattened([page([summary])]).to_pylist()
    extra = json.loads(row["extra"] or "{}")
    if "newField" in summary:
        assert extra["newField"] == summary["newField"]
    if summary.get("version") is not None:
        assert summary["version"] in (row["version"], extra.get("version"))
    swapped = dict(reversed(summary.items()))
    assert flattened([page([swapped])]).to_pylist() == [row]


def test_a_lone_surrogate_is_kept_in_extra() -> None:
    """Text that no Parquet string can hold stays as JSON has it."""
    summary = {"imageSetId": "0" * 32, "createdAt": 0, "DICOMTags": {"DICOMPatientName": "A\ud800"}}
    [row] = flattened([page([summary])]).to_pylist()
    assert row["patient_name"] is None
    assert json.loads(row["extra"]) == {"DICOMTags": {"DICOMPatientName": "A\ud800"}}


@pytest.mark.parametrize(
    ("seconds", "held"),
    [
        (-62_135_596_800, datetime(1, 1, 1, tzinfo=UTC)),
        (-62_135_596_801, None),
        (253_402_300_799.5, datetime(9999, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)),
        (253_402_300_800, None),
        (1e15, None),
    ],
)
def test_a_time_outside_of_the_calendar_is_kept_in_extra(seconds: float, held: datetime | None) -> None:
    """Readers know the years 1 to 9999; what lies beyond is no time that a column holds."""
    [row] = flattened([page([{"imageSetId": "0" * 32, "createdAt": 0, "updatedAt": seconds}])]).to_pylist()
    kept = json.loads(row["extra"] or "{}")
    assert (row["updated_at"], kept) == ((held, {}) if held else (None, {"updatedAt": seconds}))


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("9999-12-31T23:59:59.5Z", datetime(9999, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)),
        ("9999-12-31T23:59:59-12:00", None),
        ("0001-01-01T00:00:00+12:00", None),
        ("2024-02-29T12:00:00", None),
    ],
)
def test_a_text_of_a_time_that_no_column_holds_is_kept_in_extra(text: str, held: datetime | None) -> None:
    """As a number would be: beyond the calendar in UTC, or without a zone."""
    [row] = flattened([page([{"imageSetId": "0" * 32, "createdAt": 0, "updatedAt": text}])]).to_pylist()
    assert (row["updated_at"], json.loads(row["extra"] or "{}")) == (held, {} if held else {"updatedAt": text})


@pytest.mark.parametrize(
    ("field", "name", "bits"),
    [("DICOMSeriesNumber", "series_number", 32), ("DICOMNumberOfStudyRelatedInstances", None, 64)],
)
def test_whole_numbers_are_held_as_far_as_their_column_goes(field: str, name: str | None, bits: int) -> None:
    """The greatest number of the column's width is held, by both decoders; the next one is kept in extra."""
    name = name or "number_of_study_related_instances"
    for number, held in ((2 ** (bits - 1) - 1, True), (2 ** (bits - 1), False), (-(2 ** (bits - 1)), True)):
        for more in ({}, {"odd": 1}):
            summary = {"imageSetId": "0" * 32, "createdAt": 0, "DICOMTags": {field: number}} | more
            [row] = flattened([page([summary])]).to_pylist()
            kept = json.loads(row["extra"] or "{}")
            assert row[name] == (number if held else None)
            assert kept == more | ({} if held else {"DICOMTags": {field: number}})


@pytest.mark.parametrize("seconds", [-62_135_596_801, 253_402_300_800])
def test_a_time_of_creation_outside_of_the_calendar_is_none(seconds: int) -> None:
    """An image set cannot be without it, so the page is malformed."""
    with pytest.raises(MalformedSummaryError):
        read(page([{"imageSetId": "0" * 32, "createdAt": seconds}]))


def test_what_does_not_parse_or_fit_is_counted_by_column() -> None:
    """Unparsable dates and times and misfits count; absent, empty and blank texts do not."""
    tags = {
        "DICOMPatientBirthDate": "1990/01/",
        "DICOMStudyDate": " ",
        "DICOMStudyTime": "12:00",
        "DICOMSeriesNumber": "04",
    }
    table = flattened([page([{"imageSetId": "0" * 32, "createdAt": 1.5, "DICOMTags": tags}])])
    assert unparsable(table) == {"patient_birth_date": 1, "study_datetime": 1, "series_number": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"not json Tester",
        b"[]",
        b'{"imageSetsMetadataSummaries": 4}',
        b'{"imageSetsMetadataSummaries": [null]}',
        b'{"imageSetsMetadataSummaries": [{"imageSetId": 7, "createdAt": 1}]}',
        b'{"imageSetsMetadataSummaries": [{"imageSetId": "x", "DICOMTags": {"DICOMPatientName": "Tester"}}]}',
        b'{"imageSetsMetadataSummaries": [{"imageSetId": "x", "createdAt": "Tester"}]}',
    ],
)
def test_a_page_that_cannot_be_a_page_is_refused_without_a_value(body: bytes) -> None:
    """The error says what is wrong and quotes nothing of the page."""
    with pytest.raises(MalformedSummaryError) as caught:
        flattened([body])
    assert "Tester" not in str(caught.value)


@pytest.mark.parametrize("depth", [10, 1_015, 1_022, 100_000])
def test_deep_nesting_is_kept_or_refused(depth: int) -> None:
    """However deeply a field is nested, it is in `extra` or the page is malformed; Python's own limit never shows."""
    nested = "[" * depth + "]" * depth
    body = f'{{"{SUMMARIES}": [{{"imageSetId": "x", "createdAt": 1, "n": {nested}}}]}}'.encode()
    try:
        [row] = flattened([body]).to_pylist()
    except MalformedSummaryError:
        assert depth > 1_000
    else:
        assert row["extra"] == f'{{"n":{nested}}}'
