"""Reading a catalog on S3: through the store's own client, one version of each object, and errors of ours."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ahi_catalog.connectors.catalog import (
    Catalog,
    Partition,
    Unit,
    open_catalog,
    open_or_create,
    open_store,
    parquet,
    remote,
)
from ahi_catalog.connectors.catalog.dataset import count_rows, open_dataset
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.errors import ConflictError, DamagedError, StoreError
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage import MemoryStore, Store
from ahi_catalog.connectors.storage.base import Part, Stored
from ahi_catalog.schemas import IMAGE_SETS
from tests.support.s3_stub import OWNER, running_s3_stub

PARTITIONS = [Partition("0" * 32, Unit.DAY, date(2024, 2, day)) for day in (1, 2, 3)]
COUNT = "select count(*) as n, count(distinct patient_id) as patients from image_sets"


def rows(partition: Partition, count: int, version: int = 1) -> pa.Table:
    """Image sets of one moment, each of a patient of its own."""
    records = [
        {"image_set_id": f"{n:032d}", "version": version, "created_at": partition.window.start, "patient_id": f"P{n}"}
        for n in range(count)
    ]
    return pa.Table.from_pylist(records, IMAGE_SETS.schema)


def write(store: Store, partition: Partition, count: int, version: int = 1) -> None:
    """Replace a partition's object, as a run does."""
    found = store.get(partition.key(IMAGE_SETS))
    body = parquet.encode(IMAGE_SETS, rows(partition, count, version))
    store.put(partition.key(IMAGE_SETS), body, expected=found.etag if found else None)


def filled(store: Store) -> Catalog:
    """A catalog of three small days."""
    catalog = open_or_create(store, None)
    for partition in PARTITIONS:
        write(store, partition, 10)
    return catalog


class Meddled(MemoryStore):
    """A store on which something happens before a part is read."""

    meddle: Callable[[str, int], None] = staticmethod(lambda _key, _start: None)

    def get_part(self, key: str, start: int, length: int) -> Part | None:
        self.meddle(key, start)
        return super().get_part(key, start, length)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have even small objects read in several requests."""
    monkeypatch.setattr(remote, "_TAIL_BYTES", 64)
    monkeypatch.setattr(remote, "_HOLE_BYTES", 0)


FILTERS = [
    None,
    pc.field("patient_id") == "P7",
    (pc.field("created_date") == date(2024, 2, 1)) & (pc.field("version") > 1),
    pc.is_null(pc.field("patient_name")) | (pc.field("datastore_id") == "x"),
    pc.field(0) == f"{3:032d}",
    pc.field("created_date") == date(2024, 3, 1),
]
COLUMNS: list[Any] = [
    None,
    [],
    ["patient_id"],
    ["version", "created_date", "datastore_id"],
    {"next": pc.add(pc.field("version"), 1), "patient_id": pc.field("patient_id")},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of three days, one of which has several row groups."""
    folder: Path = tmp_path_factory.mktemp("catalog")
    store = open_store(str(folder))
    open_or_create(store, None)
    for number, partition in enumerate(PARTITIONS):
        write(store, partition, 10 if number else 60_000, version=number + 1)
    return folder


@pytest.mark.parametrize("tail", [64, 20_000, 512 << 10])
@pytest.mark.parametrize("columns", COLUMNS, ids=str)
def test_a_remote_dataset_is_a_local_one(
    folder: Path, columns: Any, tail: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked for, and in whichever parts objects are read, pyarrow's own dataset answers the same."""
    monkeypatch.setattr(remote, "_TAIL_BYTES", tail)
    near = open_store(str(folder))
    far = MemoryStore()
    for prefix in ("image_sets/", "_state/"):
        for entry in near.entries(prefix):
            far.put(entry.key, (near.get(entry.key) or Stored(b"", "")).body, expected=None)
    local, away = (open_dataset(open_catalog(store)) for store in (near, far))
    assert isinstance(away, remote.RemoteDataset)
    assert away.schema == local.schema
    for rows in FILTERS:
        expected = local.to_table(columns=columns, filter=rows)
        assert away.to_table(columns=columns, filter=rows) == expected
        assert away.scanner(columns=columns, filter=rows).to_reader().read_all() == expected
        assert away.count_rows(filter=rows) == len(expected)
        if columns != []:  # a slice of a table without columns has any number of rows
            assert len(away.head(7, columns=columns, filter=rows)) == min(7, len(expected))
    assert away.filter(FILTERS[1]).to_table() == local.filter(FILTERS[1]).to_table()
    assert sum(fragment.count_rows() for fragment in away.get_fragments()) == local.count_rows()


def test_only_the_columns_and_row_groups_asked_for_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of one row group of a large object takes its footer and that column's bytes, not the object."""
    monkeypatch.setattr(remote, "_TAIL_BYTES", 64)
    monkeypatch.setattr(remote, "_HOLE_BYTES", 0)
    store, asked = Meddled(), []
    catalog = open_or_create(store, None)
    write(store, PARTITIONS[0], 60_000)
    store.meddle = lambda _, start: asked.append(start)
    condition = pc.field("image_set_id") == f"{59_999:032d}"
    assert open_dataset(catalog).to_table(columns=["version"], filter=condition)["version"].to_pylist() == [1]
    assert len(asked) <= 4  # the end, the footer, two columns


def test_a_small_object_is_read_by_one_request() -> None:
    """Footer and columns of an object of some thousand rows come in one answer."""
    store, asked = Meddled(), []
    catalog = filled(store)
    store.meddle = lambda key, _: asked.append(key)
    assert run_query(catalog, COUNT).to_pylist() == [{"n": 30, "patients": 10}]
    assert sorted(asked) == [partition.key(IMAGE_SETS) for partition in PARTITIONS]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_large_objects_are_read_in_parts(kind: str, request: pytest.FixtureRequest) -> None:
    """The rows of an object that takes many requests are those that were written, in a dataset and in a query."""
    store = MemoryStore() if kind == "memory" else open_store(request.getfixturevalue("s3_url"))
    catalog = open_or_create(store, None)
    write(store, PARTITIONS[0], 50_000)
    assert open_dataset(catalog).to_table(columns=IMAGE_SETS.schema.names) == rows(PARTITIONS[0], 50_000)
    assert run_query(catalog, COUNT).to_pylist() == [{"n": 50_000, "patients": 50_000}]
    assert count_rows(catalog, [PARTITIONS[0].key(IMAGE_SETS)]) == (50_000, [])


@pytest.mark.usefixtures("small_parts")
def test_a_query_reads_one_version_of_an_object() -> None:
    """Of an object that is replaced between two requests no bytes are mixed: the query is asked again."""
    store = Meddled()
    catalog = filled(store)

    def replace(key: str, start: int) -> None:
        if start >= 0:
            store.meddle = Meddled.meddle
            write(store, next(found for found in PARTITIONS if found.key(IMAGE_SETS) == key), 20, version=2)

    store.meddle = replace
    assert run_query(catalog, COUNT).to_pylist() == [{"n": 40, "patients": 20}]


@pytest.mark.usefixtures("small_parts")
def test_an_object_that_is_replaced_all_the_time_is_one_line() -> None:
    """A query gives up after a few times, and a dataset, which is not ours to read again, at once."""
    store = Meddled()
    catalog = filled(store)
    versions = iter(range(2, 1_000))

    def replace(key: str, start: int) -> None:
        if start >= 0:
            write(
                store, next(found for found in PARTITIONS if found.key(IMAGE_SETS) == key), 10, version=next(versions)
            )

    store.meddle = replace
    reads: list[Callable[[], object]] = [lambda: run_query(catalog, COUNT), lambda: open_dataset(catalog).to_table()]
    for read in reads:
        with pytest.raises(ConflictError, match="was written by another run while it was read; read again") as told:
            read()
        assert "\n" not in str(told.value)


def test_an_error_of_the_store_stays_one() -> None:
    """A query, a count and a dataset tell what the store says, not what Arrow or DuckDB makes of it."""
    store = Meddled()
    catalog = filled(store)

    def refuse(_key: str, _start: int) -> None:
        raise StoreError("memory: access denied")

    store.meddle = refuse
    for read in (
        lambda: run_query(catalog, COUNT),
        lambda: open_dataset(catalog).to_table(),
        lambda: count_rows(catalog, [PARTITIONS[0].key(IMAGE_SETS)]),
    ):
        with pytest.raises(StoreError, match=r"^memory: access denied$"):
            read()


@pytest.mark.parametrize("body", [b"", b"PAR1", b"garbage" * 100])
@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_damaged_object_is_named(kind: str, body: bytes, request: pytest.FixtureRequest) -> None:
    """An object without bytes, or of other bytes, is damage and no failure of the store."""
    store = MemoryStore() if kind == "memory" else open_store(request.getfixturevalue("s3_url"))
    catalog = filled(store)
    found = store.get(PARTITIONS[1].key(IMAGE_SETS))
    assert found is not None
    store.put(PARTITIONS[1].key(IMAGE_SETS), body, expected=found.etag)
    with pytest.raises(DamagedError, match=PARTITIONS[1].key(IMAGE_SETS)):
        run_query(catalog, COUNT)
    assert count_rows(catalog, [found.key(IMAGE_SETS) for found in PARTITIONS]) == (20, [PARTITIONS[1].key(IMAGE_SETS)])


def test_reading_names_the_bucket_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account that must own the bucket is named where data objects are read as well."""
    with running_s3_stub() as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.endpoint)
        catalog = filled(open_store("s3://catalogs/x", S3Access(bucket_owner=OWNER)))
        stub.requests.clear()
        assert run_query(catalog, COUNT).to_pylist() == [{"n": 30, "patients": 10}]
        ranged = [headers for _, path, headers in stub.requests if "parquet" in path]
        assert {headers["x-amz-expected-bucket-owner"] for headers in ranged} == {OWNER}


def test_a_dataset_may_be_sent_to_another_process(s3_url: str) -> None:
    """It takes no credentials along: what opens it there finds its own."""
    catalog = filled(open_store(s3_url))
    sent = pickle.dumps(open_dataset(catalog))
    assert b"secret" not in sent
    received: Any = pickle.loads(sent)  # noqa: S301  # our own bytes
    assert received.count_rows() == 30


_READ_A_LITTLE = """
import sys
from ahi_catalog import Catalog
catalog = Catalog(sys.argv[1])
assert len(catalog.query("select patient_id from image_sets limit 1").arrow()) == 1
batches = catalog.dataset().to_batches(columns=["patient_id"])
assert len(next(batches)) == 10
"""


def test_a_process_may_end_while_a_catalog_is_read(s3_url: str) -> None:
    """What is being read ahead then neither holds it up nor ends it in another way."""
    catalog = filled(open_store(s3_url))
    for day in range(4, 29):
        write(catalog.store, Partition("0" * 32, Unit.DAY, date(2024, 2, day)), 10)
    command = [sys.executable, "-c", _READ_A_LITTLE, s3_url]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_catalog_opened_again_reads_the_same(s3_url: str) -> None:
    """What one process has written another reads, by rows and by SQL."""
    filled(open_store(s3_url))
    catalog = open_catalog(open_store(s3_url))
    assert open_dataset(catalog).count_rows() == 30
    assert run_query(catalog, COUNT).to_pylist() == [{"n": 30, "patients": 10}]
