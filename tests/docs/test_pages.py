"""README and docs: their blocks run, their links lead somewhere, and the data dictionary is the code's."""

import contextlib
import io
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ahi_catalog import Catalog
from ahi_catalog.cli.main import cli
from ahi_catalog.cli.settings_file import SETTINGS_FILE
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.catalog.external import describe
from ahi_catalog.schemas import IMAGE_SETS, ddl, dictionary
from tests.support import settings_page
from tests.support.doc_blocks import Block, commands_of, runnable_blocks, same_output

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run_sh(block: Block) -> str:
    """Run in bash, as a user would; what it prints."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands_of(block)],  # noqa: S607 - found on the path, as a user's is
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(block: Block, names: dict[str, Any]) -> str:
    """Run in the page's one namespace, as a notebook does; what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block.text, f"line {block.line}", "exec"), names)  # noqa: S102 - our own page
    return printed.getvalue()


def write_settings(block: Block) -> str:
    """Make the settings file of the commands that follow."""
    Path(SETTINGS_FILE).write_text(block.text, encoding="utf-8")
    return ""


def run_sql(block: Block, catalog: Path) -> str:
    """Run in DuckDB over the views of a catalog; it must answer with rows."""
    with duckdb.connect() as connection:
        for statement in ddl.duckdb(describe(open_catalog(open_store(str(catalog))), "duckdb")):
            connection.execute(statement.sql)
        assert connection.execute(block.text).fetchall()
    return ""


@pytest.mark.parametrize("page", [page for page in PAGES if runnable_blocks(page)], ids=lambda page: page.stem)
def test_what_a_page_shows_works(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idc_catalogs: dict[str, Path], aws: None
) -> None:
    """Every block marked to run runs, in order, in one folder, and prints what the page says."""
    del aws
    shutil.copytree(idc_catalogs["day"], tmp_path / "demo-catalog")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, Any] = {}
    for block in runnable_blocks(page):
        runners: dict[str, Callable[[], str]] = {
            "sh": partial(run_sh, block),
            "cron": partial(run_sh, block),
            "toml": partial(write_settings, block),
            "python": partial(run_python, block, names),
            "sql": partial(run_sql, block, idc_catalogs["day"]),
        }
        printed = runners[block.language]()
        if block.output is not None:
            assert same_output(block.output, printed), f"line {block.line} prints:\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_that_there_are(page: Path) -> None:
    """A relative link names a file of the project."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_data_dictionary_is_the_declarations() -> None:
    """docs/data-dictionary.md is what `make docs` writes."""
    assert (ROOT / "docs/data-dictionary.md").read_text(encoding="utf-8") == dictionary.render()


def test_the_settings_are_the_commands() -> None:
    """docs/settings.md is what `make docs` writes, and names every extra that there is."""
    page = settings_page.PAGE.read_text(encoding="utf-8")
    assert page == settings_page.render()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(re.findall(r"^\| `(\w+)` \|", page.partition("## Extras")[2], re.MULTILINE)) == set(
        project["optional-dependencies"]
    )


def test_the_types_in_the_data_dictionary_are_what_engines_show(idc_catalogs: dict[str, Path]) -> None:
    """DuckDB's and pandas' types are as the page has them."""
    objects = str(next(idc_catalogs["day"].glob("image_sets/**/*.parquet")))
    with duckdb.connect() as connection:
        described = connection.execute(
            "DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [objects]
        ).fetchall()
    assert {name: kind for name, kind, *_ in described} == {
        c.name: ddl.DUCKDB_TYPES[c.type] for c in IMAGE_SETS.columns
    }
    frame = Catalog(str(idc_catalogs["day"])).to_pandas(columns=[column.name for column in IMAGE_SETS.columns])
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        column.name: dictionary.PANDAS_TYPES[column.type] for column in IMAGE_SETS.columns
    }


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\nb\n", "a  \nb\n", True),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n…\nd\n", "a\nd\n", True),
        ("a\n…\nd\n", "a\nb\n", False),
        ("a.c\n", "abc\n", False),
        ("a\n", "a\nb\n", False),
    ],
)
def test_output_is_compared_line_by_line(expected: str, printed: str, *, same: bool) -> None:
    """Text is taken as it is, and … stands for any lines."""
    assert same_output(expected, printed) is same


def test_a_mark_that_means_nothing_is_refused(tmp_path: Path) -> None:
    """A misspelt mark does not pass as a block that is left out."""
    page = tmp_path / "page.md"
    page.write_text("```sh runn\nfalse\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:1"):
        runnable_blocks(page)


def shown_commands() -> list[tuple[str, list[str]]]:
    """Every command of ours in a block of a page: the page's name, and the command's words."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            lines = re.findall(r"^(?:\$ |[-\d*/ ]+)?ahi-catalog +([a-z].*)$", block, re.MULTILINE)
            found += [(page.stem, shlex.split(line, comments=True)) for line in lines if "…" not in line]
    return found


@pytest.mark.parametrize(("page", "words"), shown_commands(), ids=lambda value: "-".join(value[:1]) if value else "")
def test_every_command_that_a_page_shows_is_one_that_there_is(page: str, words: list[str]) -> None:
    """Its options are known, none that it needs is missing, and each value is of the right form."""
    name, *arguments = itertools.takewhile(lambda word: word not in {">", "|", "&&"}, words)
    # The quick start has them in the settings file, which it shows.
    kept = {"catalog": "s3://my-bucket/imaging", "datastore_id": ["0" * 32]} if page == "quick-start" else {}
    cli.commands[name].make_context(name, arguments, default_map=kept)
