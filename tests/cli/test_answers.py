"""What people see of a query's answer, and of what keeps one from coming."""

import json
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_store
from ahi_catalog.connectors.errors import UsageError
from tests.support.world import World


def test_a_wide_answer_is_shown_row_by_row(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No column that has a value is lost and none is folded to a letter; ten rows, and a word on the others."""
    monkeypatch.setenv("COLUMNS", "80")
    world.fill(12)
    world.sync()
    assert run(["query", "--catalog", str(world.catalog), "from image_sets order by created_at"]) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if line.startswith("row ")] == [f"row {n}" for n in range(1, 11)]
    for name in ("image_set_id", "created_at", "patient_id", "datastore_id", "created_date"):
        assert shown.out.count(f" {name} ") == 10
    assert "Too wide for a table" in shown.err
    assert "… 2 more rows" in shown.err


def test_a_narrow_answer_is_a_table(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Times to the second, in UTC; nothing for null."""
    world.fill(3)
    world.sync()
    sql = "select timestamptz '2024-02-29 12:00:07.123456+00' as at, null as nothing, ['CT', 'MR'] as modalities"
    assert run(["query", "--catalog", str(world.catalog), sql]) == 0
    shown = capsys.readouterr()
    assert [line.split() for line in shown.out.splitlines() if line.strip(" ─")] == [
        ["at", "nothing", "modalities"],
        ["2024-02-29", "12:00:07Z", "CT,", "MR"],
    ]
    assert shown.err == ""


def test_an_answer_without_rows_says_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """However wide it would be; as CSV it still has its columns."""
    query = ["query", "--catalog", str(world.catalog), "from image_sets where false"]
    world.sync()
    capsys.readouterr()
    assert run(query) == 0
    assert capsys.readouterr() == ("", "No rows.\n")


def test_years_are_no_amounts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Four digits stand together, and large counts do not."""
    world.sync()
    assert run(["query", "--catalog", str(world.catalog), "select 2026 as year, 1009557 as many, -2026 as less"]) == 0
    assert capsys.readouterr().out.split()[-3:] == ["2026", "1,009,557", "-2026"]


def test_columns_of_one_name_are_told_apart(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A join has them; none takes another's value, in a table or in JSON."""
    world.fill(3)
    world.sync()
    sql = "select 1 as a, 2 as a, 3 as b, 4 as a_1, 5 as a"
    assert run(["query", "--json", "--catalog", str(world.catalog), sql]) == 0
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "a_2": 2, "b": 3, "a_1": 4, "a_3": 5}]
    join = "from image_sets x join image_sets y on x.image_set_id = y.image_set_id"
    assert run(["query", "--catalog", str(world.catalog), join]) == 0
    assert "image_set_id_1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("report.page.render", "report", ["report"]),
        ("emulator.idc", "demo", ["demo"]),
        ("emulator.idc", "demo", ["emulate", "--port", "0"]),
        ("connectors.iceberg.mirror", "iceberg", ["iceberg", "--to", "a.b"]),
    ],
)
def test_a_missing_extra_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, extra: str, command: list[str]
) -> None:
    """One line, one form, code 2, whatever needs it."""
    monkeypatch.setitem(sys.modules, f"ahi_catalog.{module}", None)
    assert run([*command, *(["--catalog", "x"] if command != ["emulate", "--port", "0"] else [])]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"takes an extra that is not installed: pip install 'ahi-catalog[{extra}]'")


def test_a_value_that_does_not_convert_is_no_damage(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is it quoted."""
    world.fill(3)
    world.sync()
    assert run(["query", "--catalog", str(world.catalog), "select cast(patient_id as int) from image_sets"]) == 1
    assert "TRY_CAST" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["query", "select count(patient_id) from image_sets"], ["report", "--out", "OUT"]])
def test_a_damaged_object_is_named(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Not the words of a reader, which send people to look for a mistake in their SQL."""
    world.fill(50)
    world.sync()
    damaged = next(world.catalog.glob("image_sets/**/*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    given = [str(tmp_path / "report.html") if argument == "OUT" else argument for argument in command]
    assert run([given[0], "--catalog", str(world.catalog), *given[1:]]) == 1
    told = capsys.readouterr().err
    assert damaged.relative_to(world.catalog).as_posix() in told
    assert "verify --repair" in told
    assert len(told.splitlines()) == 1


SLIPS = [
    *("s3:/bucket/prefix", "s3//bucket", "S3:/bucket", "gs:/bucket"),
    *("file:folder", "file://", "file:///x?y", "file:///x#y", "file:////server/share"),
    *("C:\\folder", "c:/folder", "file:///C:/folder", "\\\\server\\share", "file:///x%00", "a\0b"),
]


@pytest.mark.parametrize("url", SLIPS)
def test_a_slip_in_a_url_is_no_folder(url: str) -> None:
    """Rows of patients must not end up on the disk of whoever forgot a slash, or took a path of another system."""
    with pytest.raises(UsageError, match="s3://bucket/prefix"):
        open_store(url)


@pytest.mark.parametrize("url", ["file://server/x", "file://x", "file://127.0.0.1/x"])
def test_a_file_url_of_another_machine_is_refused(url: str) -> None:
    """Its host is none of a folder's names."""
    with pytest.raises(UsageError, match=r"this machine|local folder"):
        open_store(url)


@pytest.mark.parametrize("url", ["{}", "file:{}", "file://{}", "file://localhost{}", "FILE://LOCALHOST{}"])
def test_a_file_url_is_its_path(tmp_path: Path, url: str) -> None:
    """However it is written (RFC 8089), percent-encoded too; a path that is no URL is taken as it is."""
    folder = tmp_path / "a b%20c"
    path = str(folder) if url == "{}" else quote(str(folder))
    assert open_store(url.format(path)).url == str(folder)


@pytest.mark.parametrize("command", ["sync", "serve"])
def test_a_prefect_server_that_is_down_is_told_in_a_line(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A server that is named is what a run takes; nothing is read or made before it is known to be there."""
    given = [command, "--catalog", str(world.catalog), "--datastore-id", world.datastore_id]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    # Prefect is imported by other tests, and has read its variables.
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert run(given) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "Prefect's server at 127.0.0.1:9 cannot be reached: start it" in told[0]
    assert ("--no-prefect" in told[0]) is (command == "sync")
    assert not world.catalog.exists()
