"""`query`, `changes` and the view `runs` as a user meets them; parameters, files, stdin, places of errors."""

import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ahi_catalog import Catalog
from ahi_catalog.cli.main import run
from ahi_catalog.connectors.errors import QueryError, UsageError
from ahi_catalog.connectors.storage import LocalStore
from ahi_catalog.connectors.storage.base import Entry
from tests.support.world import BORN, TODAY, World

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(world: World, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command on a catalog of five image sets: its exit code, stdout and stderr."""
    world.fill(5)
    world.sync()
    capsys.readouterr()

    def asked(command: str, *arguments: str) -> tuple[int, str, str]:
        code = run([command, *arguments, "--catalog", str(world.catalog)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return asked


def test_sql_comes_from_an_argument_a_file_or_stdin(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answer each way; two ways at once, none, or a file that is no text are wrong usage."""
    sql = "select count(*) as n\n-- of all\nfrom image_sets\n"
    (tmp_path / "count.sql").write_text(sql)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    monkeypatch.setattr("sys.stdin", io.StringIO(sql))
    answers = [ask("query", "--json", *given) for given in ([sql], ["-"], ["--file", str(tmp_path / "count.sql")])]
    assert [(code, json.loads(out)) for code, out, _ in answers] == [(0, [{"n": 5}])] * 3
    for wrong in ([], [sql, "--file", str(tmp_path / "count.sql")], ["--file", str(tmp_path / "binary")]):
        assert ask("query", *wrong)[0] == 2


@pytest.mark.parametrize(
    ("sql", "line", "under"),
    [
        ("selct 1", "line 1: selct 1", "selct"),
        ("select count(*)\nfrom image_sets\nwher x = 1 y", "line 3: wher x = 1 y", "x"),
        ("select 'é' as e,\n  serie_modality from image_sets", "line 2:   serie_modality from image_sets", "serie"),
        ("select 1,\t2 from image_set", "line 1: select 1, 2 from image_set", "image_set"),
        ("select 'é', foo(1)", "line 1: select 'é', foo(1)", "foo"),
    ],
)
def test_an_error_is_shown_at_its_place(ask: Ask, sql: str, line: str, under: str) -> None:
    """The line of the query, and a caret below what DuckDB stumbled over; not every column that there is."""
    code, _, said = ask("query", sql)
    assert code == 2
    *_, shown, caret = said.splitlines()
    assert (shown, caret.strip()) == (line, "^")
    assert shown[len(caret) - 1 :].startswith(under)
    assert "accession_number" not in said


def test_the_place_in_a_long_line_is_cut_out(ask: Ask) -> None:
    """Sixty characters on each side are shown."""
    _, _, said = ask("query", f"select {'1 + ' * 60} nothing {'+ 1 ' * 60} from image_sets")
    *_, shown, caret = said.splitlines()
    assert len(shown) < 140
    assert shown[len(caret) - 1 :].startswith("nothing")


@pytest.mark.parametrize(
    ("sql", "under", "kind"),
    [
        ("select count(*) from image_sets where study_date > 'last week'", "'last week'", "date"),
        ("select date '2026-02-30'", "date '2026", "date"),
        ("select cast('é' as int)", "cast('é'", "number"),
        ("select 'é' from image_sets where version = $v", "$v", "number"),
    ],
)
def test_a_value_that_is_none_is_shown_at_its_place(ask: Ask, sql: str, under: str, kind: str) -> None:
    """A literal that is no date or number is the query's mistake; the message does not repeat it."""
    code, _, said = ask("query", *(["--param", "v=one"] if "$v" in sql else []), sql)
    assert code == 2
    message, shown, caret = said.splitlines()
    assert message == f"Error: this is no {kind}"
    assert shown[len(caret) - 1 :].startswith(under)


def test_two_forms_at_once_are_refused(ask: Ask) -> None:
    """In a line, for every command that has both options."""
    for command in (["query", "select 1"], ["changes", "--since", "2024-01-01"], ["status"]):
        code, out, said = ask(*command, "--json", "--format", "openmetrics" if command == ["status"] else "csv")
        assert (code, out, said) == (2, "", "Error: give --json or --format, not both\n")


def test_numbers_of_a_column_have_alike_digits(ask: Ask) -> None:
    """Enough for four of the least value that count, and no more than any of them has."""
    values = "from (values (0.0046566, 5.0, 1e20, 3), (12345.5, 1.25, 0.1, null)) t(a, b, c, d)"
    cells = [line.split() for line in ask("query", values)[1].splitlines() if line.strip(" ─")]
    assert cells == [["a", "b", "c", "d"], ["0.004657", "5.00", "1e+20", "3"], ["12,345.500000", "1.25", "0.1"]]


def test_objects_are_listed_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the rows, and to tell of those that are lost."""
    listed: list[str] = []
    entries = LocalStore.entries

    def noting(store: LocalStore, prefix: str) -> Iterable[Entry]:
        listed.append(prefix)
        return entries(store, prefix)

    monkeypatch.setattr(LocalStore, "entries", noting)
    assert ask("query", "from image_sets")[0] == 0
    assert listed == ["image_sets/"]


@pytest.mark.parametrize(
    ("sql", "near"),
    [
        ("from studie", "did you mean studies"),
        ("from image_set", "did you mean image_sets?"),
        ("select series_modalty from image_sets", "did you mean series_modality"),
        ("select manufacturer from image_sets", "it is a column of series"),
        (
            "from xyz",
            "there are image_sets, studies, patients, conflicts, changes, storage, removals, series, instances, runs",
        ),
    ],
)
def test_names_like_one_that_is_not_there_are_told(ask: Ask, sql: str, near: str) -> None:
    """A name that is nearly right is told; where none is, the tables and views are."""
    assert near in ask("query", sql)[2]


def test_parameters_are_values_and_never_sql(ask: Ask) -> None:
    """A value stands for its name whatever quotes it has, as text, number or day."""
    sql = "select $name as name, count(*) as n from image_sets where created_date = $day and version = $version"
    given = ["--param", "name=O'Brien' or true --", "--param", f"day={BORN:%Y-%m-%d}", "--param", "version=1"]
    assert json.loads(ask("query", "--json", *given, sql)[1]) == [{"name": "O'Brien' or true --", "n": 5}]
    assert "a parameter without a value: $day" in ask("query", sql)[2]
    assert "there is no $x in the query" in ask("query", "--param", "x=1", "select 1")[2]
    assert ask("query", "--param", "day", sql)[0] == 2


def test_runs_are_asked_like_a_table(ask: Ask, world: World) -> None:
    """One row a run report, of syncs and verifies alike; a query that does not name it reads none of them."""
    world.verify()
    sql = "select flow, outcome, new, unrepaired, started_at from runs order by flow"
    moment = f"{TODAY:%Y-%m-%dT%H:%M:%S}Z"
    assert json.loads(ask("query", "--json", sql)[1]) == [
        {"flow": "sync", "outcome": "done", "new": 5, "unrepaired": None, "started_at": moment},
        {"flow": "verify", "outcome": "done", "new": 0, "unrepaired": 0, "started_at": moment},
    ]
    for report in world.catalog.glob("_state/*/runs/*.json"):
        report.write_text("{")
    assert ask("query", "select 1 as one")[0] == 0
    assert "the run report" in ask("query", "from runs")[2]


def test_changes_are_listed_with_where_to_go_on(ask: Ask, world: World) -> None:
    """A removal is told; the next question begins where this one was complete."""
    assert ask("changes", "--since", "2024-06-01", "--format", "csv")[1].splitlines()[1:] == []
    gone = str(world.service.rows(world.datastore_id)[0]["imageSetId"])
    world.service.delete(world.datastore_id, gone)
    world.backfill(BORN, TODAY)
    code, out, _ = ask("changes", "--since", "2024-06-01", "--json")
    document = json.loads(out)
    assert code == 0
    assert [(its["change"], its["image_set_id"]) for its in document["changes"]] == [("removed", gone)]
    assert f"next time: --since {document['complete_to']}" in ask("changes", "--since", "2024-06-01")[2]
    assert len(json.loads(ask("changes", "--since", "2020-01-01", "--json")[1])["changes"]) == 5


def test_a_notebook_has_parameters_and_places_too(ask: Ask, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any value of Python's is a parameter; an error has its place and not the query; Polars is the user's own."""
    del ask
    catalog = Catalog(world.catalog)
    counted = catalog.query("select count(*) as n from image_sets where created_at >= $since", {"since": BORN})
    assert counted.arrow()["n"].to_pylist() == [5]
    with pytest.raises(QueryError) as caught:
        catalog.query("select 'secret', nothing from image_sets").arrow()
    assert caught.value.place == 17
    assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match="pip install polars"):
        counted.pl()


@pytest.mark.parametrize("answer", [True, False])
def test_state_forgets_what_it_is_told_to(
    ask: Ask, world: World, monkeypatch: pytest.MonkeyPatch, *, answer: bool
) -> None:
    """A range goes out of the coverage when a person says so, rows stay, and the next sync reads it again."""
    ranged = ["forget", "--datastore-id", world.datastore_id, "--from", "2024-02-01", "--to", "2024-03-01T00:00:00.5"]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert "give --yes" in ask("state", *ranged)[2]
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y" if answer else "n")
    ask("state", *ranged)
    [shown] = json.loads(ask("state", "show", "--json")[1])["datastores"]
    start, end = "2024-01-01T00:00:00Z", f"{TODAY - world.settings.settle:%Y-%m-%dT%H:%M:%SZ}"
    holed = [[start, "2024-02-01T00:00:00Z"], ["2024-03-01T00:00:01Z", end]]
    assert shown["coverage"] == (holed if answer else [[start, end]])
    assert shown["populated"]
    assert world.sync().new == 0
    assert json.loads(ask("state", "show", "--json")[1])["datastores"][0]["coverage"] == [[start, end]]


def test_changes_say_where_they_are_not_complete(ask: Ask, world: World) -> None:
    """After a range was forgotten, the next question begins with it; a sync makes the list whole again."""
    world_id = ["--datastore-id", world.datastore_id]
    ask("state", "forget", *world_id, "--from", "2024-02-01", "--to", "2024-03-01", "--yes")
    said = ask("changes", "--since", "2024-06-01")[2]
    assert "Not complete: a range from 2024-02-01T00:00:00Z on is not covered" in said
    world.sync()
    assert "Complete up to" in ask("changes", "--since", "2024-06-01")[2]


def test_state_says_what_it_cannot_forget(ask: Ask, world: World) -> None:
    """What is not covered, a range without an end, a data store that is not there; show has no range."""
    store = ["--datastore-id", world.datastore_id]
    years = ["--from", "1999-01-01", "--to", "2000-01-01"]
    assert "is covered" in ask("state", "forget", *store, *years)[1]
    assert ask("state", "forget", *store, "--from", "2024-01-01")[0] == 2
    assert ask("state", "forget", "--datastore-id", "z" * 32, *years)[0] == 2
    assert ask("state", "show", *years)[0] == 2
    code, out, _ = ask("state", "show")
    assert code == 0
    assert "has objects" in out
