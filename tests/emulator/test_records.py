from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from ahi_catalog.emulator.clock import to_micros
from ahi_catalog.emulator.records import changed, render

Summary = Callable[..., dict[str, Any]]
LATER = datetime(2026, 5, 2, tzinfo=UTC)


def test_a_summary_is_rendered_as_it_is(summary: Summary) -> None:
    """Every key is kept, unknown ones too, odd text to the last byte; times become exact epoch numbers."""
    tags = {"DICOMPatientName": 'Yamada^Tarou=山田^太郎 "\\\0\u2028', "DICOMPatientSex": ""}
    record = render(summary(1, DICOMTags=tags, somethingNew={"a": [1, None]}))
    assert record.summary()["DICOMTags"] == tags
    assert record.summary()["somethingNew"] == {"a": [1, None]}
    assert b'"createdAt":1775032201.123456' in record.body


def test_ints_are_microseconds(summary: Summary) -> None:
    """A time may be given in epoch microseconds."""
    moment = datetime(2026, 4, 1, 8, 30, 1, 123456, tzinfo=UTC)
    assert render(summary(1, createdAt=to_micros(moment))) == render(summary(1, createdAt=moment))


@pytest.mark.parametrize(
    "change", [{"imageSetId": "SHORT"}, {"imageSetId": None}, {"createdAt": None}, {"createdAt": 1.5}]
)
def test_malformed_summaries_are_refused(summary: Summary, change: dict[str, Any]) -> None:
    """An id or a time of the wrong form is refused, without repeating it."""
    with pytest.raises((ValueError, TypeError)) as refused:
        render(summary(1, **change))
    assert "SHORT" not in str(refused.value)


def test_a_time_is_required(summary: Summary) -> None:
    """No createdAt, no record; no updatedAt orders as createdAt and stays absent."""
    bare = summary(1)
    del bare["updatedAt"]
    record = render(bare)
    assert record.updated == record.created
    assert "updatedAt" not in record.summary()
    del bare["createdAt"]
    with pytest.raises(ValueError, match="createdAt is missing"):
        render(bare)


def test_a_change_makes_the_next_version(summary: Summary) -> None:
    """Tags merge one by one, None removes, other keys are replaced, and every other time stays exact."""
    before = render(summary(1, lastAccessedAt=1_777_593_600_999_999))
    changes = {
        "DICOMTags": {"DICOMPatientId": "new", "DICOMStudyDate": None},
        "storageTier": "FREQUENT_ACCESS",
        "isPrimary": None,
    }
    after = changed(before, changes, updated_at=LATER, new_version=True)
    assert after.created == before.created
    assert after.updated == to_micros(LATER)
    assert after.summary()["version"] == 2
    assert after.summary()["DICOMTags"] == {"DICOMPatientId": "new"}
    assert after.summary()["storageTier"] == "FREQUENT_ACCESS"
    assert "isPrimary" not in after.summary()
    assert b'"lastAccessedAt":1777593600.999999' in after.body


def test_a_change_may_leave_the_version_alone(summary: Summary) -> None:
    """A moved storage tier need not count as a change."""
    before = render(summary(1))
    after = changed(before, {"storageTier": "FREQUENT_ACCESS"}, updated_at=None, new_version=False)
    assert (after.updated, after.summary()["version"]) == (before.updated, 1)
