"""Errors in the words of a shell."""

import logging

import pytest

from ahi_catalog.cli.main import cli, run
from ahi_catalog.cli.wording import in_shell_words
from ahi_catalog.connectors.errors import AhiCatalogError, Remedy
from ahi_catalog.connectors.settings import declared


@pytest.mark.parametrize("name", declared())
def test_a_setting_is_named_by_its_option(name: str) -> None:
    """Every one that is declared."""
    assert in_shell_words(f"check `{name}`, please", cli) == f"check --{name.replace('_', '-')}, please"


@pytest.mark.parametrize(
    ("text", "worded"),
    [
        ("mend it with `repair`", "mend it with --repair"),
        ("`start` before `end`", "--start before --to"),
        ("run `prefect server start` or `nothing_of_ours`", "run `prefect server start` or `nothing_of_ours`"),
    ],
)
def test_what_is_no_option_stays(text: str, worded: str) -> None:
    """Options have the names that the command line gives them; other code in backquotes is left as it is."""
    assert in_shell_words(text, cli) == worded


@pytest.mark.parametrize("remedy", Remedy)
def test_a_remedy_is_a_command_or_an_option_that_there_is(remedy: Remedy) -> None:
    """Each has words of its own, without the neutral ones."""
    worded = in_shell_words(str(AhiCatalogError("this is wrong", remedy=remedy)), cli)
    assert worded.startswith("this is wrong; ")
    assert remedy.value not in worded
    [*_, command] = worded.split("ahi-catalog ")
    words = command.split()
    options = {
        opt for each in cli.commands.values() for param in each.params for opt in (*param.opts, *param.secondary_opts)
    }
    assert worded.endswith(("--no-prefect", "run again to resume")) or words[0] in cli.commands
    assert {word for word in words if word.startswith("--")} <= options


def test_nobody_is_told_to_run_again_what_is_tried_again_by_itself() -> None:
    """The remedy of a failure that may pass is left out there, and any other stays."""
    assert AhiCatalogError("it is away", remedy=Remedy.RESUME).while_retrying == "it is away"
    assert str(Remedy.REPAIR) in AhiCatalogError("it is damaged", remedy=Remedy.REPAIR).while_retrying


def test_a_command_tells_its_errors_and_warnings_so(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, in the error's own line and in what is logged."""
    needed = ["--catalog", "c", "--datastore-id", "0" * 32, "--no-prefect"]
    assert run(["sync", *needed, "--keep-text"]) == 2
    assert capsys.readouterr().err == "Error: --keep-text and --shift-dates go with --phi pseudonymize\n"
    logging.getLogger("ahi_catalog").warning("lower `rate`")
    assert capsys.readouterr().err == "WARNING lower --rate\n"
