"""ahi-catalog.toml: the template names every setting and no other; flags come before variables before the file."""

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from ahi_catalog.cli.main import cli, run
from ahi_catalog.cli.settings_file import SETTINGS_FILE, check_variables, read_settings, template
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.phi_key import VARIABLE
from ahi_catalog.connectors.settings import declared

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def filled_in() -> str:
    """The template with every setting taken in."""
    lines = template(cli).splitlines()
    return "\n".join(line.removeprefix("# ") if " = " in line else line for line in lines)


def options() -> dict[str, set[str]]:
    """The long names of the options of each command."""
    return {
        name: {
            max(option.opts, key=len).removeprefix("--")
            for option in command.params
            if isinstance(option, click.Option)
        }
        for name, command in cli.commands.items()
    }


def test_the_template_names_every_option_that_is_a_setting() -> None:
    """Each option of a command is in the template, but for ranges, forms of output, the demo and the like."""
    known = set().union(*(names for command, names in options().items() if command not in {"demo", "emulate"}))
    once = {"json", "debug", "from", "to", "out", "format", "watch", "for", "only", "part", "repair", "restart"}
    once |= {"since", "file", "param", "yes", "forget", "overwrite"}
    assert tomllib.loads(filled_in()).keys() == known - once


def test_every_example_in_the_template_is_taken(folder: Path) -> None:
    """With every line taken in, each command gets its settings, and each value is one that its option accepts."""
    (folder / SETTINGS_FILE).write_text(filled_in(), encoding="utf-8")
    for name, given in read_settings(cli).items():
        parameters = {parameter.name: parameter for parameter in cli.commands[name].params}
        for key, value in given.items():
            context = click.Context(cli.commands[name])
            assert parameters[key].type_cast_value(context, value) is not None
            assert key.replace("_", "-") in options()[name]


@pytest.mark.parametrize("name", declared())
def test_every_setting_is_an_option_a_variable_and_a_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each by its one name, with the one description and default, and the same value comes of all of them."""
    setting = declared()[name]
    commands = (its for its in ("watch", "metadata") if name in {param.name for param in cli.commands[its].params})
    command = next(commands)
    (option,) = (param for param in cli.commands[command].params if param.name == name)
    assert isinstance(option, click.Option)
    assert (option.help or "").startswith(setting.description)
    assert option.to_info_dict()["default"] in {setting.default, ()}
    flag, variable = f"--{name.replace('_', '-')}", f"AHI_CATALOG_{name.upper()}"
    choices = option.type.choices if isinstance(option.type, click.Choice) else [None]
    value = choices[0] or setting.example or setting.default or "1" * 12
    needed = ["--catalog", "c"] * (name != "catalog") + ["--datastore-id", "0" * 32] * (name != "datastore_id")

    def given(*arguments: str) -> Any:
        settings = read_settings(cli).get(command)
        return cli.commands[command].make_context(command, [*needed, *arguments], default_map=settings).params[name]

    by_flag = given(flag) if option.is_flag else given(flag, str(value))
    monkeypatch.setenv(variable, "1" if option.is_flag else str(value))
    assert given() == by_flag
    monkeypatch.delenv(variable)
    (folder / SETTINGS_FILE).write_text(f"{name} = {json.dumps(True if option.is_flag else value)}\n", "utf-8")
    assert given() == by_flag


def test_metadata_is_a_setting_of_what_goes_on_and_asked_for_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file and as a variable: watch and serve read it then; plan and verify do what they did."""
    needed = ["--catalog", "c", "--datastore-id", "0" * 32]

    def readers() -> set[str]:
        settings = read_settings(cli)
        made = {
            name: cli.commands[name].make_context(name, [*needed], default_map=settings.get(name))
            for name in ("plan", "verify", "watch", "serve")
        }
        return {name for name, context in made.items() if context.params["metadata"]}

    assert readers() == set()
    (folder / SETTINGS_FILE).write_text("metadata = true\n", "utf-8")
    assert readers() == {"watch", "serve"}
    (folder / SETTINGS_FILE).unlink()
    monkeypatch.setenv("AHI_CATALOG_METADATA", "true")
    assert readers() == {"watch", "serve"}


def test_an_untouched_template_sets_nothing(folder: Path) -> None:
    """As it is written, every setting is a comment."""
    assert run(["init"]) == 0
    assert not any(read_settings(cli).values())
    assert tomllib.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")) == {}


def test_init_never_writes_over_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second time it ends with code 2 and leaves the file as it is."""
    (folder / SETTINGS_FILE).write_text("rate = 3.0\n", encoding="utf-8")
    assert run(["init"]) == 2
    assert "stays as it is" in capsys.readouterr().err
    assert (folder / SETTINGS_FILE).read_text(encoding="utf-8") == "rate = 3.0\n"


def test_a_setting_goes_to_the_option_of_its_name(folder: Path) -> None:
    """`start` is sync's --start, never the range that a backfill has to be told; hyphen or underscore is the same."""
    (folder / SETTINGS_FILE).write_text('start = "2024-05-01"\nlook_back = "2d"\n', encoding="utf-8")
    settings = read_settings(cli)
    assert settings["sync"] == {"start": "2024-05-01", "look_back": "2d"}
    assert not settings["backfill"]


def test_a_range_is_no_setting(folder: Path) -> None:
    """What a command has to be told each time is refused in the file."""
    (folder / SETTINGS_FILE).write_text('from = "2024-05-01"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="from"):
        read_settings(cli)


def test_the_demo_keeps_away_from_the_real_catalog(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the file nor a variable moves the demo's rows into another catalog."""
    (folder / SETTINGS_FILE).write_text('catalog = "s3://real/catalog"\n', encoding="utf-8")
    monkeypatch.setenv("AHI_CATALOG_CATALOG", "s3://real/catalog")
    assert "demo" not in read_settings(cli)
    context = cli.commands["demo"].make_context("demo", [], default_map=None)
    assert context.params["catalog"] == "demo-catalog"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(("1", "2", "3"), 1.0), ((None, "2", "3"), 2.0), ((None, None, "3"), 3.0), ((None, None, None), 25.0)],
    ids=["flag", "variable", "file", "default"],
)
def test_flags_come_before_variables_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str | None, ...], expected: float
) -> None:
    """Each overrides what comes after it, down to the built-in default."""
    flag, variable, line = given
    if line:
        (folder / SETTINGS_FILE).write_text(f"rate = {line}\n", encoding="utf-8")
    if variable:
        monkeypatch.setenv("AHI_CATALOG_RATE", variable)
    arguments = ["--catalog", "c", "--datastore-id", "0" * 32, *(["--rate", flag] if flag else [])]
    context = cli.commands["sync"].make_context("sync", arguments, default_map=read_settings(cli).get("sync"))
    assert context.params["rate"] == expected


def test_a_misspelled_variable_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patients' data is not kept because `AHI_CATALOG_PHI` was misspelled: one line names both, and no value."""
    monkeypatch.setenv("AHI_CATALOG_PHY", "drop-it-all")
    assert run(["status", "--catalog", str(folder / "catalog")]) == 2
    said = capsys.readouterr().err
    assert (
        said == "Error: the variable AHI_CATALOG_PHY sets nothing that a command knows; did you mean AHI_CATALOG_PHI?\n"
    )


def test_a_variable_has_the_name_of_its_flag() -> None:
    """AHI_CATALOG_JSON for --json, for every option that has one; --no-unknown-fields is not --unknown-fields."""
    options = (param for command in [cli, *cli.commands.values()] for param in command.params if param.envvar)
    for option in options:
        assert option.envvar in {
            f"AHI_CATALOG_{flag.removeprefix('--').replace('-', '_').upper()}"
            for flag in option.opts
            if flag.startswith("--")
        }


def test_every_variable_that_is_read_is_known() -> None:
    """Those of all options, of the key, of prefect.yaml; other people's variables are no matter of ours."""
    others = ["AWS_PROFILE", "_AHI_CATALOG_COMPLETE"]
    of_kubernetes = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"]
    others += [f"AHI_CATALOG_{service}{name}" for service in ("", "DASK_") for name in of_kubernetes]
    options = (param for command in [cli, *cli.commands.values()] for param in command.params)
    names = [str(param.envvar) for param in options if param.envvar]
    in_deployments = re.findall(r"\$(AHI_CATALOG_\w+)", (ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    assert len(in_deployments) > 3
    check_variables(cli, [*names, VARIABLE, *in_deployments, *others])
    for unknown, advice in (("XYZZY", "unset it"), ("phi", "AHI_CATALOG_PHI"), ("EXPORT", "EXPORT sets nothing")):
        with pytest.raises(UsageError, match=advice):
            check_variables(cli, [f"AHI_CATALOG_{unknown}"])


def test_one_setting_is_not_set_twice(folder: Path) -> None:
    """With hyphens and with underscores: neither wins."""
    (folder / SETTINGS_FILE).write_text('look-back = "1d"\nlook_back = "2d"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="twice: look_back"):
        read_settings(cli)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "2024-13-01", ""])
def test_a_moment_that_there_is_not_is_wrong_usage(moment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where only its zone takes it off the calendar."""
    assert run(["sync", "--catalog", "c", "--datastore-id", "0" * 32, "--start", moment]) == 2
    assert "a date is 2026-05-01" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["0", "1"])
def test_the_variable_for_debugging_is_read_as_its_flag(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    """0 is no; 1 shows where an error comes from."""
    monkeypatch.setenv("AHI_CATALOG_DEBUG", given)
    assert run(["status", "--catalog", str(folder / "none")]) == 2
    assert (len(capsys.readouterr().err.splitlines()) > 1) is (given == "1")


def test_every_command_on_a_catalog_can_be_told_whose_bucket_it_is() -> None:
    """All that open one, but for the demo, which makes its own here."""
    for name, flags in options().items():
        if "catalog" in flags and name not in {"demo", "iam-policy"}:
            assert "bucket-owner" in flags, name


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rate = [2, 3]", "valid number"),
        ("rate = true", "valid number"),
        ('rate = "fast"', "valid number"),
        ("rate = 0", "greater than 0"),
        ("burst = 1.5", "valid integer"),
        ("burst = true", "valid integer"),
        ("catalog = 5", "valid string"),
        ("datastore-id = [5]", "valid string"),
        ('prefect = "maybe"', "not a valid boolean"),
        ("prefect = 1", "true or false"),
        ("sse-s3 = 1", "true or false"),
        ("look-back = 1.5", "a duration is a number and a unit"),
        ("start = 2024", "a date is"),
        ("max-attempts = 0", "greater than or equal to 1"),
        ('phi = ["drop"]', "is not one of"),
    ],
)
def test_a_setting_of_another_type_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    """Nothing is made of it, and it is not overlooked: what the quota allows is not to be guessed."""
    (folder / SETTINGS_FILE).write_text(f"{line}\n", encoding="utf-8")
    key = line.partition(" ")[0]
    needed = {"catalog": ["--catalog", "c"], "datastore-id": ["--datastore-id", "0" * 32]}
    given = [each for name, flag in needed.items() if name != key for each in flag]
    assert run(["sync", *given, "--no-prefect"] if key != "prefect" else ["sync", *given]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "That is from ahi-catalog.toml." in said


def test_a_misspelled_key_is_told_what_is_near(folder: Path) -> None:
    """As a variable is; and it is named as it is written."""
    (folder / SETTINGS_FILE).write_text("Look_Bakc = 5\n", encoding="utf-8")
    with pytest.raises(UsageError, match="Look_Bakc; did you mean look-back"):
        read_settings(cli)


def test_a_wrong_value_is_told_where_it_came_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file or the variable; what a flag says needs no such word."""
    command = ["sync", "--catalog", "c", "--datastore-id", "0" * 32]
    (folder / SETTINGS_FILE).write_text('look-back = "soon"\n', encoding="utf-8")
    assert run(command) == 2
    assert "That is from ahi-catalog.toml." in capsys.readouterr().err
    monkeypatch.setenv("AHI_CATALOG_LOOK_BACK", "later")
    assert run(command) == 2
    assert "That is from AHI_CATALOG_LOOK_BACK." in capsys.readouterr().err
    assert run([*command, "--look-back", "never"]) == 2
    assert "That is from" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "doctor", "serve"])
def test_one_data_store_is_one(folder: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Where a command takes one, several by the file or by flags are refused, and a flag chooses."""
    (folder / SETTINGS_FILE).write_text(f'datastore-id = ["{"1" * 32}", "{"2" * 32}"]\n', encoding="utf-8")
    settings = read_settings(cli)[command]
    assert run([command, "--catalog", "c"]) == 2
    said = capsys.readouterr().err
    assert "one data store here, not 2: choose one by this flag\nThat is from ahi-catalog.toml.\n" in said
    assert run([command, "--catalog", "c", "--datastore-id", "1" * 32, "--datastore-id", "2" * 32]) == 2
    arguments = ["--catalog", "c", "--datastore-id", "3" * 32]
    context = cli.commands[command].make_context(command, arguments, default_map=settings)
    assert context.params["datastore_id"] == "3" * 32


def test_dates_of_toml_are_dates(folder: Path) -> None:
    """TOML's own date and time forms work as well as text."""
    (folder / SETTINGS_FILE).write_text("start = 2024-05-01T12:00:00Z\n", encoding="utf-8")
    arguments = ["--catalog", "c", "--datastore-id", "0" * 32]
    context = cli.commands["sync"].make_context("sync", arguments, default_map=read_settings(cli)["sync"])
    assert context.params["start"] == datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_a_broken_file_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not parse ends with code 2 and says where."""
    (folder / SETTINGS_FILE).write_text("rate = \n", encoding="utf-8")
    assert run(["status"]) == 2
    assert "cannot be read" in capsys.readouterr().err
