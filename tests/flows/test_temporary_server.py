"""The temporary server: of one process, whatever the machine's Prefect, home and proxies are like."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.flows.temporary_server import start_temporary_server
from tests.support.world import World

AHI_CATALOG = str(Path(sys.executable).with_name("ahi-catalog"))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; the process's variables are afterwards what they were."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with patch.dict(os.environ):
        yield folder


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("raise SystemExit(7)", "ends as it starts (code 7)"),
        ("import time; time.sleep(60)", "does not answer within 0.2 seconds"),
    ],
)
def test_a_server_that_does_not_start_is_told_in_a_line(temporary: Path, does: str, says: str) -> None:
    """One that ends is not waited for; nothing of either is left, nor any setting."""
    with pytest.raises(AhiCatalogError) as raised:
        start_temporary_server((sys.executable, "-c", does), seconds=0.2 if "sleep" in does else 60)
    assert says in raised.value.message
    assert not list(temporary.iterdir())
    assert "PREFECT_API_URL" not in os.environ


def test_without_a_folder_for_temporary_files_there_is_no_server(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to set is said."""
    monkeypatch.setattr("tempfile.tempdir", str(temporary / "absent"))
    with pytest.raises(AhiCatalogError, match="set TMPDIR"):
        start_temporary_server()


@pytest.mark.prefect
@pytest.mark.parametrize("home", ["of a newer Prefect", "that cannot be written"])
def test_a_flow_without_a_server_runs_whatever_the_machine_is_like(world: World, tmp_path: Path, home: str) -> None:
    """A newer Prefect's database in the home, or none that could be written; proxies for everything.

    The home stays as it was, and nothing is left of the server.
    """
    world.service.clock.unfreeze()
    world.service.clock.offset *= 0
    world.fill(20)
    (tmp_path / "tmp").mkdir()
    of_user = tmp_path / "home/.prefect/prefect.db"
    of_user.parent.mkdir(parents=True)
    with sqlite3.connect(of_user) as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('of a version to come')")
    before = of_user.read_bytes()
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"} | {
        "HOME": str(tmp_path / "home") if "newer" in home else os.devnull,
        "TMPDIR": str(tmp_path / "tmp"),
        "http_proxy": "http://127.0.0.1:9",
        "PREFECT_SERVER_API_AUTH_STRING": "of:another",
    }
    command = [AHI_CATALOG, "sync", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--prefect"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    world.assert_catalog_equals_service()
    assert of_user.read_bytes() == before
    assert [path.name for path in of_user.parent.iterdir()] == ["prefect.db"]
    assert not list((tmp_path / "tmp").iterdir())
