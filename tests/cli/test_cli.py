"""The command line as a user meets it: real processes for what needs one, `run` for the rest."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_catalog, open_store, parquet
from ahi_catalog.connectors.windows import Window, format_time
from ahi_catalog.emulator import listen
from ahi_catalog.schemas import SERIES
from tests.support.reference import data_objects, read_folder
from tests.support.world import World, summary

ID = "0" * 31 + "a"


def sync_arguments(world: World, *more: str) -> list[str]:
    common = ["--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect"]
    return ["sync", *common, "--rate", "100000", "--burst", "100000", *more]


def live(world: World) -> World:
    """The command reads the machine's own clock; so the service has it too."""
    world.service.clock.unfreeze()
    world.service.clock.offset *= 0
    return world


def test_sync_status_and_query_work_together(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """After a sync, status and query tell of the rows that the service has, as JSON for machines."""
    live(world).fill(300)
    assert run(sync_arguments(world, "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["new"], report["outcome"]) == (300, "done")
    world.assert_catalog_equals_service()
    assert run(["status", "--catalog", str(world.catalog), "--json"]) == 0
    [store] = json.loads(capsys.readouterr().out)["datastores"]
    assert (store["rows"], store["gaps"], len(store["runs"])) == (300, [], 1)
    sql = "select count(*) as n, min(created_date) as first from image_sets"
    assert run(["query", "--catalog", str(world.catalog), "--json", sql]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 300, "first": "2024-01-01"}]


def test_status_names_a_gap_at_the_beginning(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a first sync was killed before it had read the oldest day, the next one is to begin there."""
    live(world).fill(20)
    run(sync_arguments(world))
    catalog = open_catalog(open_store(str(world.catalog)))
    checkpoint = catalog.checkpoint(world.datastore_id)
    assert checkpoint is not None
    start = checkpoint.coverage.windows[0].start
    oldest = Window(start, start + timedelta(days=1))
    catalog.update_checkpoint(world.datastore_id, lambda _: checkpoint.without_coverage([oldest]))
    capsys.readouterr()
    run(["status", "--catalog", str(world.catalog), "--json"])
    [store] = json.loads(capsys.readouterr().out)["datastores"]
    assert store["gaps"] == [[format_time(oldest.start), format_time(oldest.end)]]


def test_coverage_cannot_begin_in_the_future(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in --start does not make a catalog that stays empty and says that all is well."""
    live(world)
    assert run(sync_arguments(world, "--start", "2999-01-01")) == 2
    assert "check --start" in capsys.readouterr().err
    assert not world.catalog.exists()


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_every_form_of_an_answer_holds_its_values(
    world: World, capfdbinary: pytest.CaptureFixture[bytes], form: str
) -> None:
    """A query's answer is written in the form asked for."""
    live(world).fill(10)
    run(sync_arguments(world))
    capfdbinary.readouterr()
    assert run(["query", "--catalog", str(world.catalog), "--format", form, "select 6 * 7 as answer"]) == 0
    answer = capfdbinary.readouterr().out
    assert b"answer" in answer
    assert b"42" in answer


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sync", "--catalog", "c", "--datastore-id", "short"], 2, "data store id"),
        (["sync", "--catalog", "ftp://c", "--datastore-id", ID, "--no-prefect"], 2, "s3://bucket/prefix"),
        (["sync", "--catalog", "s3://B", "--datastore-id", ID, "--no-prefect"], 2, "bucket"),
        (["backfill", "--catalog", "c", "--datastore-id", ID, "--from", "soon", "--to", "2024-01-01"], 2, "date"),
        (["sync", "--catalog", "c", "--datastore-id", ID, "--settle", "10"], 2, "duration"),
        (["sync", "--catalog", "c", "--datastore-id", ID, "--look-back", "999999d"], 2, "look-back"),
        (["sync", "--catalog", "c", "--datastore-id", ID, "--start", "0001-01-01"], 2, "1970"),
        (["status", "--catalog", "nowhere"], 2, "no catalog"),
        (["query", "--catalog", "nowhere", "select 1"], 2, "no catalog"),
        (["status"], 2, "--catalog"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line_and_writes_nothing(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
    world: World,
) -> None:
    """Wrong values end with code 2 and one line that names what is wrong; no file appears."""
    del world
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("Error: ")
    assert not list(here.iterdir())


def test_an_unknown_data_store_fails_before_anything_is_written(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data store that the service does not know ends with code 1, and no catalog is made."""
    arguments = ["sync", "--catalog", str(world.catalog), "--datastore-id", ID, "--no-prefect"]
    assert run(arguments) == 1
    assert "check the data store id" in capsys.readouterr().err
    assert not world.catalog.exists()


def test_a_refused_service_says_what_to_allow(
    make_world: Callable[..., World], capsys: pytest.CaptureFixture[str]
) -> None:
    """AccessDenied names the permission to give."""
    world = live(make_world(denied=frozenset({"GetDatastore"})))
    world.fill(10)
    assert run(sync_arguments(world)) == 1
    assert "allow medical-imaging:GetDatastore" in capsys.readouterr().err
    assert run(sync_arguments(world, "--start", "2024-01-01")) == 0
    world.assert_catalog_equals_service()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("_state/catalog.json", "catalog.json is damaged"),
        ("_state/datastore_id={id}/checkpoint.json", "the checkpoint is damaged"),
        ("image_sets/datastore_id={id}/created_date=2024-01-01/image-sets.parquet", "not a readable Parquet object"),
    ],
)
def test_damage_is_named_and_left_as_it_was(
    world: World, capsys: pytest.CaptureFixture[str], damage: str, says: str
) -> None:
    """A damaged file ends a run with code 1 and its name, and neither it nor any data object changes."""
    live(world).fill(200)
    run(sync_arguments(world))
    damaged = world.catalog / damage.format(id=world.datastore_id)
    damaged.write_bytes(b"PAR1 nonsense")
    before = data_objects(world.catalog)
    arguments = sync_arguments(world)
    arguments[0] = "backfill"
    assert run([*arguments, "--from", "2024-01-01", "--to", "2024-01-02"]) == 1
    assert says in capsys.readouterr().err
    assert data_objects(world.catalog) == before
    assert damaged.read_bytes() == b"PAR1 nonsense"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b"{"), "the checkpoint is damaged"),
        (lambda path: path.unlink(), "the checkpoint is lost"),
    ],
)
def test_status_names_a_checkpoint_that_is_no_good(
    world: World, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], says: str
) -> None:
    """Status ends with code 1, and tells what can still be told."""
    live(world).fill(200)
    run(sync_arguments(world))
    damage(world.catalog / f"_state/datastore_id={world.datastore_id}/checkpoint.json")
    capsys.readouterr()
    assert run(["status", "--catalog", str(world.catalog)]) == 1
    shown = capsys.readouterr()
    assert says in shown.out
    assert "verify --repair" in shown.out
    assert "200" in shown.out


def test_status_names_lost_unreadable_and_foreign_objects(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by its place, in the text and as JSON; the rows of the others are still counted."""
    live(world).fill(600)
    run(sync_arguments(world))
    objects = sorted(world.catalog.glob("image_sets/**/*.parquet"))
    objects[0].unlink()
    objects[1].write_bytes(objects[1].read_bytes()[:-9])
    objects[2].with_name("other.parquet").write_bytes(b"")
    capsys.readouterr()
    assert run(["status", "--catalog", str(world.catalog), "--json"]) == 1
    [datastore] = json.loads(capsys.readouterr().out)["datastores"]
    assert datastore["rows"] == 180
    assert [problem.split(":")[0] for problem in datastore["problems"]] == [
        "data objects are lost",
        "a data object is unreadable",
        "a file is none of the catalog's, and yours to delete",
    ]
    assert "created_date=2024-01-02" in datastore["problems"][1]


def test_verify_finds_mends_and_says_so_by_its_exit_code(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 1 while something differs, with a table of places; 0 once it is mended; the same as JSON."""
    live(world).fill(600)
    run(sync_arguments(world))
    [first, *_] = sorted(world.catalog.glob("image_sets/**/*.parquet"))
    first.unlink()
    capsys.readouterr()
    arguments = ["verify", *sync_arguments(world)[1:]]
    assert run(arguments) == 1
    shown = capsys.readouterr().out
    assert "2024-01-01" in shown
    assert "missing" in shown
    assert run(["status", "--catalog", str(world.catalog)]) == 1
    status = capsys.readouterr().out
    assert "missing 210, lost 1, 211 left to mend" in " ".join(status.split())
    assert re.search(r"verify +differs", status)
    assert run([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)["verification"]
    assert document["findings"] == {"2024-01-01": {"missing": 210, "lost": 1}}
    assert (document["left"], document["finished"]) == (211, True)
    assert run([*arguments, "--repair"]) == 0
    world.assert_catalog_equals_service()
    capsys.readouterr()
    assert run(arguments) == 0
    assert "nothing wrong" in capsys.readouterr().out
    assert run(["status", "--catalog", str(world.catalog)]) == 0
    assert re.search(r"last verified +\S+Z: nothing wrong", capsys.readouterr().out)
    assert run([*arguments, "--part", "1/30", "--from", "2024-01-01"]) == 0
    capsys.readouterr()
    assert run(["status", "--catalog", str(world.catalog)]) == 0
    status = " ".join(capsys.readouterr().out.split())
    assert "Z (of 2024-01-01T00:00:00+00:00.., part 1/30): nothing wrong" in status


def test_another_partition_unit_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A catalog keeps the partition unit that it was created with."""
    live(world).fill(20)
    run(sync_arguments(world))
    assert run(sync_arguments(world, "--partition", "month")) == 2
    assert "partitioned by day" in capsys.readouterr().err


def test_a_hostile_query_reads_nothing_but_the_view(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """SQL can neither read another file nor write one, and an error while it runs quotes no value."""
    live(world).fill(20)
    run(sync_arguments(world))
    for sql in (
        "select * from read_text('/etc/hostname')",
        "copy image_sets to 'stolen.csv'",
        "set enable_external_access = true",
        "select cast(patient_name as integer) from image_sets",
        "select nothing_of_the_kind from image_sets",
    ):
        capsys.readouterr()
        assert run(["query", "--catalog", str(world.catalog), sql]) in {1, 2}
        error = capsys.readouterr().err
        assert error.startswith("Error: ")
        assert "Tester" not in error


def test_settings_come_from_flags_then_variables_then_the_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag beats a variable beats ahi-catalog.toml, and a misspelt setting is refused."""
    live(world).fill(20)
    run(sync_arguments(world))
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "ahi-catalog.toml"
    settings.write_text('catalog = "from-file"\nruns = 0\n')
    run(["status"])
    assert "from-file" in capsys.readouterr().err
    monkeypatch.setenv("AHI_CATALOG_CATALOG", "from-variable")
    run(["status"])
    assert "from-variable" in capsys.readouterr().err
    assert run(["status", "--catalog", str(world.catalog), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["datastores"][0]["runs"] == []
    settings.write_text("ratee = 3\n")
    assert run(["status"]) == 2
    assert "ratee" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        (["--help"], {"prefect", "boto3", "pyarrow", "duckdb", "rich"}),
        (["sync", "--help"], {"prefect", "boto3", "pyarrow", "duckdb"}),
        (["status", "--catalog", "CATALOG"], {"prefect", "boto3", "duckdb"}),
        (["query", "--catalog", "CATALOG", "select 1"], {"prefect", "boto3"}),
        (["ddl", "duckdb", "--catalog", "CATALOG"], {"prefect", "boto3", "duckdb"}),
        (["report", "--catalog", "CATALOG"], {"prefect", "boto3"}),
        (["doctor", "--help"], {"prefect", "boto3", "pyarrow", "rich"}),
        (["completion", "bash"], {"prefect", "boto3", "pyarrow", "rich"}),
        (["sync", "--catalog", "CATALOG", "--datastore-id", ID], {"prefect", "httpx", "duckdb"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_import_only_what_they_need(
    world: World, arguments: list[str], never: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect is imported by nothing but flows, which runs are where a server is named; help imports nothing heavy."""
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("AHI_CATALOG_OUT", str(world.catalog.with_name("report.html")))
    live(world).fill(20)
    run(sync_arguments(world))
    given = [str(world.catalog) if argument == "CATALOG" else argument for argument in arguments]
    code = f"import sys; from ahi_catalog.cli.main import run; run({given!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert never.isdisjoint(done.stderr.split())


def test_sigterm_publishes_what_is_proven_and_the_next_run_resumes(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    """A run that is asked to stop exits 130 with its coverage kept; the next one completes the catalog."""
    world = live(make_world(latency=0.02))
    world.fill(8_000)
    log = tmp_path / "log"
    command = [str(Path(sys.executable).with_name("ahi-catalog")), *sync_arguments(world, "--concurrency", "2")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)
        checkpoint = world.catalog / f"_state/datastore_id={world.datastore_id}/checkpoint.json"
        while process.poll() is None and not (checkpoint.exists() and json.loads(checkpoint.read_bytes())["coverage"]):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    report = json.loads(next(checkpoint.parent.glob("runs/*.json")).read_bytes())
    assert report["outcome"] == "stopped"
    assert 0 < report["new"] < 8_000
    assert run(sync_arguments(world)) == 0
    world.assert_catalog_equals_service()


def test_a_watch_goes_on_until_sigterm_and_status_shows_it(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Image sets that arrive are published within a pass; the end is in order, with exit code 0 and a report."""
    live(world).fill(200)
    arguments = ["watch", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--every", "1s"]
    command = [str(Path(sys.executable).with_name("ahi-catalog")), *arguments, "--json"]
    read = partial(read_folder, world.catalog)
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, env=os.environ)
        while process.poll() is None and not (world.catalog.exists() and len(read()) == 200):
            pass
        world.service.insert(world.datastore_id, [summary("arrives", world.service.now())])
        while process.poll() is None and len(read()) == 200:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    [report] = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (report["flow"], report["outcome"], report["new"]) == ("watch", "stopped", 201)
    world.assert_catalog_equals_service()
    assert run(["status", "--catalog", str(world.catalog), "--json"]) == 0
    [shown] = json.loads(capsys.readouterr().out)["datastores"]
    assert shown["watch"]["ended_at"]
    assert shown["freshness"]["rows"] == 1
    assert run(["status", "--catalog", str(world.catalog)]) == 0
    said = capsys.readouterr().out
    assert "published after" in said
    assert "passes, 0 failed" in said


def test_status_takes_odd_file_names_for_none_of_ours(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever lies beside run reports, checkpoints and data objects, however it is called, status answers."""
    world.fill(20)
    world.sync()
    state = world.catalog / f"_state/datastore_id={world.datastore_id}"
    for name in (b"~copy of run (1).json", b"zz.json", "prüfung.json".encode(), b"caf\xe9.json", b"a\nb.json"):
        (state / "runs" / os.fsdecode(name)).write_bytes(b"{}")
    odd = world.catalog / "_state/datastore_id=Kopie von"
    odd.mkdir()
    (odd / "checkpoint.json").write_bytes(b"{}")
    assert run(["status", "--catalog", str(world.catalog), "--json"]) == 0
    [datastore] = json.loads(capsys.readouterr().out)["datastores"]
    assert [each["flow"] for each in datastore["runs"]] == ["sync"]
    (world.catalog / "image_sets" / f"datastore_id={world.datastore_id}" / os.fsdecode(b"caf\xe9\x1b.parquet")).touch()
    assert run(["status", "--catalog", str(world.catalog)]) == 1
    assert r"caf\udce9\x1b" in capsys.readouterr().out


def test_a_port_that_is_taken_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Before any data is loaded, with code 1 and what to do."""
    with listen(0) as taken:
        port = taken.getsockname()[1]
        assert run(["emulate", "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"Error: cannot listen on port {port}: Address already in use; take another --port\n"
    )


def test_archived_image_sets_are_read_on_a_yes_alone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal --archived wants --yes, and says the price; without either, what is archived is counted."""
    live(world).fill(30)
    common = ["--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect"]
    assert run(["sync", *common]) == 0
    capsys.readouterr()
    assert run(["metadata", *common, "--archived"]) == 2
    said = capsys.readouterr().err
    assert "reading 30 archived image sets costs at least $0.01 more" in said
    assert "give --yes" in said
    assert run(["metadata", *common, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["archived"] == 30
    assert "GetImageSetMetadata" not in world.service.counters.requests
    assert run(["metadata", *common, "--archived", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows_read"] == 30
    assert run(["metadata", *common, "--keyword", "Nonsense"]) == 2
    assert "--keyword: Nonsense is no keyword" in capsys.readouterr().err


def test_verify_reads_metadata_again(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """With code 1 and the command that mends it, within the days where something is wrong; in `status` too."""
    live(world).fill(30, start=datetime.now(UTC) - timedelta(days=3))
    common = ["--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect"]
    assert run(["sync", *common]) == run(["metadata", *common]) == 0
    path = min(world.catalog.glob("series/**/*.parquet"))
    day = path.parent.name.partition("=")[2]
    rows = parquet.decode(SERIES, path.read_bytes())
    path.write_bytes(parquet.encode(SERIES, rows.slice(1)))
    arguments = ["verify", *common, "--metadata", "--sample", "1"]
    assert run(["verify", *common]) == 0
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 1
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["verification"]["findings"] == {f"series {day}": {"missing": 1}}
    assert (document["metadata"]["compared"], document["metadata"]["archived"]) == (30, 0)
    assert f"ahi-catalog verify --metadata --sample 1 --repair --from {day} --to" in said.err
    run(["status", "--catalog", str(world.catalog)])
    assert "(of metadata of 100 %): missing 1, 1 left to mend" in " ".join(capsys.readouterr().out.split())
    assert run([*arguments, "--repair"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "metadata compared 30" in shown
    assert run(arguments) == 0
    assert run([*arguments[:-1], "1.5"]) == 2


def test_debug_may_stand_behind_the_command(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Where most people write it: what failed is shown with its place."""
    live(world)
    assert run(["status", "--catalog", str(world.catalog)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run(["status", "--catalog", str(world.catalog), "--debug"]) == 2
    assert "open_catalog" in capsys.readouterr().err


def test_a_missing_option_names_the_variable_and_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """All three places that it may come from."""
    assert run(["status"]) == 2
    assert "AHI_CATALOG_CATALOG, or catalog in ahi-catalog.toml" in capsys.readouterr().err


def test_tables_of_runs_fit_80_columns_and_numbers_end_alike(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of a million rows is one line."""
    world.fill(20)
    world.sync()
    [path] = world.catalog.glob("_state/*/runs/*.json")
    report = json.loads(path.read_text()) | {"new": 1_234_567, "updated": 12_345, "requests": 250_000, "seconds": 9876}
    path.write_text(json.dumps(report))
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["status", "--catalog", str(world.catalog)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"sync +done +1,234,567 +12,345 +0 +250,000 +9,876", shown)
    assert max(map(len, shown.splitlines())) <= 80
    run(["query", "--catalog", str(world.catalog), "select * from (values (9999), (10000)) t(n)"])
    assert " 9,999 \n 10,000" in capsys.readouterr().out
