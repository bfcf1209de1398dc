"""The counts of a catalog, against what its rows say; and that no small group is among them."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import Catalog, Unit
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.report import DatastoreReport, collect
from ahi_catalog.report.arrivals import Span
from ahi_catalog.report.groups import Group
from ahi_catalog.schemas import Policy
from ahi_catalog.schemas.views import GIGABYTE, LEAST_BYTES, StoragePrices
from tests.report.conftest import ID, MakeCatalog, publish_rows, publish_series, row

NOW = datetime(2024, 7, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def report_on(catalog: Catalog) -> DatastoreReport:
    return collect(catalog, ID, runs=10, now=NOW)


def counts(groups: tuple[Group, ...]) -> dict[str, int | None]:
    return {group.label: group.image_sets for group in groups}


def several(many: int, *, start: int = 0, **values: Any) -> list[dict[str, Any]]:
    return [row(start + number, **values) for number in range(many)]


def test_groups_are_counted_by_code(make_catalog: MakeCatalog) -> None:
    """Image sets, studies and patients by modality and body part; spelling apart from case counts as one."""
    rows = several(30) + several(20, start=100, series_modality="mr ", series_body_part=None)
    rows += several(5, start=200, patient_id="patient-1", study_instance_uid="1.2.1")
    report = report_on(make_catalog(rows))
    assert asdict(report.totals) == {"label": "all", "image_sets": 55, "studies": 50, "patients": 50, "stored": None}
    assert [asdict(group) for group in report.by_modality] == [
        {"label": "CT", "image_sets": 35, "studies": 30, "patients": 30, "stored": None},
        {"label": "MR", "image_sets": 20, "studies": 20, "patients": 20, "stored": None},
    ]
    assert counts(report.by_body_part) == {"CHEST": 35, "none given": 20}


def test_rare_and_odd_codes_are_lumped_together(make_catalog: MakeCatalog) -> None:
    """A code of a few patients, however many image sets, and text that is no code have no line of their own."""
    rows = several(30) + several(25, start=100, series_modality="MR")
    rows += several(40, start=200, series_modality="XA", patient_id="the one")
    rows += several(20, start=300, series_modality="Doe^Jane <b>")
    report = report_on(make_catalog(rows))
    assert counts(report.by_modality) == {"CT": 30, "MR": 25, "other (2)": 60}


@pytest.mark.parametrize("text", ["Doe^Jane <b>", "LONGER THAN A CODE MAY BE", "left knee, 2nd"])
def test_text_that_is_no_code_is_not_shown_however_frequent(make_catalog: MakeCatalog, text: str) -> None:
    """Anything may stand in the place of a code, so only what has the form of one is shown."""
    rows = several(40, series_body_part=text) + several(30, start=100)
    assert counts(report_on(make_catalog(rows)).by_body_part) == {"CHEST": 30, "other (1)": 40}


def test_a_single_rare_code_takes_another_with_it(make_catalog: MakeCatalog) -> None:
    """What is hidden does not follow from the total."""
    rows = several(30) + several(20, start=100, series_modality="MR") + several(3, start=200, series_modality="XA")
    assert counts(report_on(make_catalog(rows)).by_modality) == {"CT": 30, "other (2)": 23}


def test_a_data_store_of_a_few_patients_shows_no_count(make_catalog: MakeCatalog) -> None:
    """With fewer than 11 patients nothing but zero is shown."""
    report = report_on(make_catalog(several(10)))
    assert report.totals.image_sets is None
    assert report.arrivals
    assert {found.image_sets for found in (*report.arrivals.bins, *report.arrivals.days)} == {0, None}
    for groups in (report.by_hour, report.by_modality, report.by_body_part, report.by_tier, report.idle):
        assert {group.image_sets for group in groups} <= {0, None}


def test_days_are_bins_over_a_short_range(make_catalog: MakeCatalog) -> None:
    """Each day of the covered range has its bin, empty ones too; small ones are hidden, never a single one."""
    rows = several(50) + several(12, start=100, created_at=datetime(2024, 5, 2, 9, tzinfo=UTC))
    rows += several(4, start=200, created_at=datetime(2024, 5, 4, 9, tzinfo=UTC))
    arrivals = report_on(make_catalog(rows)).arrivals
    assert arrivals
    assert (arrivals.span, arrivals.days) == (Span.DAY, ())
    assert [found.image_sets for found in arrivals.bins[:5]] == [50, None, 0, None, 0]
    assert (arrivals.bins[0].start, arrivals.bins[-1].end) == (date(2024, 5, 1), date(2024, 7, 1))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 40)), min_size=1, max_size=12, unique_by=lambda t: t[0]))
def test_no_bin_tells_of_a_hidden_day(tmp_path_factory: pytest.TempPathFactory, days: list[tuple[int, int]]) -> None:
    """Over a long range, from a bin and its shown days, no hidden day of a few patients follows."""
    first = datetime(2024, 5, 1, 8, tzinfo=UTC)
    rows = [
        row(1000 * day + number, created_at=first + day * DAY)
        for day, patients in [*days, (400, 1)]
        for number in range(patients)
    ]
    arrivals = report_on(publish_rows(tmp_path_factory.mktemp("catalog"), rows)).arrivals
    assert arrivals
    assert arrivals.span is Span.WEEK
    for around in arrivals.bins:
        inside = [day for day in arrivals.days if around.start <= day.start < around.end]
        if around.image_sets is None:
            assert {day.image_sets for day in inside} <= {0, None}
        elif inside and (hidden := [day for day in inside if day.image_sets is None]):
            assert around.image_sets - sum(day.image_sets or 0 for day in inside) >= 11
            assert len(hidden) > 1


def test_no_day_of_a_hidden_week_is_shown(make_catalog: MakeCatalog) -> None:
    """A week that is hidden beside a small one stays hidden, though its one day is large enough by itself."""
    first = datetime(2024, 5, 1, 8, tzinfo=UTC)
    patients = {0: 50, 100: 5, 107: 20, 115: 50}
    rows = [row(1000 * day + n, created_at=first + day * DAY) for day, many in patients.items() for n in range(many)]
    arrivals = report_on(make_catalog(rows)).arrivals
    assert arrivals
    assert arrivals.span is Span.WEEK
    found = {day.start: day.image_sets for day in arrivals.days}
    assert [found[(first + day * DAY).date()] for day in (100, 107, 115)] == [None, None, 50]


def test_hours_tiers_and_idle_times(make_catalog: MakeCatalog) -> None:
    """By hour in UTC; by tier; and the frequent tier by the time since the last access, from the last sync."""
    followed_to = datetime(2024, 7, 1, tzinfo=UTC)
    rows = several(20, last_accessed_at=followed_to - 29 * DAY)
    rows += several(15, start=100, last_accessed_at=followed_to - 100 * DAY)
    rows += several(30, start=200, storage_tier="ARCHIVE_INSTANT_ACCESS", last_accessed_at=followed_to - 500 * DAY)
    report = report_on(make_catalog(rows))
    assert counts(report.by_hour) == {str(hour): 65 if hour == 8 else 0 for hour in range(24)}
    assert counts(report.by_tier) == {"ARCHIVE_INSTANT_ACCESS": 30, "FREQUENT_ACCESS": 35}
    assert list(counts(report.idle).values()) == [20, 0, 15, 0]


def test_storage_is_what_the_view_says(make_catalog: MakeCatalog) -> None:
    """Gigabytes as billed, dollars and savings by tier, modality, age and idle time; what is not read as the least."""
    lately = datetime(2024, 6, 20, tzinfo=UTC)
    archive = {"storage_tier": "ARCHIVE_INSTANT_ACCESS"}
    read = several(30) + several(20, start=100, series_modality="MR", **archive)
    rare = several(3, start=300, series_modality="XA", **archive)
    catalog = make_catalog(read + several(12, start=200, created_at=lately) + rare)
    assert {group.stored for group in report_on(catalog).by_tier} == {None}
    publish_series(catalog, read, 2 << 30)
    report = collect(catalog, ID, runs=0, now=NOW, prices=StoragePrices(frequent=0.5, archive=0.1))
    [archived, frequent] = (asdict(tier.stored) for tier in report.by_tier if tier.stored)
    gigabytes = 40 + 3 * LEAST_BYTES / GIGABYTE
    assert archived == pytest.approx({"gigabytes": gigabytes, "dollars": 0.1 * gigabytes, "saves": 0, "read": 20})
    gigabytes = 60 + 12 * LEAST_BYTES / GIGABYTE
    billed = {"gigabytes": gigabytes, "dollars": 0.5 * gigabytes, "saves": 0.4 * gigabytes, "read": 30}
    assert frequent == pytest.approx(billed)
    assert {group.label: group.stored and round(group.stored.gigabytes) for group in report.by_modality} == {
        "CT": 60,
        "other (2)": 40,
    }
    assert [group.stored and round(group.stored.gigabytes) for group in report.by_age] == [0, 100, 0, 0]
    assert [group.stored and round(group.stored.saves) for group in report.idle] == [0, 24, 0, 0]
    sql = "select sum(dollars_a_month), sum(archiving_saves), sum(billed_gigabytes) from storage"
    [view] = run_query(catalog, sql, prices=StoragePrices(frequent=0.5, archive=0.1)).to_pylist()
    stored = report.totals.stored
    assert stored
    assert [stored.dollars, stored.saves, stored.gigabytes] == pytest.approx(list(view.values()))


def test_storage_does_not_tell_of_a_small_tier(make_catalog: MakeCatalog) -> None:
    """From gigabytes and dollars of a group follows what it has in each tier, be it of a few patients."""
    archived = {"storage_tier": "ARCHIVE_INSTANT_ACCESS"}
    rows = several(30) + several(40, start=100, **archived)
    rows += several(30, start=200, series_modality="MR") + several(3, start=300, series_modality="MR", **archived)
    rows += several(25, start=400, series_modality="US", **archived)
    catalog = make_catalog(rows)
    publish_series(catalog, rows, 1 << 30)
    report = report_on(catalog)
    assert {group.label: group.stored is not None for group in report.by_modality} == {
        "CT": True,
        "MR": False,
        "US": False,
    }
    assert all(group.stored for group in (report.totals, *report.by_tier))


def test_the_storage_of_a_small_group_is_not_shown(make_catalog: MakeCatalog) -> None:
    """Neither its own, nor what would follow from the total."""
    rows = several(30) + several(15, start=100, series_modality="MR") + several(3, start=200, series_modality="XA")
    catalog = make_catalog(rows)
    publish_series(catalog, rows, 1 << 30)
    by_modality = {group.label: group.stored for group in report_on(catalog).by_modality}
    assert by_modality.keys() == {"CT", "other (2)"}
    small = make_catalog(several(5, start=900, created_at=datetime(2024, 6, 3, tzinfo=UTC)), "0" * 31 + "c")
    publish_series(small, several(5, start=900, created_at=datetime(2024, 6, 3, tzinfo=UTC)), 9, "0" * 31 + "c")
    report = collect(small, "0" * 31 + "c", runs=0, now=NOW)
    groups = (report.totals, *report.by_modality, *report.by_tier, *report.by_age, *report.idle)
    assert {group.stored for group in groups if group.image_sets is None} == {None}
    assert not any(group.image_sets for group in groups)


def test_hours_are_told_in_a_zone_of_ones_choice(make_catalog: MakeCatalog) -> None:
    """Summer time is heeded; a name that is none is refused."""
    catalog = make_catalog(several(20) + several(15, start=100, created_at=datetime(2024, 1, 2, 8, tzinfo=UTC)))
    report = collect(catalog, ID, runs=0, now=datetime(2024, 7, 1, tzinfo=UTC), zone="Europe/Berlin")
    assert {hour: count for hour, count in counts(report.by_hour).items() if count} == {"9": 15, "10": 20}
    with pytest.raises(UsageError, match="time_zone"):
        collect(catalog, ID, runs=0, now=datetime(2024, 7, 1, tzinfo=UTC), zone="Mars/Base")


def test_idle_times_do_not_tell_of_a_hidden_tier(make_catalog: MakeCatalog) -> None:
    """Where the tier's size is not shown, its parts are not either."""
    report = report_on(make_catalog(several(40) + several(3, start=100, storage_tier="ARCHIVE_INSTANT_ACCESS")))
    assert set(counts(report.by_tier).values()) == {None}
    assert set(counts(report.idle).values()) == {0, None}


def test_contradictions_are_counted_where_many_patients_are_in_them(make_catalog: MakeCatalog) -> None:
    """Studies of several patients or dates, series in several image sets; few of them are said to be some."""
    rows = several(40, study_date=date(2024, 4, 30))
    rows += [row(100 + n, study_instance_uid=f"1.2.{n}", study_date=date(2024, 4, 29)) for n in range(12)]
    rows += [row(200 + n, series_instance_uid=f"1.2.{n}.1", is_primary=False) for n in range(3)]
    found = {(each.unit, each.what): each.count for each in report_on(make_catalog(rows)).findings}
    assert found["studies", "whose series disagree on the patient"] == 12
    assert found["studies", "whose series disagree on the study date"] == 12
    assert found["series", "in more than one image set"] is None
    assert found["series", "in more than one primary image set"] == 0
    assert found["image sets", "that are not the primary ones of their series"] is None
    assert found["image sets", "without Patient ID"] == 0


def test_unparsable_values_are_those_of_the_run_report(make_catalog: MakeCatalog) -> None:
    """By column, what was sent and could not be parsed or held; an empty text is none."""
    rows = several(20, dicom_study_date="2024-02-30") + several(5, start=100, dicom_study_time="soon")
    rows += several(15, start=200, extra='{"DICOMTags": {"DICOMSeriesNumber": "x"}}', dicom_study_date=" ")
    found = {each.what: each.count for each in report_on(make_catalog(rows)).unparsable}
    assert found == {"study_date": 20, "series_number": 15, "study_datetime": None}


@pytest.mark.parametrize("unit", list(Unit))
def test_it_is_the_same_wherever_the_catalog_lies(s3_url: str, tmp_path: Path, unit: Unit) -> None:
    """On S3 and in a folder, in days and in months, the counts are the same."""
    rows = several(30) + several(15, start=100, created_at=datetime(2024, 6, 3, tzinfo=UTC), series_modality="MR")
    reports = [asdict(report_on(publish_rows(place, rows, unit=unit))) for place in (s3_url, tmp_path / "folder")]
    assert reports[0] == reports[1]
    assert reports[0]["totals"]["image_sets"] == 45


def test_an_empty_data_store_has_a_report(make_catalog: MakeCatalog) -> None:
    """Nothing is covered and nothing is there: zeros, and no failure."""
    report = report_on(make_catalog([]))
    assert report.totals.image_sets == 0
    assert (report.by_modality, report.unparsable) == ((), ())
    assert {each.count for each in report.findings} == {0}


def test_without_identifiers_nothing_is_said_of_patients_and_studies(make_catalog: MakeCatalog) -> None:
    """Under `drop` image sets are counted, and neither their number as one of patients nor missing UIDs as a fault."""
    report = report_on(make_catalog(several(30, is_primary=False) + several(20, start=100), phi=Policy.DROP))
    assert not report.tells_patients
    for group in (report.totals, *report.by_modality, *report.by_body_part, *report.by_tier):
        assert (group.image_sets, group.studies, group.patients) == (50, None, None)
    assert [(found.what, found.count) for found in report.findings] == [
        ("that are not the primary ones of their series", 30)
    ]


def test_pseudonyms_count_like_those_they_stand_for(make_catalog: MakeCatalog, tmp_path: Path) -> None:
    """Under `pseudonymize` the counts are those of a catalog that keeps everything; blanks are nobody in both."""
    rows = several(30) + several(5, start=200, patient_id="patient-1 ", study_instance_uid="1.2.1\0")
    rows += several(12, start=300, series_modality="US", patient_id=" ", study_instance_uid="\0")
    kept, hashed = (
        report_on(make_catalog(rows)),
        report_on(publish_rows(tmp_path / "pseudonyms", rows, phi=Policy.PSEUDONYMIZE)),
    )
    assert (hashed.totals, hashed.by_modality, hashed.findings) == (kept.totals, kept.by_modality, kept.findings)
    # Twelve people that nobody knows are a group of twelve, which may be shown, not of one.
    assert asdict(kept.totals) == {"label": "all", "image_sets": 47, "studies": 30, "patients": 42, "stored": None}
    assert counts(kept.by_modality) == {"CT": 35, "US": 12}
