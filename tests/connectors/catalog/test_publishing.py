"""Publishing, state and objects of a catalog, on the store in memory."""

import io
import json
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors import retrying
from ahi_catalog.connectors.catalog import (
    Batch,
    Checkpoint,
    Partition,
    Unit,
    layout,
    open_or_create,
    parquet,
    publish,
)
from ahi_catalog.connectors.catalog import checkpoint as checkpoints
from ahi_catalog.connectors.catalog import description as descriptions
from ahi_catalog.connectors.errors import ConflictError, StateError, UsageError
from ahi_catalog.connectors.storage import Entry, MemoryStore
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.schemas import IMAGE_SETS

DAY = datetime(2024, 2, 29, tzinfo=UTC)
CATALOG = "c" * 32
ID = "0" * 32
RUN = {
    "format": 1,
    "flow": "sync",
    "outcome": "done",
    "started_at": "2024-02-29T00:00:00Z",
    **dict.fromkeys(("requests", "throttles", "retries", "new", "updated", "removed", "seconds"), 1),
}
PARTITION = Partition(ID, Unit.DAY, date(2024, 2, 29))
KEY = PARTITION.key(IMAGE_SETS)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a conflict nobody waits."""
    monkeypatch.setattr(retrying, "CONFLICT_BACKOFF", lambda _: 0)


def rows(*names: str, version: int = 1) -> pa.Table:
    created = [DAY + timedelta(hours=number) for number in range(len(names))]
    records = [
        {"image_set_id": name, "version": version, "created_at": moment, "patient_name": "Tester"}
        for name, moment in zip(names, created, strict=True)
    ]
    return pa.Table.from_pylist(records, IMAGE_SETS.schema)


def batch(table: pa.Table, *scanned: Window) -> Batch:
    return Batch(table=IMAGE_SETS, partition=PARTITION, rows=table, scanned=Coverage(scanned))


def nobody(_: Collection[str]) -> list[str]:
    return []


def ids(store: MemoryStore) -> list[str]:
    stored = store.get(KEY)
    assert stored is not None
    found: list[str] = parquet.decode(IMAGE_SETS, stored.body)["image_set_id"].to_pylist()
    return found


def test_a_question_to_the_service_keeps_nobody_from_publishing() -> None:
    """Merges take turns; while one waits to hear whether image sets are gone, another goes on."""
    store, other = MemoryStore(), Partition(ID, Unit.DAY, date(2024, 3, 1))
    publish(store, batch(rows("a", "b")), nobody)

    def ask(missing: Collection[str]) -> Collection[str]:
        with ThreadPoolExecutor() as publishers:
            beside = Batch(table=IMAGE_SETS, partition=other, rows=rows("c"), scanned=Coverage())
            assert publishers.submit(publish, store, beside, nobody).result(timeout=60).new == 1
        return missing

    assert publish(store, batch(rows("a"), Window(DAY, DAY + timedelta(days=1))), ask).removed == 1
    assert ids(store) == ["a"]


def test_a_question_that_fails_keeps_nobody_from_publishing() -> None:
    """The error comes through, and the next merge has its turn."""
    store = MemoryStore()
    publish(store, batch(rows("a", "b")), nobody)

    def fail(_: Collection[str]) -> list[str]:
        raise StateError("no answer")

    with pytest.raises(StateError, match=r"^no answer$"):
        publish(store, batch(rows("a"), Window(DAY, DAY + timedelta(days=1))), fail)
    assert publish(store, batch(rows("a", "b", "c")), nobody).new == 1


class Meddler(MemoryStore):
    """A store in which another run publishes just before each of the first puts."""

    def __init__(self, others: list[pa.Table]) -> None:
        super().__init__()
        self.others = others

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        if self.others:
            other = self.others.pop()
            publish(self, batch(other), nobody)
        return super().put(key, body, expected=expected)


def test_a_writer_in_between_loses_nothing() -> None:
    """On a conflict the object is read and merged again: all three runs' rows stand."""
    store = Meddler([rows("b"), rows("c")])
    published = publish(store, batch(rows("a")), nobody)
    assert sorted(ids(store)) == ["a", "b", "c"]
    assert published.new == 1


def test_conflicts_ask_about_each_image_set_once() -> None:
    """However often the object is read and merged again, the service is asked only about what it was not asked yet."""
    store = Meddler([])
    publish(store, batch(rows("a", "b", "c")), nobody)
    store.others = [rows("x", "y"), rows("b", version=2), rows("a", "b", version=3)]
    asked: list[str] = []

    def confirm(missing: Collection[str]) -> list[str]:
        asked.extend(missing)
        return ["b"]

    scanned = Window(DAY, DAY + timedelta(days=1))
    published = publish(store, batch(rows("a"), scanned), confirm)
    assert sorted(asked) == ["b", "c", "x", "y"]
    assert published.removed == 1
    assert sorted(ids(store)) == ["a", "c", "x", "y"]


def test_an_object_of_an_earlier_version_is_written_anew() -> None:
    """Counts of 32 bits become 64 by the next publish that meets them, though no row changes; then nothing does."""
    store = MemoryStore()
    table = rows("a", "b")
    names = ["number_of_study_related_series", "number_of_study_related_instances"]
    earlier = table
    for name in names:
        values = pa.array([7, None], pa.int32())
        earlier = earlier.set_column(earlier.column_names.index(name), name, values)
    sink = io.BytesIO()
    pq.write_table(earlier, sink, store_schema=False)
    store.put(KEY, sink.getvalue(), expected=None)
    published = publish(store, batch(rows()), nobody)
    assert (published.new, published.updated, published.unchanged) == (0, 0, 0)
    stored = store.get(KEY)
    assert stored is not None
    found = pq.read_table(io.BytesIO(stored.body))
    assert {found.schema.field(name).type for name in names} == {pa.int64()}
    assert found[names[0]].to_pylist() == [7, None]
    assert publish(store, batch(rows()), nobody).bytes_written == 0


def test_only_rows_that_a_scan_should_have_found_are_asked_about() -> None:
    """The service is asked about rows in the scanned range that did not arrive, and only confirmed ones go."""
    store = MemoryStore()
    publish(store, batch(rows("a", "b", "c", "d")), nobody)
    asked: list[str] = []

    def confirm(missing: Collection[str]) -> list[str]:
        asked.extend(missing)
        return ["b"]

    scanned = Window(DAY, DAY + timedelta(hours=3))
    published = publish(store, batch(rows("a"), scanned), confirm)
    assert asked == ["b", "c"]
    assert published.removed == 1
    assert ids(store) == ["a", "c", "d"]


def test_what_changes_nothing_is_not_written() -> None:
    """Publishing the same rows again puts no object."""
    store = MemoryStore()
    publish(store, batch(rows("a", "b")), nobody)
    before = store.get(KEY)
    published = publish(store, batch(rows("a", "b")), nobody)
    assert (published.bytes_written, published.unchanged) == (0, 2)
    assert store.get(KEY) == before


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1" * 100, b"not parquet"])
def test_a_damaged_object_is_named_and_left_alone(body: bytes) -> None:
    """The error names the object's key and no row; the object stays as it was."""
    store = MemoryStore()
    store.put(KEY, body, expected=None)
    with pytest.raises(StateError, match="created_date=2024-02-29") as caught:
        publish(store, batch(rows("a")), nobody)
    assert "Tester" not in str(caught.value)
    found = store.get(KEY)
    assert found is not None
    assert found.body == body


def test_damage_behind_much_that_is_readable_stops_a_merge_before_it_writes() -> None:
    """Where the last row group is damaged, the object is named and stays as it was, and the next merge has its turn."""
    store = MemoryStore()
    many = [{"image_set_id": f"{n:032d}", "created_at": DAY + timedelta(milliseconds=n)} for n in range(40_000)]
    body = bytearray(parquet.encode(IMAGE_SETS, pa.Table.from_pylist(many, IMAGE_SETS.schema)))
    last = pq.read_metadata(io.BytesIO(body)).row_group(1).column(0)
    body[last.data_page_offset + last.total_compressed_size - 1] ^= 1
    store.put(KEY, bytes(body), expected=None)
    for _ in range(2):
        with pytest.raises(StateError, match=r"created_date=2024-02-29.*verify it with `repair`"):
            publish(store, batch(rows("a")), nobody)
    found = store.get(KEY)
    assert found is not None
    assert found.body == body


moments = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001  # made aware right here
    lambda moment: moment.replace(tzinfo=UTC)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(moments, max_size=20), st.sampled_from(Unit))
def test_every_row_lies_in_the_partition_of_its_moment(several: list[datetime], unit: Unit) -> None:
    """Days and months, leap days and last microseconds: each row is in one partition, whose window has it."""
    edges = [DAY, DAY - timedelta(microseconds=1), DAY + timedelta(days=1, microseconds=-1)]
    created = [*several, *edges]
    table = pa.Table.from_pylist(
        [{"image_set_id": str(number), "created_at": moment} for number, moment in enumerate(created)],
        IMAGE_SETS.schema,
    )
    found = 0
    for partition, part in layout.partition_rows(IMAGE_SETS, ID, unit, table):
        found += len(part)
        assert all(partition.window.start <= at < partition.window.end for at in part["created_at"].to_pylist())
        assert layout.parse_partition(IMAGE_SETS, partition.key(IMAGE_SETS)) == partition
    assert found == len(created)


def test_foreign_keys_are_no_partitions() -> None:
    """What else lies in the table's folder is nobody's partition."""
    for key in (
        "image_sets/x.parquet",
        KEY + ".tmp",
        KEY.replace("02-29", "02-30"),
    ):
        assert layout.parse_partition(IMAGE_SETS, key) is None


windows = st.builds(
    lambda start, length: Window(DAY + timedelta(seconds=start), DAY + timedelta(seconds=start + length)),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(windows, max_size=5), windows)
def test_a_checkpoint_reads_back_as_it_was_written(covered: list[Window], followed: Window) -> None:
    """Coverage and followed_to survive as JSON."""
    checkpoint = Checkpoint(datastore_id=ID, catalog_id=CATALOG, coverage=Coverage(covered), followed_to=followed.end)
    assert checkpoints.decode(checkpoints.encode(checkpoint), ID, CATALOG) == checkpoint


def test_a_checkpoint_may_begin_in_the_year_one() -> None:
    """Who starts at the beginning of time reads the checkpoint back, and its partitions have four digits of year."""
    start = datetime(1, 1, 1, tzinfo=UTC)
    checkpoint = Checkpoint(
        datastore_id=ID, catalog_id=CATALOG, coverage=Coverage([Window(start, DAY)]), followed_to=start
    )
    assert checkpoints.decode(checkpoints.encode(checkpoint), ID, CATALOG) == checkpoint
    for unit in Unit:
        partition = Partition.of(ID, unit, start)
        assert layout.parse_partition(IMAGE_SETS, partition.key(IMAGE_SETS)) == partition


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"format": true}', "damaged"),
        (b"\xff", "damaged"),
        (b'{"format": 1}', "another data store"),
        (b'{"format": 2, "datastore_id": "x"}', "upgrade"),
        (b'{"format": 1, "datastore_id": "00000000000000000000000000000000"}', "another catalog"),
        (
            b'{"format": 1, "catalog_id": "%s", "datastore_id": "%s", "coverage": [["a", "b"]]}'
            % (CATALOG.encode(), ID.encode()),
            "damaged",
        ),
    ],
)
def test_what_is_no_checkpoint_says_what_to_do(body: bytes, says: str) -> None:
    """Damaged, foreign and later checkpoints are told apart."""
    with pytest.raises(StateError, match=says):
        checkpoints.decode(body, ID, CATALOG)


def test_a_catalog_keeps_what_it_was_created_with() -> None:
    """The partition unit is fixed, a later format is refused, and opening twice is opening once."""
    store = MemoryStore()
    assert open_or_create(store, None).description.unit is Unit.DAY
    assert open_or_create(store, Unit.DAY).description.unit is Unit.DAY
    with pytest.raises(UsageError, match="partitioned by day"):
        open_or_create(store, Unit.MONTH)
    with pytest.raises(StateError, match="upgrade"):
        descriptions.decode(b'{"format": 1, "partition": "day", "phi": "hide"}')
    with pytest.raises(StateError, match="upgrade"):
        descriptions.decode(b'{"format": 1, "partition": ["day"], "phi": "keep"}')


def test_checkpoint_updates_of_many_threads_unite() -> None:
    """Compare-and-swap loses no window, whoever wins."""
    catalog = open_or_create(MemoryStore(), None)
    fresh = Checkpoint(datastore_id=ID, catalog_id=CATALOG, coverage=Coverage(), followed_to=DAY)
    pieces = Window(DAY, DAY + timedelta(days=1)).split(24)

    def cover(piece: Window) -> None:
        catalog.update_checkpoint(ID, lambda found: (found or fresh).with_coverage([piece]))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(cover, pieces))
    checkpoint = catalog.checkpoint(ID)
    assert checkpoint is not None
    assert checkpoint.coverage == Coverage([Window(DAY, DAY + timedelta(days=1))])


class Refusing(MemoryStore):
    """A store on which others always win."""

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        raise ConflictError(f"others won {key} against {len(body)} bytes, {expected} expected")


def test_a_publish_that_never_wins_ends() -> None:
    """After sixty conflicts in a row the run is told, instead of trying for ever."""
    with pytest.raises(ConflictError):
        publish(Refusing(), batch(rows("a")), nobody)


def test_a_catalog_knows_its_data_stores_and_runs() -> None:
    """Data stores are those with a checkpoint; runs come newest first."""
    catalog = open_or_create(MemoryStore(), None)
    assert catalog.datastore_ids() == []
    catalog.update_checkpoint(
        ID, lambda _: Checkpoint(datastore_id=ID, catalog_id=CATALOG, coverage=Coverage(), followed_to=DAY)
    )
    for number in range(3):
        key = layout.run_key(ID, DAY + timedelta(hours=number), "abcdef01")
        catalog.write_run(key, RUN | {"new": number})
    catalog.write_run(layout.run_key("1" * 32, DAY, "abcdef01"), {"format": 1})
    assert catalog.datastore_ids() == [ID]
    reports = [catalog.run(key) for key in catalog.run_keys(ID)]
    assert [report and report["new"] for report in reports] == [2, 1, 0]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"format": 2}', json.dumps(RUN | {"new": "many"}).encode()])
def test_a_damaged_run_report_is_named(body: bytes) -> None:
    """Whatever it is that cannot be shown, the error says which file it is."""
    catalog = open_or_create(MemoryStore(), None)
    key = layout.run_key(ID, DAY, "abcdef01")
    catalog.store.put(key, body, expected=None)
    with pytest.raises(StateError, match="20240229T000000Z-abcdef01"):
        catalog.run(key)


def test_runs_that_create_a_catalog_at_once_share_it() -> None:
    """Whoever comes second finds the catalog that the first has made, and its partition unit holds."""

    class Late(MemoryStore):
        def put(self, key: str, body: bytes, *, expected: str | None) -> str:
            if key == layout.DESCRIPTION_KEY:
                super().put(key, descriptions.encode(descriptions.Description(unit=Unit.MONTH)), expected=None)
            return super().put(key, body, expected=expected)

    assert open_or_create(Late(), None).description.unit is Unit.MONTH
    with pytest.raises(UsageError, match="partitioned by month"):
        open_or_create(Late(), Unit.DAY)


texts = st.none() | st.text(max_size=6) | st.sampled_from(["", "\0", "山田^太郎", "a\nb", "'", "x" * 200])
odd_rows = st.fixed_dictionaries(
    {"image_set_id": st.text("0123456789abcdef", min_size=1, max_size=8), "created_at": moments},
    optional={
        "version": st.none() | st.integers(-(2**31), 2**31 - 1),
        "updated_at": st.none() | moments,
        "is_primary": st.none() | st.booleans(),
        "patient_name": texts,
        "accession_number": texts,
        "patient_birth_date": st.none() | st.dates(),
        "study_datetime": st.none() | st.datetimes(),
        "extra": texts,
    },
)


@settings(max_examples=25, deadline=None)
@given(st.lists(odd_rows, max_size=8))
def test_every_reader_reads_every_value(several: list[dict[str, Any]]) -> None:
    """What is written comes back from our reader, from pyarrow and from DuckDB, to the last odd byte."""
    table = pa.Table.from_pylist(several, IMAGE_SETS.schema)
    body = parquet.encode(IMAGE_SETS, table)
    assert parquet.encode(IMAGE_SETS, pa.concat_tables([table.slice(0, 1), table.slice(1)])) == body
    assert parquet.decode(IMAGE_SETS, body).to_pylist() == table.to_pylist()
    assert pq.read_table(io.BytesIO(body)).to_pylist() == table.to_pylist()
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as database:
        file.write(body)
        file.flush()
        found = database.read_parquet(file.name).to_arrow_table()
    assert found.cast(IMAGE_SETS.schema).to_pylist() == table.to_pylist()


def test_one_listing_tells_partitions_from_foreign_files() -> None:
    """What is a data object, what readers would take for one, and what they pass over, from one request."""

    class Counting(MemoryStore):
        listed = 0

        def entries(self, prefix: str) -> Iterator[Entry]:
            self.listed += 1
            return super().entries(prefix)

    store = Counting()
    catalog = open_or_create(store, None)
    folder = KEY.rpartition("/")[0]
    foreign = [
        f"{folder}/copy.parquet",
        f"{layout.table_prefix(IMAGE_SETS, ID)}created_month=2024-02/image-sets.parquet",
    ]
    for key in (KEY, *foreign, f"{folder}/_SUCCESS"):
        store.put(key, b"", expected=None)
    before = store.listed
    objects = catalog.objects(ID)
    assert (list(objects.partitions), objects.unexpected, store.listed - before) == ([PARTITION], sorted(foreign), 1)
