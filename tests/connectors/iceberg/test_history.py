"""Snapshots expire with the files that only they need; a removed row is gone then, and what is needed stays."""

import io
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table as IcebergTable

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.iceberg.history import Expired, expire, forget
from tests.connectors.iceberg.conftest import CrashError, Ends
from tests.connectors.iceberg.tables import NOW, assert_equal, put, run_mirror, target_of

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
