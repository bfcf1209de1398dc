"""What a hostile service and hostile SQL can send: it is kept, or refused in one line, and it goes nowhere else."""

import gc
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ahi_catalog.cli.output import visible
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.errors import AhiCatalogError, UsageError
from ahi_catalog.connectors.storage.base import check_key
from ahi_catalog.schemas import IMAGE_SETS, MalformedSummaryError, flatten, read
from ahi_catalog.schemas.image_sets import SUMMARIES
from tests.support.world import BORN, World, summary

NAMES = {
    "traversal": "../../../etc/passwd",
    "absolute": "/etc/passwd",
    "uri": "file:///etc/passwd",
    "sql": "'; drop view image_sets; --",
    "expression": "=cmd|' /C calc'!A0",
    "markup": "[bold]<script>alert(1)</script>",
    "format": "%s%n{0.__class__}",
    "terminal": "\x1b[2J\x1b]0;owned\x07",
    "nul": "a\0b\0",
    "long": "山" * 512,
    "mixed": "Yamada^Tarou=山田^太郎=やまだ^たろう \u202egnihtemos\u202c Ωمريض",
    "combining": "e" + "\u0301" * 200,
    "astral": "\U0001d56d\U0001d594\U0001d587 \U0001f9d1\u200d\u2695\ufe0f \uffff",
    "lines": "a\r\nb\u2028c",
    "blank": "   ",
    "empty": "",
}


def test_hostile_values_are_kept_as_they_are_and_stay_in_their_rows(world: World, tmp_path: Path) -> None:
    """Names like paths, SQL and control characters come back value for value; no file appears beside the catalog."""
    tags = ("PatientId", "PatientName", "StudyDescription", "StudyInstanceUID", "AccessionNumber", "SeriesBodyPart")
    world.service.insert(
        world.datastore_id,
        [summary(f"h{number:03d}", BORN, **dict.fromkeys(tags, value)) for number, value in enumerate(NAMES.values())],
    )
    before = set(tmp_path.rglob("*"))
    world.sync()
    world.assert_catalog_equals_service()
    outside = [path for path in set(tmp_path.rglob("*")) - before if not path.is_relative_to(world.catalog)]
    assert outside == []
    answer = run_query(open_catalog(open_store(str(world.catalog))), "select patient_name as n from image_sets")
    assert sorted(row["n"] for row in answer.to_pylist()) == sorted(NAMES.values())
    world.sync(catalog=str(tmp_path / "dropped"), phi="drop")


@pytest.mark.parametrize("key", ["../x", "/x", "a/../x", "a//x", "a/./x", "a\0x", "a\\x", ".", "a b", "ä", ""])
def test_no_key_leaves_the_root(key: str) -> None:
    """A key of the store cannot climb, be absolute, or hold what a file system reads in its own way."""
    with pytest.raises(ValueError, match="not a key"):
        check_key(key)


def page(**fields: Any) -> str:
    tags = fields.pop("DICOMTags", {})
    found = {"imageSetId": "a" * 32, "createdAt": 1.7e9, **fields, "DICOMTags": {"DICOMPatientId": "P", **tags}}
    return json.dumps({SUMMARIES: [found]})


def row_of(body: str) -> dict[str, Any]:
    table = flatten([read(body.encode()).rows])
    table.validate(full=True)
    assert table.schema == IMAGE_SETS.schema
    [row] = table.to_pylist()
    return dict(row)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5_000, "-" + "9" * 4_301, "0." + "1" * 5_000])
@pytest.mark.parametrize("place", ["version", "lastAccessedAt", "future"])
def test_numbers_that_no_type_holds_are_kept_as_json(number: str, place: str) -> None:
    """An infinite or endless number leaves `extra` JSON that every reader reads, with the number's digits in it."""
    row = row_of(page(**{place: "HERE"}).replace('"HERE"', number))
    if row["extra"] is not None:
        [kept] = msgspec.json.decode(row["extra"].encode()).values()
        assert str(kept) == number or math.isfinite(float(kept))
    assert "Infinity" not in json.dumps(row, default=str)


def test_infinity_is_no_time_of_creation() -> None:
    """A row needs a time of creation that is one."""
    with pytest.raises(MalformedSummaryError, match="createdAt"):
        read(page(createdAt="HERE").replace('"HERE"', "1e999").encode())


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected at the bottom of the stack, where a finalizer has no room left and pytest tells on it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("bomb", ["[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000])
@pytest.mark.usefixtures("no_collection")
def test_nested_bombs_are_refused_in_one_line(bomb: str) -> None:
    """Depth ends in an error of ours, with nothing of the page in it."""
    with pytest.raises(MalformedSummaryError) as refused:
        read(page(future="HERE").replace('"HERE"', bomb).encode())
    assert "\n" not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_wide_bombs_are_kept() -> None:
    """A field with a hundred thousand members, and one key sent a thousand times, are a row like any other."""
    wide = {f"k{number}": number for number in range(100_000)}
    row = row_of(page(future=wide))
    assert json.loads(row["extra"])["future"] == wide
    doubled = page().replace('"imageSetId"', ",".join(['"version": 1'] * 1_000) + ', "imageSetId"', 1)
    assert row_of(doubled)["version"] == 1


def test_lone_surrogates_are_kept_in_extra() -> None:
    """Text that is no Unicode is null in its column and escaped in `extra`."""
    row = row_of(page(DICOMTags={"DICOMPatientName": "\ud800x"}))
    assert row["patient_name"] is None
    assert json.loads(row["extra"]) == {"DICOMTags": {"DICOMPatientName": "\ud800x"}}


def test_control_characters_do_not_reach_the_terminal() -> None:
    """A table shows escape sequences, NULs and turned writing as what they are."""
    assert visible("\x1b[2Ja\0\u202eb\tc\n山") == "\\x1b[2Ja\\x00\\u202eb\tc\n山"
    assert visible(NAMES["terminal"]) == "\\x1b[2J\\x1b]0;owned\\x07"


SECRET_FILE = "HOSTILE-SECRET"  # what must not be read
HOSTILE_SQL = (
    "from read_text('{file}')",
    "from read_blob('{file}')",
    "from read_csv('{file}')",
    "from read_json('{file}')",
    "from read_parquet('{file}')",
    "from parquet_metadata('{file}')",
    "from sniff_csv('{file}')",
    "from '{file}'",
    "from glob('{folder}/*')",
    "from query_table('{file}')",
    "from query('from read_text(''{file}'')')",
    "explain analyze from read_text('{file}')",
    "from read_text('http://127.0.0.1:9/x')",
    "from 's3://bucket/x.parquet'",
    "install httpfs",
    "load httpfs",
    "load '{file}'",
    "attach '{folder}/new.db'",
    "attach '{file}' (readonly)",
    "copy (select 1) to '{folder}/new.csv'",
    "export database '{folder}/new'",
    "import database '{folder}'",
    "copy from database memory to other",
    "create table t as select 1",
    "insert into image_sets select * from image_sets",
    "with gone as (delete from image_sets returning *) from gone",
    "drop view image_sets",
    "create secret (type s3)",
    "from duckdb_secrets()",
    "from which_secret('s3://x', 's3')",
    "select getenv('AHI_CATALOG_PHI_KEY')",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "reset lock_configuration",
    "reset enable_external_access",
    "set temp_directory = '{folder}'",
    "set python_enable_replacements = true",
    "from enable_logging()",
    "pragma enable_external_access = true",
    "pragma enable_profiling = 'json'",
    "call pragma_version()",
    "from sql_auto_complete('x')",
    "from hostile_local",
    "from SECRET_FILE",
    "select 1; from read_text('{file}')",
    "prepare p as select 1",
    "use memory",
    "checkpoint",
    "",
)


@pytest.fixture
def catalog(world: World) -> Path:
    """A catalog with a few rows."""
    world.fill(20)
    world.sync()
    return world.catalog


@pytest.mark.parametrize("sql", HOSTILE_SQL)
def test_hostile_sql_gets_nowhere(
    idc_catalogs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    """No file is read, written or listed, no setting unlocked, no variable of Python seen: one line refuses it."""
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", SECRET_FILE)
    hostile_local = {"secret": [SECRET_FILE]}
    assert hostile_local
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = folder / "secret.csv"
    file.write_text(SECRET_FILE)
    with pytest.raises(AhiCatalogError) as refused:
        run_query(open_catalog(open_store(str(idc_catalogs["month"]))), sql.format(file=file, folder=folder))
    assert "\n" not in str(refused.value)
    assert SECRET_FILE not in str(refused.value)
    assert list(folder.iterdir()) == [file]


def test_a_query_too_large_for_memory_ends_in_one_line_and_spills_nothing(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endless answer is cut off by size, and a sort beyond DuckDB's limit fails instead of writing rows to disk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ahi_catalog.connectors.catalog.querying._MOST_BYTES", 64 << 20)
    opened = open_catalog(open_store(str(catalog)))
    with pytest.raises(UsageError, match="the answer is larger"):
        run_query(opened, "select * from range(1000000000000)")
    settings = "select name, value from duckdb_settings() where name in ('temp_directory', 'lock_configuration')"
    found = {row["name"]: row["value"] for row in run_query(opened, settings).to_pylist()}
    assert found == {"temp_directory": "", "lock_configuration": "true"}
    assert not (tmp_path / ".tmp").exists()


def test_errors_of_a_pivot_do_not_name_its_columns(catalog: Path) -> None:
    """A PIVOT makes columns of values; an error that lists columns keeps them to itself."""
    for sql in (
        "from (pivot image_sets on patient_name) select nothing",
        "pivot image_sets on patient_name group by no",
    ):
        with pytest.raises(UsageError) as refused:
            run_query(open_catalog(open_store(str(catalog))), sql)
        assert "Tester" not in str(refused.value)


def test_an_error_late_in_an_answer_quotes_no_value(catalog: Path) -> None:
    """A value that does not convert, met after many rows, is told of without it, as one met at once is."""
    opened = open_catalog(open_store(str(catalog)))
    ones = "select '1' as patient_name from range(300000) union all select patient_name from image_sets"
    late = f"select patient_name::int as n from ({ones})"  # our own words
    for sql in (late, "select patient_name::int as n from image_sets"):
        with pytest.raises(AhiCatalogError, match="failed while it ran") as refused:
            run_query(opened, sql)
        assert "Tester" not in str(refused.value)


def test_what_may_be_asked_is_answered(catalog: Path) -> None:
    """The closed connection still sorts, pivots, describes and explains."""
    opened = open_catalog(open_store(str(catalog)))
    for sql in ("pivot image_sets on storage_tier using count(*)", "summarize image_sets", "explain from image_sets"):
        assert len(run_query(opened, sql)) > 0
