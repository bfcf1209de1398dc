"""A machine without a time zone database, as distroless images are: no command needs one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.world import BORN, World

_DATABASE = Path("/usr/share/zoneinfo")
# The package tzdata may be missing too. pytz, which Prefect needs, is there; Arrow makes Python's times with it.
_COMMANDS = """
import contextlib, io, sys
sys.modules["tzdata"] = None
import pyarrow as pa, pyarrow.compute as pc
from ahi_catalog.cli.main import run
try:
    pc.year(pa.array([0], pa.timestamp("us", tz="UTC")))
except pa.ArrowInvalid:
    pass
else:
    sys.exit("there is a time zone database")
catalog, datastore_id, folder = sys.argv[1:]
at = ["--catalog", catalog]
of = [*at, "--datastore-id", datastore_id]
quick = ["--no-prefect", "--rate", "10000", "--burst", "10000"]
ask = "select * exclude extra, date_trunc('day', created_at) from image_sets order by 1 limit 2"
for command in (
    ["sync", *of, *quick],
    ["sync", "--catalog", f"{catalog}-2", *of[2:], *quick, "--partition", "month", "--phi", "pseudonymize"],
    ["backfill", *of, *quick, "--from", "2024-01-01", "--to", "2024-01-03"],
    ["verify", *of, *quick, "--repair"],
    ["plan", *of],
    ["status", *at],
    ["status", *at, "--json"],
    *(["query", *at, "--format", form, ask] for form in ("table", "csv", "json", "parquet")),
    ["query", *at, "from patients"],
    ["query", *at, "from studies"],
    ["report", *at, "--out", f"{folder}/page.html"],
    ["ddl", *at, "duckdb"],
    ["ddl", *at, "spark"],
):
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(command)
    out.flush()
    if code or "Error" in err.getvalue():
        sys.exit(f"{command[0]}: {err.getvalue()}")
    if "csv" in command:
        print(out.buffer.getvalue().decode())
"""


@pytest.fixture
def without_time_zones(tmp_path: Path) -> list[str]:
    """What to put before a command so that it finds an empty folder where the database lies."""
    empty = tmp_path / "empty"
    empty.mkdir()
    mount = f'mount --bind {empty} {_DATABASE} && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets no user mount anything")
    return command


def test_no_command_needs_a_time_zone_database(
    world: World, without_time_zones: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync, verify, queries in every format, the page and the rest: neither Arrow, Python nor DuckDB asks for one."""
    world.fill(30)
    monkeypatch.setenv("PYTHONTZPATH", "")
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", "0123456789abcdef" * 4)
    done = subprocess.run(
        [*without_time_zones, sys.executable, "-c", _COMMANDS, world.catalog, world.datastore_id, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    assert done.returncode == 0
    assert f"{BORN:%Y-%m-%d %H:%M:%S}.000000Z" in done.stdout
    world.assert_catalog_equals_service()
