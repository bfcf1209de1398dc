"""DA and TM parsing against a slow reference, one text at a time."""

from datetime import date, datetime, timedelta

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ahi_catalog.schemas.dicom import combine, parse_dates, parse_times
from tests.support.reference import expected_date, expected_time

paddings = st.sampled_from(["", " ", "  ", "\0", " \0"])
near_dates = st.from_regex(r"[0-9]{4}[.]?[0-9]{2}[.]?[0-9]{2}[ \x00]?", fullmatch=True)
real_dates = st.tuples(st.dates(), st.sampled_from(["%Y%m%d", "%Y.%m.%d"]), paddings).map(
    lambda parts: f"{parts[0].year:04d}" + parts[0].strftime(parts[1])[-6 if "." in parts[1] else -4 :] + parts[2]
)
near_times = st.from_regex(r"[0-2][0-9](:?[0-6][0-9](:?[0-6][0-9](\.[0-9]{0,7})?)?)?[ \x00]?", fullmatch=True)


def column(texts: list[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.string())])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | real_dates | near_dates | st.text(max_size=12)))
@example(
    [
        "20240229",
        "20230229",
        "19000229",
        "20000229",
        "0000",
        "00000101",
        "1990/01/",
        "1994.11.05",
        "\uff12\uff10\uff12\uff140101",
    ]
)
def test_dates_are_the_calendars_or_null(texts: list[str | None]) -> None:
    """Whatever stands there, the day is the reference's; never another day."""
    assert parse_dates(column(texts)).to_pylist() == [expected_date(text) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | near_times | st.text(max_size=16)))
@example(["11:20:00", "1200", "093431.70", "07", "235960", "24", "112000.", "11:20", "070907.0705 "])
def test_times_are_times_of_day_or_null(texts: list[str | None]) -> None:
    """Whatever stands there, the time is the reference's, to the microsecond."""
    expected = [expected_time(text) for text in texts]
    found = parse_times(column(texts)).to_pylist()
    assert [None if value is None else timedelta(microseconds=value) for value in found] == expected


@settings(max_examples=100, deadline=None)
@given(st.dates(), st.times())
def test_a_date_and_a_time_make_a_moment_without_zone(day: date, time: object) -> None:
    """Every day and time of day combine into their moment; with either missing there is none."""
    text = f"{time:%H%M%S.%f}"
    days, times = column([f"{day.year:04d}{day:%m%d}", None]), column([text, text])
    assert combine(parse_dates(days), parse_times(times)).to_pylist() == [
        datetime.combine(day, datetime.strptime(text, "%H%M%S.%f").time()),  # noqa: DTZ007  # DICOM local time
        None,
    ]
