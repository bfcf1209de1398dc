"""Keys and partitions: there and back, and a partition of time without gap or overlap."""

import itertools
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog.layout import (
    STATE,
    Partition,
    Unit,
    checkpoint_key,
    parse_partition,
    partition_rows,
    partitions,
    run_key,
    runs_prefix,
    table_prefix,
)
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.schemas import IMAGE_SETS

ID = "0123456789abcdef0123456789abcdef"
START = datetime(2024, 2, 27, 22, tzinfo=UTC)

units = st.sampled_from(Unit)
ids = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=32, max_size=32)
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 11, 30), timezones=st.just(UTC))  # noqa: DTZ001  # the strategy adds the zone
seconds = st.integers(0, 70 * 86_400)
windows = st.builds(
    lambda start, length: Window(START + timedelta(seconds=start), START + timedelta(seconds=start + length)),
    seconds,
    st.integers(1, 70 * 86_400),
)


@settings(max_examples=100, deadline=None)
@given(ids, units, moments)
def test_a_key_names_its_partition(datastore_id: str, unit: Unit, moment: datetime) -> None:
    """The key of any moment's partition is read back as that partition."""
    partition = Partition.of(datastore_id, unit, moment)
    assert parse_partition(IMAGE_SETS, partition.key(IMAGE_SETS)) == partition
    assert partition.key(IMAGE_SETS).startswith(table_prefix(IMAGE_SETS, datastore_id))


@settings(max_examples=100, deadline=None)
@given(units, moments, st.integers(-14 * 60, 14 * 60))
def test_a_moment_lies_in_its_partition_whatever_its_zone(unit: Unit, moment: datetime, minutes: int) -> None:
    """Partitions are of UTC: the same moment told in another zone has the same one, and lies in its window."""
    partition = Partition.of(ID, unit, moment)
    assert partition.window.start <= moment < partition.window.end
    assert partition.next().window.start == partition.window.end
    if datetime(2, 1, 1, tzinfo=UTC) < moment:
        assert Partition.of(ID, unit, moment.astimezone(timezone(timedelta(minutes=minutes)))) == partition


@settings(max_examples=100, deadline=None)
@given(units, windows)
def test_the_partitions_of_a_window_make_it_up(unit: Unit, window: Window) -> None:
    """Cut to the partitions that it touches, a window is whole again; each has a part, and they are in order."""
    touched = list(partitions(ID, unit, window))
    pieces = [Coverage([window]).within(partition.window) for partition in touched]
    assert all(len(piece.windows) == 1 for piece in pieces)
    assert sum(part.seconds for piece in pieces for part in piece) == window.seconds
    assert Coverage(part for piece in pieces for part in piece) == Coverage([window])
    assert all(a.next() == b for a, b in itertools.pairwise(touched))


@settings(max_examples=60, deadline=None)
@given(units, st.lists(st.integers(0, 70 * 86_400 * 10**6), max_size=30), st.integers(0, 30))
def test_each_row_goes_to_the_partition_of_its_creation(unit: Unit, micros: list[int], cut: int) -> None:
    """No row is lost or doubled, each partition comes once, and chunks do not matter."""
    rows = [
        {"image_set_id": f"{number}", "created_at": START + timedelta(microseconds=micro)}
        for number, micro in enumerate(micros)
    ]
    table = pa.concat_tables([pa.Table.from_pylist(part, IMAGE_SETS.schema) for part in (rows[:cut], rows[cut:])])
    parts = list(partition_rows(IMAGE_SETS, ID, unit, table))
    assert len({partition for partition, _ in parts}) == len(parts)
    found = Counter((partition, name) for partition, part in parts for name in part["image_set_id"].to_pylist())
    assert found == Counter((Partition.of(ID, unit, row["created_at"]), row["image_set_id"]) for row in rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key",
    [
        "",
        f"{IMAGE_SETS.folder}datastore_id={ID}/",
        f"{IMAGE_SETS.folder}datastore_id={ID}/created_date=2023-02-29/image-sets.parquet",
        f"{IMAGE_SETS.folder}datastore_id={ID}/created_month=2023-13/image-sets.parquet",
        f"{IMAGE_SETS.folder}datastore_id={ID}/created_date=2023-02/image-sets.parquet",
        f"{IMAGE_SETS.folder}datastore_id={ID}/created_date=2023-02-28/other.parquet",
        f"{IMAGE_SETS.folder}datastore_id={ID}/created_date=2023-02-28/image-sets.parquet.tmp",
        f"{IMAGE_SETS.folder}datastore_id={ID}/created_date=2023-02-28/image-sets.parquet\n",
        f"{IMAGE_SETS.folder}datastore_id={ID[:-1]}/created_date=2023-02-28/image-sets.parquet",
        f"{IMAGE_SETS.folder}datastore_id={ID.upper()}/created_date=2023-02-28/image-sets.parquet",
        f"backup/{IMAGE_SETS.folder}datastore_id={ID}/created_date=2023-02-28/image-sets.parquet",
        checkpoint_key(ID),
    ],
)
def test_a_other_key_names_no_partition(key: str) -> None:
    """What is not exactly a data object of ours is left alone."""
    assert parse_partition(IMAGE_SETS, key) is None


def test_months_end_when_they_end() -> None:
    """February of a leap year, and December."""
    assert Partition(ID, Unit.MONTH, date(2024, 2, 1)).window.seconds == 29 * 86_400
    assert Partition(ID, Unit.MONTH, date(2023, 12, 1)).next() == Partition(ID, Unit.MONTH, date(2024, 1, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)), min_size=2, max_size=6))  # noqa: DTZ001  # the strategy adds the zone
def test_run_reports_sort_by_their_start(starts: list[datetime]) -> None:
    """The order of the keys is the order of the starts, to the second, and state stays apart from data."""
    whole = sorted({start.replace(microsecond=0) for start in starts})
    keys = [run_key(ID, start, "run") for start in whole]
    assert keys == sorted(keys)
    assert all(key.startswith(runs_prefix(ID)) and key.startswith(STATE) for key in keys)
