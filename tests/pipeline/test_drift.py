"""Fields that the service sends and the declaration does not know: kept, counted, and told once."""

import json
import logging
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.errors import SourceError
from ahi_catalog.connectors.windows import floor_second
from ahi_catalog.schemas import flatten, read, unknown_fields
from tests.support.world import BORN, TODAY, World, summary


def rows_with(extras: list[dict[str, object]]) -> dict[str, int]:
    """The unknown fields of a page whose image sets have these beside the usual ones."""
    page = [
        {"imageSetId": f"{number:032d}", "createdAt": 1_700_000_000, **extra} for number, extra in enumerate(extras)
    ]
    return unknown_fields(flatten([read(json.dumps({"imageSetsMetadataSummaries": page}).encode()).rows]))


def test_unknown_fields_are_told_by_their_path() -> None:
    """A field is counted once a row, under the name by which a user would look for it; a known one never."""
    one: dict[str, object] = {"sizeInBytes": 7, "DICOMTags": {"DICOMKVP": "120", "DICOMPatientName": 3}}
    assert rows_with([one, {"sizeInBytes": 8, "version": "text"}, {}]) == {"sizeInBytes": 2, "DICOMTags.DICOMKVP": 1}


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: not name.isascii()), st.integers(), max_size=3))
def test_a_name_of_another_form_is_not_repeated(extra: dict[str, object]) -> None:
    """What is no name of a field may be anything, a patient's name too."""
    assert set(rows_with([extra])) <= {"(a name of another form)"}


def test_drift_is_told_once_and_kept_with_its_date(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The run that meets a field first logs it; the checkpoint keeps since when, and later runs only count."""
    world.service.insert(world.datastore_id, [summary("a", BORN, KVP="120"), summary("b", BORN)])
    with caplog.at_level(logging.WARNING, "ahi_catalog"):
        first = world.sync()
        told = [record.getMessage() for record in caplog.records if "DICOMTags.DICOMKVP" in record.getMessage()]
        world.service.insert(world.datastore_id, [summary("c", TODAY - timedelta(hours=1), KVP="120")])
        second = world.sync()
        assert len(told) == 1
        assert [record for record in caplog.records if "DICOMKVP" in record.getMessage()] == caplog.records[:1]
    assert (first.drift, first.unknown_fields["DICOMTags.DICOMKVP"]) == ({"DICOMTags.DICOMKVP"}, 1)
    assert (second.drift, second.unknown_fields["DICOMTags.DICOMKVP"] > 0) == (set(), True)
    checkpoint = open_catalog(open_store(str(world.catalog))).checkpoint(world.datastore_id)
    assert checkpoint is not None
    assert checkpoint.unknown_fields == {"DICOMTags.DICOMKVP": floor_second(first.started_at)}
    world.assert_catalog_equals_service()


def test_unknown_fields_can_fail_a_run(world: World) -> None:
    """Who must know first has the run refuse them; nothing of their window is covered, and keeping them resumes."""
    world.service.insert(world.datastore_id, [summary("a", BORN, KVP="120")])
    with pytest.raises(SourceError, match=r"DICOMTags\.DICOMKVP"):
        world.sync(unknown_fields="fail")
    checkpoint = open_catalog(open_store(str(world.catalog))).checkpoint(world.datastore_id)
    assert checkpoint is not None
    assert not checkpoint.coverage.before(BORN + timedelta(seconds=1))
    world.sync()
    world.assert_catalog_equals_service()
