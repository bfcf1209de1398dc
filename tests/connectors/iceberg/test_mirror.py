"""An Iceberg table equals its catalog after a mirror, whatever ran before; read back row by row."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import AddSnapshotUpdate

from ahi_catalog.connectors.catalog import Partition, Unit
from ahi_catalog.connectors.catalog.dataset import open_dataset
from ahi_catalog.connectors.errors import DamagedError, StateError, StoreError, UsageError
from ahi_catalog.connectors.iceberg.files import Stores, opening
from ahi_catalog.connectors.iceberg.history import expire
from ahi_catalog.connectors.iceberg.mirror import Mirrored, Target, mirror
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage import Entry, MemoryStore, open_store
from ahi_catalog.connectors.storage.s3 import S3Store
from ahi_catalog.schemas import IMAGE_SETS, Column
from tests.connectors.iceberg.conftest import CrashError, Ends
from tests.connectors.iceberg.tables import (
    DAY,
    ID,
    NOW,
    OTHER,
    WHERE,
    assert_equal,
    make_catalog,
    make_run,
    put,
    rows_of,
    run_mirror,
    target_of,
    write_as_others,
)


def test_a_table_follows_its_catalog_one_snapshot_a_run(ends: Ends) -> None:
    """What is new, changed and removed shows at one moment; where nothing changed nothing is committed."""
    catalog, target = ends.catalog, ends.target
    put(catalog, 0, ["a", "b"])
    put(catalog, 1, ["c"])
    put(catalog, 0, ["d"], datastore_id=OTHER)
    first = run_mirror(catalog, target)
    assert (first.added, first.replaced, first.removed) == (3, 0, 0)
    assert_equal(catalog, ends.read())
    assert run_mirror(catalog, target) == Mirrored()
    put(catalog, 0, ["a"])
    put(catalog, 1, ["c"], version=2)
    put(catalog, 2, ["e"])
    second = run_mirror(catalog, target, summary={"ahi-catalog.watermark": "2024-03-01T00:00:00Z"})
    assert (second.added, second.replaced, second.removed) == (1, 2, 0)
    found = ends.read()
    assert_equal(catalog, found)
    snapshots = found.metadata.snapshots
    assert [each.snapshot_id for each in snapshots] == [first.snapshot_id, second.snapshot_id]
    assert snapshots[1].summary is not None
    assert snapshots[1].summary["ahi-catalog.watermark"] == "2024-03-01T00:00:00Z"
    assert snapshots[1].summary.operation is Operation.OVERWRITE
    before = found.scan(snapshot_id=first.snapshot_id).to_arrow()
    assert sorted(before["image_set_id"].to_pylist()) == ["a", "b", "c", "d"]


def test_polars_reads_what_pyiceberg_reads(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another reader finds the columns by their names, and the data store in the table's metadata."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    put(ends.catalog, 0, ["a", "b"])
    put(ends.catalog, 40, ["c"], datastore_id=OTHER)
    run_mirror(ends.catalog, ends.target)
    found = ends.read()
    scan = pl.scan_iceberg(found, reader_override="native", storage_options=ends.storage_options)
    read = scan.collect().to_arrow().cast(found.scan().to_arrow().schema)
    assert rows_of(read) == rows_of(open_dataset(ends.catalog).to_table())
    assert scan.filter(pl.col("datastore_id") == OTHER).collect()["image_set_id"].to_list() == ["c"]


def test_the_form_is_what_readers_need(sqlite: Ends) -> None:
    """Format version 2, partitions by data store and day, an order, comments, an identifier."""
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    found = sqlite.read()
    assert found.format_version == 2
    assert [str(field.transform) for field in found.spec().fields] == ["identity", "day"]
    assert found.schema().identifier_field_names() == {"image_set_id"}
    assert {field.name: field.doc for field in found.schema().fields} == {
        **{column.name: column.doc for column in IMAGE_SETS.columns},
        "datastore_id": "The data store, 32 of [0-9a-z].",
    }
    assert [found.schema().find_column_name(field.source_id) for field in found.sort_order().fields] == list(
        IMAGE_SETS.order
    )
    [task] = found.scan().plan_files()
    assert (task.file.partition[0], task.file.partition[1], task.file.sort_order_id) == (
        ID,
        (DAY - DAY.replace(1970, 1, 1)).days,
        1,
    )
    scan = found.scan(row_filter=f"datastore_id = '{OTHER}'")
    assert not list(scan.plan_files())


def test_months_are_partitions_too(sqlite: Ends) -> None:
    """A catalog by month has a table by month; one by day is not mixed with it."""
    catalog = make_catalog(MemoryStore(), Unit.MONTH)
    put(catalog, 0, ["a", "b"])
    put(catalog, 400, ["c"])
    run_mirror(catalog, sqlite.target)
    found = sqlite.read()
    assert_equal(catalog, found)
    assert sorted(task.file.partition[1] for task in found.scan().plan_files()) == [649, 663]
    with pytest.raises(StateError, match="not partitioned by datastore_id and created_date"):
        run_mirror(sqlite.catalog, sqlite.target)


def test_a_partition_without_rows_is_no_trouble(sqlite: Ends) -> None:
    """The last row of a partition is removed, and comes back."""
    put(sqlite.catalog, 0, ["a"])
    for names in (["a"], [], ["a"]):
        put(sqlite.catalog, 0, names)
        run_mirror(sqlite.catalog, sqlite.target)
        assert_equal(sqlite.catalog, sqlite.read())
    assert run_mirror(sqlite.catalog, sqlite.target) == Mirrored()


def test_a_catalog_made_anew_takes_the_place_of_the_old_one(sqlite: Ends) -> None:
    """Partitions that it does not have are removed."""
    put(sqlite.catalog, 0, ["a"])
    put(sqlite.catalog, 1, ["b"])
    run_mirror(sqlite.catalog, sqlite.target)
    anew = make_catalog(MemoryStore())
    put(anew, 1, ["c"])
    done = run_mirror(anew, sqlite.target)
    assert (done.added, done.replaced, done.removed) == (0, 1, 1)
    assert_equal(anew, sqlite.read())


def test_a_dry_run_tells_and_does_nothing(sqlite: Ends) -> None:
    """Neither a table nor a commit is made."""
    put(sqlite.catalog, 0, ["a"])
    assert run_mirror(sqlite.catalog, sqlite.target, is_dry=True) == Mirrored(added=1)
    assert not sqlite.target.table_exists(WHERE)
    run_mirror(sqlite.catalog, sqlite.target)
    put(sqlite.catalog, 0, ["b"])
    assert run_mirror(sqlite.catalog, sqlite.target, is_dry=True) == Mirrored(replaced=1)
    assert len(sqlite.read().metadata.snapshots) == 1


@pytest.mark.parametrize("what", ["append", "rewrite", "compact"])
def test_what_others_wrote_is_told_and_gives_way_when_asked(ends: Ends, what: str) -> None:
    """An append, a rewritten file or a compaction by another engine is told, and put right where that is asked for."""
    put(ends.catalog, 0, ["a", "b"])
    put(ends.catalog, 1, ["c"])
    run_mirror(ends.catalog, ends.target)
    write_as_others(ends.read(), replacing={"append": 0, "rewrite": 1, "compact": 2}[what])
    with pytest.raises(StateError, match="holds 1 data files that are no copies"):
        run_mirror(ends.catalog, ends.target)
    assert run_mirror(ends.catalog, ends.target, is_overwriting=True).foreign == 1
    assert_equal(ends.catalog, ends.read())
    assert run_mirror(ends.catalog, ends.target) == Mirrored()


def test_mirrors_that_meet_lose_and_double_nothing(ends: Ends) -> None:
    """Several mirrors at once, while the catalog changes: the last one to end leaves the table equal to the catalog."""
    for day in range(4):
        put(ends.catalog, day, ["a"])

    def work(number: int) -> None:
        # PyIceberg's catalogs are one for each process, or thread.
        with opening(Stores(S3Access())):
            target = load_catalog("mirror", **ends.target.properties)
            for turn in range(3):
                put(ends.catalog, number + turn, [f"x{number}{turn}", "a"], version=turn + 2)
                run_mirror(ends.catalog, target)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    assert_equal(ends.catalog, ends.read())
    assert run_mirror(ends.catalog, ends.target) == Mirrored()
    paths = [task.file.file_path for task in ends.read().scan().plan_files()]
    assert len(paths) == len(set(paths)) == 5


class Meddler(MemoryStore):
    """A store that something happens to when its table has been listed, before the lister goes on."""

    meddle: Callable[[], object] | None = None

    def entries(self, prefix: str) -> Iterator[Entry]:
        listed = list(super().entries(prefix))
        if prefix == IMAGE_SETS.folder and self.meddle:
            meddle, self.meddle = self.meddle, None
            meddle()
        return iter(listed)


def test_an_object_replaced_under_way_is_copied_as_it_became(sqlite: Ends) -> None:
    """Between listing and copying another run publishes: the mirror lists again."""
    store = Meddler()
    catalog = make_catalog(store)
    put(catalog, 0, ["a"])
    store.meddle = lambda: put(catalog, 0, ["a", "b"])
    run_mirror(catalog, sqlite.target)
    assert_equal(catalog, sqlite.read())


@pytest.mark.parametrize("is_behind", [True, False])
def test_a_mirror_that_another_overtakes_takes_nothing_back(sqlite: Ends, *, is_behind: bool) -> None:
    """A partition that is published and mirrored after this one has listed the catalog stays."""
    store = Meddler()
    catalog = make_catalog(store)
    put(catalog, 0, ["a"])
    run_mirror(catalog, sqlite.target)
    if is_behind:
        put(catalog, 0, ["a", "b"])

    def overtake() -> None:
        put(catalog, 1, ["c"])
        assert run_mirror(catalog, sqlite.target).added == 1

    store.meddle = overtake
    run_mirror(catalog, sqlite.target)
    assert_equal(catalog, sqlite.read())


def test_a_mirror_reads_on_where_an_expiry_took_the_snapshot_that_it_had_loaded(sqlite: Ends) -> None:
    """The snapshot was the newest when the table was loaded; meanwhile another took its place, and it expired."""
    store = Meddler()
    catalog = make_catalog(store)
    put(catalog, 0, ["a"])
    run_mirror(catalog, sqlite.target)

    def overtake() -> None:
        put(catalog, 0, ["b"])
        run_mirror(catalog, sqlite.target)
        found = target_of(sqlite.target).open()
        assert found is not None
        assert expire(found, NOW.replace(year=2200), NOW).snapshots == 1
        # As in another process, which has not read them.
        sqlite.target.load_table(WHERE).io.stores._manifests.clear()  # type: ignore[attr-defined]  # ours

    store.meddle = overtake
    assert run_mirror(catalog, sqlite.target) == Mirrored()
    assert_equal(catalog, sqlite.read())


def test_tables_on_a_share_that_syncs_nothing_are_written(
    sqlite: Ends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As for the catalog's own files: one line says what a power cut may take."""

    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    catalog = make_catalog(MemoryStore())
    put(catalog, 0, ["a"])
    assert run_mirror(catalog, sqlite.target).added == 1
    assert_equal(catalog, sqlite.read())
    [said] = [record.getMessage() for record in caplog.records if "power cut" in record.getMessage()]
    assert said.startswith("the Iceberg tables: ")


def test_a_table_that_is_dropped_meanwhile_is_made_anew(sqlite: Ends) -> None:
    """The mirror compares again, with no table."""
    store = Meddler()
    catalog = make_catalog(store)
    put(catalog, 0, ["a"])
    run_mirror(catalog, sqlite.target)
    put(catalog, 1, ["b"])
    store.meddle = lambda: sqlite.target.purge_table(WHERE)
    assert run_mirror(catalog, sqlite.target).added == 2
    assert_equal(catalog, sqlite.read())


def test_a_table_that_is_dropped_before_the_commit_gets_copies_of_its_own(
    sqlite: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the table before went with its files."""
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    put(sqlite.catalog, 1, ["b"])
    commit = sqlite.target.commit_table

    def drop(*arguments: Any) -> Any:
        monkeypatch.setattr(sqlite.target, "commit_table", commit)
        sqlite.target.drop_table(WHERE)
        shutil.rmtree(tmp_path / "tables")
        return commit(*arguments)

    monkeypatch.setattr(sqlite.target, "commit_table", drop)
    run_mirror(sqlite.catalog, sqlite.target)
    assert_equal(sqlite.catalog, sqlite.read())


def test_a_run_that_slept_commits_nothing(sqlite: Ends) -> None:
    """An expiry may have taken its copies for what a crash left behind."""
    put(sqlite.catalog, 0, ["a"])
    with pytest.raises(StoreError, match="run it again"):
        run_mirror(sqlite.catalog, sqlite.target, clock=lambda: NOW + timedelta(hours=13))
    assert sqlite.read().current_snapshot() is None
    run_mirror(sqlite.catalog, sqlite.target, clock=lambda: NOW + timedelta(hours=11))
    assert_equal(sqlite.catalog, sqlite.read())


@pytest.mark.parametrize("warehouse", ["", "/imaging/image_sets"])
def test_a_table_does_not_lie_in_the_catalogs_own_folder(sqlite: Ends, tmp_path: Path, warehouse: str) -> None:
    """Readers of the catalog would read its files, and an expiry might delete the catalog's."""
    source = tmp_path / "imaging"
    catalog = make_catalog(open_store(str(source)))
    put(catalog, 0, ["a"])
    before = sorted(path for path in source.rglob("*.*") if "_state" not in path.parts)
    place = {"warehouse": f"file://{tmp_path}{warehouse}", "uri": f"sqlite:///{tmp_path}/own.db"}
    target = load_catalog("own", **sqlite.target.properties | place)
    with pytest.raises(UsageError, match="in the catalog's own folder"):
        run_mirror(catalog, target)
    assert not target.table_exists(WHERE)
    assert before == sorted(path for path in source.rglob("*.*") if "_state" not in path.parts)


def test_a_table_is_a_copy_of_one_catalog(sqlite: Ends) -> None:
    """Another catalog is refused until asked; one that was moved, or made anew in its place, is not."""

    def told(place: str, catalog_id: str) -> dict[str, str]:
        return {"ahi-catalog.catalog": place, "ahi-catalog.catalog-id": catalog_id}

    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target, summary=told("s3://one", "1"))
    other = make_catalog(MemoryStore())
    for day, (place, catalog_id) in enumerate([("s3://two", "1"), ("s3://two", "2")]):
        put(other, day, ["b"])
        run_mirror(other, sqlite.target, summary=told(place, catalog_id))
    with pytest.raises(StateError, match="is a copy of another catalog, s3://two"):
        run_mirror(sqlite.catalog, sqlite.target, summary=told("s3://one", "1"))
    assert_equal(other, sqlite.read())
    run_mirror(sqlite.catalog, sqlite.target, summary=told("s3://one", "1"), is_overwriting=True)
    assert_equal(sqlite.catalog, sqlite.read())


def test_a_folder_is_mirrored_to_s3_and_s3_to_a_folder(sqlite: Ends, rest: Ends, tmp_path: Path) -> None:
    """The bytes go through this machine."""
    local = make_catalog(open_store(str(tmp_path / "catalog")))
    for catalog, ends in ((local, rest), (rest.catalog, sqlite)):
        for names in (["a", "b"], ["a"]):
            put(catalog, 0, names)
            run_mirror(catalog, ends.target)
            assert_equal(catalog, ends.read())
        assert run_mirror(catalog, ends.target) == Mirrored()


def test_two_that_add_the_first_file_of_a_partition_do_not_double_it(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One commits just before the other, which compares again; whatever isolation someone gave the table."""
    put(ends.catalog, 0, ["a"])
    run_mirror(ends.catalog, ends.target)
    with ends.read().transaction() as change:
        change.set_properties({"write.delete.isolation-level": "snapshot"})
    put(ends.catalog, 1, ["b"])
    commit = ends.target.commit_table
    others: list[Mirrored] = []

    def overtake(*arguments: Any) -> Any:
        if not others and any(isinstance(update, AddSnapshotUpdate) for update in arguments[2]):
            others.append(Mirrored())
            others.append(run_mirror(ends.catalog, ends.target))
        return commit(*arguments)

    monkeypatch.setattr(ends.target, "commit_table", overtake)
    assert run_mirror(ends.catalog, ends.target) == Mirrored()
    assert others[1].added == 1
    assert_equal(ends.catalog, ends.read())


@pytest.mark.parametrize("seed", range(12))
def test_a_mirror_killed_anywhere_leaves_the_table_whole(
    sqlite: Ends, crash: Callable[[int | None], list[str]], seed: int
) -> None:
    """Readers see all of the old rows or all of the new ones; the next mirror makes them equal the catalog."""
    chance = random.Random(seed)
    for day in range(4):
        put(sqlite.catalog, day, ["a", "b"])
    crash(None)
    if chance.random() < 0.7:
        run_mirror(sqlite.catalog, sqlite.target)
    before = rows_of(sqlite.read().scan().to_arrow()) if sqlite.target.table_exists(WHERE) else []
    for day in (1, 2, 5):
        put(sqlite.catalog, day, [f"new{day}", "a"])
    after = rows_of(open_dataset(sqlite.catalog).to_table())
    crash(chance.randrange(20))
    try:
        run_mirror(sqlite.catalog, sqlite.target)
    except CrashError:
        found = rows_of(sqlite.read().scan().to_arrow()) if sqlite.target.table_exists(WHERE) else []
        assert found in (before, after)
    crash(None)
    run_mirror(sqlite.catalog, sqlite.target)
    assert_equal(sqlite.catalog, sqlite.read())


def test_manifests_do_not_pile_up(sqlite: Ends) -> None:
    """After many runs a table has a few manifests, and those that hold deletions only are dropped."""
    for day in range(10):
        put(sqlite.catalog, day, ["a"])
    for turn in range(30):
        put(sqlite.catalog, turn % 10, ["a"], version=turn + 2)
        run_mirror(sqlite.catalog, sqlite.target)
        snapshot = sqlite.read().current_snapshot()
        assert snapshot is not None
        assert len(snapshot.manifests(sqlite.read().io)) <= 12
    assert_equal(sqlite.catalog, sqlite.read())
    assert len(list(sqlite.read().metadata.metadata_log)) <= 5


def test_a_new_column_arrives_by_its_name(sqlite: Ends) -> None:
    """A table made by an earlier version gets the column; its older files have null there."""
    earlier = replace(IMAGE_SETS, columns=tuple(c for c in IMAGE_SETS.columns if c.name != "series_number"))
    target_of(sqlite.target, earlier).create(Unit.DAY)
    assert "series_number" not in sqlite.read().schema().column_names
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    found = sqlite.read()
    assert "series_number" in found.schema().column_names
    assert '"series_number"' in found.properties["schema.name-mapping.default"]
    assert_equal(sqlite.catalog, found)


def test_a_renamed_column_is_refused(sqlite: Ends) -> None:
    """A column of the table that the declaration lacks is told by its name, and nothing is changed."""
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    renamed = tuple(replace(c, name="number") if c.name == "series_number" else c for c in IMAGE_SETS.columns)
    with pytest.raises(StateError, match="series_number; a column of ours is never renamed"):
        run_mirror(sqlite.catalog, sqlite.target, replace(IMAGE_SETS, columns=renamed))


def test_a_narrow_column_is_widened_and_another_type_refused(sqlite: Ends) -> None:
    """An int becomes a long, as Iceberg allows; a text does not become a number."""

    def typed(kind: pa.DataType) -> tuple[Column, ...]:
        return tuple(replace(c, type=kind) if c.name == "series_number" else c for c in IMAGE_SETS.columns)

    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    run_mirror(sqlite.catalog, sqlite.target, replace(IMAGE_SETS, columns=typed(pa.int64())))
    assert sqlite.read().scan().to_arrow()["series_number"].to_pylist() == [0]
    with pytest.raises(StateError, match="other types than image_sets in series_number"):
        run_mirror(sqlite.catalog, sqlite.target, replace(IMAGE_SETS, columns=typed(pa.string())))


def test_glue_has_the_table_beside_one_of_athenas(
    sqlite: Ends, tmp_path: Path, glue_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror into Glue equals the catalog; where a table that is not Iceberg's has the name, it is refused."""
    del glue_endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with opening(Stores(S3Access())):
        ours = {"py-io-impl": sqlite.target.properties["py-io-impl"]}
        target = load_catalog("glue", type="glue", warehouse=f"file://{tmp_path}/glue", **ours)
        put(sqlite.catalog, 0, ["a"])
        run_mirror(sqlite.catalog, target)
        put(sqlite.catalog, 0, ["a", "b"])
        assert run_mirror(sqlite.catalog, target).replaced == 1
        assert_equal(sqlite.catalog, target.load_table(WHERE))
        client = boto3.Session().client("glue")
        client.delete_table(DatabaseName=WHERE[0], Name=WHERE[1])
        client.create_table(DatabaseName=WHERE[0], TableInput={"Name": WHERE[1], "Parameters": {"EXTERNAL": "TRUE"}})
        with pytest.raises(UsageError, match="another kind of table has that name"):
            run_mirror(sqlite.catalog, target)
        nested = Target(catalog=target, identifier=("a", "b", "image_sets"), table=IMAGE_SETS)
        with pytest.raises(UsageError, match="has no such namespaces"):
            mirror(sqlite.catalog, nested, make_run())


def test_lent_credentials_are_used_for_the_tables_files(rest: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a catalog lends them, the bytes go through this machine, since they open the table's bucket alone."""
    put(rest.catalog, 0, ["a"])
    with opening(Stores(S3Access())):
        target = load_catalog("mirror", **rest.properties, **{"py-io-impl": rest.target.properties["py-io-impl"]})
        monkeypatch.setattr(S3Store, "copy", None)
        run_mirror(rest.catalog, target)
    assert_equal(rest.catalog, rest.read())


def test_a_damaged_object_is_named_and_nothing_committed(sqlite: Ends) -> None:
    """What helps is a repair of the catalog; the table stays as it was."""
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    put(sqlite.catalog, 1, ["b"])
    key = Partition(ID, Unit.DAY, DAY).key(IMAGE_SETS)
    stored = sqlite.catalog.store.get(key)
    assert stored is not None
    sqlite.catalog.store.put(key, b"nothing of Parquet", expected=stored.etag)
    with pytest.raises(DamagedError, match=f"{key}: it is no Parquet object"):
        run_mirror(sqlite.catalog, sqlite.target)
    assert len(sqlite.read().metadata.snapshots) == 1


@pytest.mark.parametrize("is_landed", [True, False])
def test_a_commit_whose_answer_is_lost_is_looked_at_again(
    sqlite: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_landed: bool
) -> None:
    """Landed or not, and whatever was published meanwhile, the table equals the catalog and each file is there."""
    put(sqlite.catalog, 0, ["a"])
    put(sqlite.catalog, 1, ["b"])
    run_mirror(sqlite.catalog, sqlite.target)
    put(sqlite.catalog, 0, ["a", "c"])
    commit = sqlite.target.commit_table
    asked: list[None] = []

    def lose(*arguments: Any) -> Any:
        asked.append(None)
        if len(asked) > 1:
            return commit(*arguments)
        if is_landed:
            commit(*arguments)
        put(sqlite.catalog, 2, ["d"])
        raise CommitStateUnknownException("no answer")

    monkeypatch.setattr(sqlite.target, "commit_table", lose)
    run_mirror(sqlite.catalog, sqlite.target)
    found = sqlite.read()
    assert_equal(sqlite.catalog, found)
    for snapshot in found.metadata.snapshots:
        assert found.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows >= 2
    assert len(list((tmp_path / "tables").rglob("*.parquet"))) == 4
