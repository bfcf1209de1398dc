"""Snapshots expire with the files that only they need; a removed row is gone then, and what is needed stays."""

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.table import Table as IcebergTable

from ahi_catalog.connectors.catalog import Partition, Unit, open_store
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.iceberg.history import Expired, expire, forget
from ahi_catalog.schemas import IMAGE_SETS
from tests.connectors.iceberg.conftest import CrashError, Ends
from tests.connectors.iceberg.tables import (
    DAY,
    ID,
    NOW,
    WHERE,
    assert_equal,
    make_catalog,
    put,
    run_mirror,
    target_of,
    write_as_others,
)

LATER = NOW.replace(year=2200)
"""All snapshots are older, which are as old as the machine's clock says."""


def table_of(ends: Ends) -> IcebergTable:
    """The table as a mirror has it."""
    found = target_of(ends.target).open()
    assert found is not None
    return found


def names_on(found: IcebergTable) -> set[str]:
    """The image sets of all data files that lie there, named by a snapshot or not."""
    paths = found.io.list(f"{found.location()}/data/")  # type: ignore[attr-defined]  # ours
    bodies = [found.io.new_input(path).open().read() for path in paths]
    return {name for body in bodies for name in pq.read_table(io.BytesIO(body))["image_set_id"].to_pylist()}


def test_a_removed_row_is_gone_with_the_snapshots_that_had_it(ends: Ends) -> None:
    """Older snapshots and the files that only they need are deleted; the current rows stay; again: nothing to do."""
    put(ends.catalog, 0, ["a", "b"])
    put(ends.catalog, 1, ["c"])
    run_mirror(ends.catalog, ends.target)
    put(ends.catalog, 0, ["a"])
    run_mirror(ends.catalog, ends.target)
    found = table_of(ends)
    assert expire(found, NOW - timedelta(days=30), NOW) == Expired()
    told = expire(found, LATER, NOW, is_dry=True)
    assert "b" in names_on(found)
    done = expire(found, LATER, NOW)
    assert done == told
    # A data file and the list of manifests; the manifest too, unless it is still needed.
    assert (done.snapshots, done.orphans) == (1, 0)
    assert done.files in {2, 3}
    assert names_on(found) == {"a", "c"}
    assert_equal(ends.catalog, ends.read())
    assert expire(found, LATER, NOW) == Expired()
    put(ends.catalog, 2, ["d"])
    run_mirror(ends.catalog, ends.target)
    assert_equal(ends.catalog, ends.read())


def test_a_tag_keeps_its_snapshot(sqlite: Ends) -> None:
    """What a tag names does not expire, and its files stay."""
    put(sqlite.catalog, 0, ["a", "b"])
    first = run_mirror(sqlite.catalog, sqlite.target)
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    found = table_of(sqlite)
    assert first.snapshot_id is not None
    found.manage_snapshots().create_tag(first.snapshot_id, "audit").commit()
    assert expire(found, LATER, NOW) == Expired()
    assert sqlite.read().scan(snapshot_id=first.snapshot_id).to_arrow().num_rows == 2
    with pytest.raises(UsageError, match="a branch or tag keeps, has a row"):
        forget(found, "b", NOW)


def test_copies_of_a_run_that_ended_early_are_deleted_a_day_later(
    sqlite: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a run that may be under way are left alone."""
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    put(sqlite.catalog, 0, ["b"])

    def crash(*_: object, **__: object) -> None:
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(sqlite.target, "commit_table", crash)
        with pytest.raises(CrashError):
            run_mirror(sqlite.catalog, sqlite.target)
    found = table_of(sqlite)
    assert expire(found, NOW, NOW + timedelta(hours=23)) == Expired()
    assert expire(found, NOW, NOW + timedelta(hours=25)) == Expired(orphans=1)
    assert names_on(found) == {"a"}


def test_one_image_set_is_forgotten_at_once(sqlite: Ends, tmp_path: Path) -> None:
    """Snapshots that had it are gone whatever their age, others stay; while it is in the catalog it is refused."""
    put(sqlite.catalog, 0, ["a"])
    put(sqlite.catalog, 1, ["x"])
    first = run_mirror(sqlite.catalog, sqlite.target)
    put(sqlite.catalog, 0, ["a", "gone"])
    second = run_mirror(sqlite.catalog, sqlite.target)
    with pytest.raises(UsageError, match="has a row of that image set"):
        forget(table_of(sqlite), "gone", NOW)
    put(sqlite.catalog, 0, ["a"], version=2)
    third = run_mirror(sqlite.catalog, sqlite.target)
    assert forget(table_of(sqlite), "gone", NOW, is_dry=True).snapshots == 1
    assert forget(table_of(sqlite), "gone", NOW).snapshots == 1
    found = sqlite.read()
    assert second.snapshot_id not in {each.snapshot_id for each in found.metadata.snapshots}
    assert {each.snapshot_id for each in found.metadata.snapshots} == {first.snapshot_id, third.snapshot_id}
    assert found.scan(snapshot_id=first.snapshot_id).to_arrow()["image_set_id"].to_pylist() in (["a", "x"], ["x", "a"])
    assert not [
        path
        for path in (tmp_path / "tables").rglob("*.parquet")
        if "gone" in str(pq.read_table(path)["image_set_id"].to_pylist())
    ]
    assert_equal(sqlite.catalog, found)


def snapshots_of_a_removed_row(ends: Ends) -> IcebergTable:
    """A table whose second snapshot lacks a row that the first has."""
    put(ends.catalog, 0, ["a", "b"])
    run_mirror(ends.catalog, ends.target)
    put(ends.catalog, 0, ["a"])
    run_mirror(ends.catalog, ends.target)
    return table_of(ends)


def before_commit(ends: Ends, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen just before the next commit."""
    commit = ends.target.commit_table

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(ends.target, "commit_table", commit)
        act()
        return commit(*arguments)

    monkeypatch.setattr(ends.target, "commit_table", overtaken)


def test_expiries_that_meet_both_end(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """One finds the snapshots gone that it was about to take out; all that none needs is deleted."""
    found = snapshots_of_a_removed_row(ends)
    before_commit(ends, monkeypatch, lambda: expire(table_of(ends), LATER, NOW))
    expire(found, LATER, NOW)
    assert names_on(found) == {"a"}
    assert_equal(ends.catalog, ends.read())


def test_a_mirror_and_an_expiry_meet(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror's new snapshot keeps every file that it needs, whoever commits first."""
    found = snapshots_of_a_removed_row(ends)
    put(ends.catalog, 1, ["c"])
    before_commit(ends, monkeypatch, lambda: run_mirror(ends.catalog, ends.target))
    expire(found, LATER, NOW)
    assert_equal(ends.catalog, ends.read())
    put(ends.catalog, 0, ["d"])
    before_commit(ends, monkeypatch, lambda: expire(table_of(ends), LATER, NOW))
    run_mirror(ends.catalog, ends.target)
    assert_equal(ends.catalog, ends.read())


def test_an_expiry_whose_answer_is_lost_deletes_the_files_all_the_same(
    sqlite: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has landed: the snapshots are gone when it looks again, their files are not."""
    found = snapshots_of_a_removed_row(sqlite)
    commit = sqlite.target.commit_table

    def lose(*arguments: Any) -> Any:
        monkeypatch.setattr(sqlite.target, "commit_table", commit)
        commit(*arguments)
        raise CommitStateUnknownException("no answer")

    monkeypatch.setattr(sqlite.target, "commit_table", lose)
    assert expire(found, LATER, NOW).snapshots == 1
    assert names_on(found) == {"a"}


def test_what_lies_outside_of_the_table_is_never_deleted(sqlite: Ends, tmp_path: Path) -> None:
    """As an object of the catalog that someone added to the table as it lies."""
    source = tmp_path / "catalog"
    catalog = make_catalog(open_store(str(source)))
    put(catalog, 0, ["a"])
    run_mirror(catalog, sqlite.target)
    key = Partition(ID, Unit.DAY, DAY).key(IMAGE_SETS)
    write_as_others(sqlite.read(), replacing=1, path=f"file://{source / key}")
    run_mirror(catalog, sqlite.target, is_overwriting=True)
    assert expire(table_of(sqlite), LATER, NOW).snapshots == 2
    assert (source / key).exists()


def test_tables_in_one_place_leave_each_others_copies_alone(sqlite: Ends, tmp_path: Path) -> None:
    """Two catalogs of one warehouse have a table of the same name: copies of the one are no orphans of the other."""
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    other = load_catalog("other", **sqlite.target.properties | {"uri": f"sqlite:///{tmp_path}/other.db"})
    run_mirror(sqlite.catalog, other)
    assert other.load_table(WHERE).location() == sqlite.read().location()
    assert expire(table_of(sqlite), LATER, NOW + timedelta(days=2)) == Expired()
    assert_equal(sqlite.catalog, other.load_table(WHERE))


def test_what_a_killed_copy_left_half_written_is_deleted_too(sqlite: Ends) -> None:
    """In a folder a file is written under a name of its own first."""
    put(sqlite.catalog, 0, ["a"])
    run_mirror(sqlite.catalog, sqlite.target)
    [task] = sqlite.read().scan().plan_files()
    whole = Path(task.file.file_path.removeprefix("file://"))
    half = whole.with_name(f".{whole.name}.part")
    half.write_bytes(b"PAR1")
    assert expire(table_of(sqlite), NOW, NOW + timedelta(hours=25)) == Expired(orphans=1)
    assert whole.exists()
    assert not half.exists()
