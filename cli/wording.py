"""Errors in the words of a shell: settings become options, and remedies become commands.

Everywhere else a message names a setting by its Python name in backquotes, and what would help by a `Remedy`
(`ahi_catalog.connectors.errors`).
"""

import re
from functools import cache
from typing import Final

import click

from ahi_catalog.connectors.errors import Remedy

_COMMANDS: Final = {
    Remedy.SYNC: "sync first: ahi-catalog sync",
    Remedy.REPAIR: "mend it with: ahi-catalog verify --repair",
    Remedy.REPAIR_METADATA: "mend it with: ahi-catalog verify --metadata --sample 1 --repair",
    Remedy.RESTART_VERIFY: "begin a new one with: ahi-catalog verify --restart",
    Remedy.POLICY: "allow what ahi-catalog iam-policy prints",
    Remedy.NO_PREFECT: "or give --no-prefect",
    Remedy.RESUME: "run again to resume",
}
_RANGE: Final = re.compile(r"(verify.* --repair) from (\S+) to (\S+)")
_NAME: Final = re.compile(r"`([a-z][a-z0-9_]*)`")


def in_shell_words(text: str, group: click.Group | None = None) -> str:
    """The text of an error, worded for who called a command; a name in backquotes that is no option stays.

    Args:
        text: Of the error.
        group: The commands, whose options settings become; None: those of the command that runs.
    """
    for remedy, words in _COMMANDS.items():
        text = text.replace(remedy.value, words)
    text = _RANGE.sub(r"\1 --from \2 --to \3", text)
    flags = _flags(group or _current_group())
    return _NAME.sub(lambda found: flags.get(found[1], found[0]), text)


def _current_group() -> click.Group:
    command = click.get_current_context().find_root().command
    assert isinstance(command, click.Group)  # noqa: S101  # what every command of ours belongs to
    return command


@cache
def _flags(group: click.Group) -> dict[str, str]:
    """The options by the names of their parameters; of several of one name, that of the command listed first."""
    flags: dict[str, str] = {}
    for command in group.commands.values():
        for param in command.params:
            if isinstance(param, click.Option) and param.name:
                flags.setdefault(param.name, max(param.opts, key=len))
    return flags
