"""`ahi-catalog ddl` and `ahi-catalog register`, as a user meets them."""

import json
from pathlib import Path

import boto3
import duckdb
import pytest

from ahi_catalog.cli.main import run
from tests.cli.test_cli import live
from tests.support.world import World


def test_a_script_for_duckdb_makes_the_views_in_a_folder_of_any_name(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed script runs as it is; its views have every row, and every column its comment."""
    world.fill(300)
    catalog = tmp_path / """it's a "100%" [1] *?"""
    world.sync(catalog=str(catalog))
    assert run(["ddl", "duckdb", "--catalog", str(catalog)]) == 0
    with duckdb.connect() as connection:
        connection.execute(capsys.readouterr().out)
        assert connection.execute("SELECT count(*), count(DISTINCT created_date) FROM image_sets").fetchall() == [
            (300, 2)
        ]
        assert connection.execute("SELECT count(*) FROM patients").fetchall() == [(300,)]
        missing = "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND NOT internal"
        assert connection.execute(missing).fetchall() == []


def test_athena_gets_one_statement_at_a_time(world: World, s3_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--only prints one, --json lists them; a folder is refused."""
    world.fill(20)
    world.sync(catalog=s3_url, partition="month")
    common = ["ddl", "athena", "--catalog", s3_url, "--database", "imaging"]
    assert run([*common, "--only", "image_sets"]) == 0
    [create] = capsys.readouterr().out.split(";")[:-1]
    assert create.startswith("CREATE EXTERNAL TABLE IF NOT EXISTS `imaging`.`image_sets` (")
    assert "'projection.created_month.range' = '2024-01,NOW'" in create
    assert f"'projection.datastore_id.values' = '{world.datastore_id}'" in create
    assert run([*common, "--json", "--injected"]) == 0
    statements = json.loads(capsys.readouterr().out)
    assert [statement["makes"] for statement in statements] == [
        *("image_sets", "removals", "series", "studies", "patients", "conflicts", "changes", "storage")
    ]
    assert "'projection.datastore_id.type' = 'injected'" in statements[0]["sql"]
    assert run([*common, "--only", "partitions"]) == 2
    world.sync()
    assert run(["ddl", "athena", "--catalog", str(world.catalog)]) == 2
    assert "Athena reads S3 only" in capsys.readouterr().err


def test_register_twice_says_what_it_did_and_that_nothing_changed(
    world: World, s3_url: str, glue_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first call makes database and table, the second changes nothing, and the table is the catalog's."""
    world.fill(20)
    world.sync(catalog=s3_url)
    arguments = ["register", "--catalog", s3_url, "--database", "imaging"]
    assert run(arguments) == 0
    made = "".join(f"created table {name}\n" for name in ("image_sets", "removals", "series"))
    assert capsys.readouterr().out == f"created database imaging\n{made}"
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "database": "imaging",
        "table": "image_sets",
        "changes": [],
        "more": [{"database": "imaging", "table": name, "changes": []} for name in ("removals", "series")],
    }
    assert run(arguments) == 0
    assert capsys.readouterr().out.count(" is up to date; nothing changed\n") == 3
    table = (
        boto3.Session()
        .client("glue", endpoint_url=glue_endpoint)
        .get_table(DatabaseName="imaging", Name="image_sets")["Table"]
    )
    assert table["StorageDescriptor"]["Location"] == f"{s3_url}/image_sets/"
    assert table["Parameters"]["projection.created_date.range"] == "2024-01-01,NOW"


def test_lists_are_json_in_csv(world: World, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A view's array of modalities is one field of CSV."""
    world.fill(3)
    world.sync()
    capfdbinary.readouterr()
    sql = "select ['CT', 'MR'] as modalities, null::varchar[] as none from image_sets limit 1"
    assert run(["query", "--catalog", str(world.catalog), "--format", "csv", sql]) == 0
    assert capfdbinary.readouterr().out == b'"modalities","none"\n"[""CT"", ""MR""]",\n'


def test_json_has_no_numbers_that_json_does_not_know(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """NaN and the infinities are null, inside lists and structures too, and in the JSON fields of CSV."""
    world.fill(3)
    world.sync()
    capfd.readouterr()
    sql = """select 'nan'::double as nan, -'inf'::double as inf, 1.5 as plain, ['inf'::double, 2] as list,
             {'a': 'nan'::float} as struct from image_sets limit 1"""
    for asked in (["--json"], ["--format", "json"]):
        assert run(["query", "--catalog", str(world.catalog), *asked, sql]) == 0
        [row] = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
        assert (row["nan"], row["inf"], row["list"], row["struct"]) == (None, None, [None, 2.0], {"a": None})
    assert run(["query", "--catalog", str(world.catalog), "--format", "csv", sql]) == 0
    assert '"[null, 2.0]","{""a"": null}"' in capfd.readouterr().out


def test_series_and_instances_are_tables_too(
    world: World, s3_url: str, glue_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once metadata was read, the DDL and Glue have all tables; a catalog's own name goes before theirs."""
    del glue_endpoint
    live(world).fill(20)
    common = ["--catalog", s3_url, "--datastore-id", world.datastore_id, "--no-prefect"]
    assert run(["sync", *common]) == 0
    assert run(["ddl", "spark", "--catalog", s3_url, "--only", "instances"]) == 2
    assert "read the metadata first" in capsys.readouterr().err
    assert run(["metadata", *common, "--archived", "--yes", "--instances"]) == 0
    capsys.readouterr()
    assert run(["register", "--catalog", s3_url, "--database", "imaging", "--table", "ahi"]) == 0
    made = capsys.readouterr().out.splitlines()
    assert made == [
        "created database imaging",
        "created table ahi",
        *(f"created table ahi_{n}" for n in ("removals", "series", "instances")),
    ]
    table = boto3.client("glue").get_table(DatabaseName="imaging", Name="ahi_series")["Table"]
    types = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert types["pixel_spacing"] == "array<double>"
    assert run(["ddl", "athena", "--catalog", s3_url, "--json"]) == 0
    statements = json.loads(capsys.readouterr().out)
    assert [statement["makes"] for statement in statements] == [
        *("image_sets", "removals", "series", "studies", "patients", "conflicts", "changes", "storage", "instances")
    ]


def test_a_script_for_duckdb_reads_series(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Lists are lists, and names of columns that are words of SQL need no quotes."""
    live(world).fill(20)
    common = ["--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect"]
    assert run(["sync", *common]) == 0
    assert run(["metadata", *common, "--archived", "--yes"]) == 0
    capsys.readouterr()
    assert run(["ddl", "duckdb", "--catalog", str(world.catalog)]) == 0
    with duckdb.connect() as connection:
        connection.execute(capsys.readouterr().out)
        asked = "SELECT rows, columns, len(sop_class_uid), instances FROM series GROUP BY ALL"
        assert connection.execute(asked).fetchall() == [(None, None, 1, 1)]
