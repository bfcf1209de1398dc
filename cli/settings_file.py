"""`ahi-catalog.toml`: settings for every command, and `ahi-catalog init`, which writes one to fill in.

What no command knows is refused, in the file as in a variable: a misspelled `phi` must not keep what it was to drop.
A key is an option's long name. What is made up or stands in the way of a stated choice (the demo and the embedded
service, ranges and forms of output) is no setting. The template derives from the commands, so it names every
setting that there is, and no other.
"""

import difflib
import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from ahi_catalog.cli.options import PREFIX
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import declared

SETTINGS_FILE: Final = "ahi-catalog.toml"

_WITHOUT_SETTINGS: Final = frozenset({"demo", "emulate", "init", "completion"})
_NO_SETTINGS: Final = frozenset(
    {"help", "debug", "json", "from", "to", "out", "format", "watch", "for", "only", "repair", "restart", "part"}
    | {"since", "file", "param", "yes", "forget", "overwrite"}
)
_VARIABLES_ELSEWHERE: Final = frozenset({"AHI_CATALOG_PHI_KEY", "AHI_CATALOG_WORK_POOL"})
"""Variables that set no option: the key of the pseudonyms (connectors/phi_key.py), and what prefect.yaml reads."""
_KUBERNETES: Final = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""What follows the prefix in variables that Kubernetes gives a pod beside a Service named ahi-catalog, or
ahi-catalog-something (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)."""
_HEAD: Final = """\
# Settings of ahi-catalog, read from the folder in which it is started. Take the # away from what you need.
# A flag on the command line comes first, then a variable (AHI_CATALOG_RATE for rate), then this file.
# Credentials, regions and endpoints are boto3's own and do not belong here.
"""


def read_settings(group: click.Group) -> dict[str, dict[str, Any]]:
    """Defaults for the commands from the settings file, where there is one.

    Raises:
        UsageError: It cannot be read, or sets what no command knows. Values are checked by the command that runs.
    """
    try:
        text = Path(SETTINGS_FILE).read_text(encoding="utf-8")
        written = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{SETTINGS_FILE} cannot be read: {error}") from None
    known = {name: dict(_settable(command)) for name, command in _commands(group)}
    every = {key for keys in known.values() for key in keys}
    if unknown := sorted(key for key in written if _name(key) not in every):
        near = difflib.get_close_matches(_name(unknown[0]).lower(), every, n=1)
        advice = f"did you mean {near[0]}?" if near else "`ahi-catalog init` names what there is; there are no sections"
        raise UsageError(f"{SETTINGS_FILE} sets what no command takes from it: {', '.join(unknown)}; {advice}")
    settings = {_name(key): value for key, value in written.items()}
    if twice := sorted(key for key in written if key != _name(key) and _name(key) in written):
        raise UsageError(f"{SETTINGS_FILE} sets the same twice: {', '.join(twice)}, once with hyphens; keep one")
    return {
        # click reads the text of an option that may be repeated as a list of letters.
        name: {
            str(keys[key].name): [value] if keys[key].multiple and not isinstance(value, list) else value
            for key, value in settings.items()
            if key in keys
        }
        for name, keys in known.items()
    }


def check_variables(group: click.Group, variables: Iterable[str]) -> None:
    """See that each variable of ours is one that sets something.

    Args:
        group: The commands.
        variables: Names of the environment's variables, whosever they are.

    Raises:
        UsageError: One begins as ours do, and sets nothing; it is named, and one that is near.
    """
    commands = [group, *group.commands.values()]
    options = {param.envvar for command in commands for param in command.params if isinstance(param.envvar, str)}
    known = {name.removeprefix(PREFIX) for name in options | _VARIABLES_ELSEWHERE}
    given = {name.removeprefix(PREFIX) for name in variables if name.startswith(PREFIX)}
    for unknown in sorted(name for name in given - known if not _KUBERNETES.fullmatch(name)):
        near = difflib.get_close_matches(unknown.upper(), known, n=1)
        advice = f"did you mean {PREFIX}{near[0]}?" if near else "unset it"
        raise UsageError(f"the variable {PREFIX}{unknown} sets nothing that a command knows; {advice}")


def _name(key: str) -> str:
    """The option's, of a key with hyphens or underscores."""
    return key.replace("_", "-")


def template(group: click.Group) -> str:
    """A settings file in which every setting is named, told about, and commented out."""
    return _HEAD + "".join(
        f"\n{_comment(option.help or '', users)}\n# {key} = {_literal(key, option)}\n"
        for key, (option, users) in _settings(group).items()
    )


def _default(option: click.Option) -> Any:
    found = option.to_info_dict()["default"]
    return found() if callable(found) else found


def reference(group: click.Group) -> str:
    """Every setting as a row of a Markdown table, for docs/settings.md, which a test keeps so."""
    lines = ["| key, and flag | variable | default | what it is | commands |", "|---|---|---|---|---|"]
    for key, (option, users) in _settings(group).items():
        default = _default(option)
        told = "" if default in (None, (), False, "") else f"`{default}`"
        help_text = (option.help or "").partition("  [default")[0].replace("|", "&#124;")
        lines.append(f"| `{key}` | `{option.envvar or ''}` | {told} | {help_text} | {', '.join(users)} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.pass_context
def init(context: click.Context) -> None:
    """Write ahi-catalog.toml, a settings file to fill in, into the current folder; never over one that is there."""
    root = context.find_root().command
    assert isinstance(root, click.Group)  # noqa: S101  # what `init` is a command of
    try:
        with Path(SETTINGS_FILE).open("x", encoding="utf-8") as file:
            file.write(template(root))
    except FileExistsError:
        raise UsageError(f"{SETTINGS_FILE} is there already, and stays as it is") from None
    except OSError as error:
        raise UsageError(f"{SETTINGS_FILE} cannot be written here: {error.strerror}") from None
    click.echo(f"Wrote {SETTINGS_FILE}; take the # away from what you need.", err=True)


def _settings(group: click.Group) -> dict[str, tuple[click.Option, list[str]]]:
    """By key: the option of the first command that has it, and the names of all that do."""
    found: dict[str, tuple[click.Option, list[str]]] = {}
    for name, command in _commands(group):
        for key, option in _settable(command):
            found.setdefault(key, (option, []))[1].append(name)
    return found


def _commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    return ((name, command) for name, command in group.commands.items() if name not in _WITHOUT_SETTINGS)


def is_setting(key: str) -> bool:
    """Whether an option's long name may stand in the settings file."""
    return key not in _NO_SETTINGS


def _settable(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    for option in command.params:
        if isinstance(option, click.Option):
            key = max(option.opts, key=len).removeprefix("--")
            if is_setting(key) and option.envvar:
                yield key, option


def _comment(help_text: str, users: list[str]) -> str:
    text = f"{help_text} ({', '.join(users)})"
    return textwrap.fill(text, 110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _literal(key: str, option: click.Option) -> str:
    """The default, or where there is none a value of the right form. TOML writes these as JSON does."""
    value = _default(option)
    if value is None or value == ():
        known = declared().get(key.replace("-", "_"))
        choices = option.type.choices if isinstance(option.type, click.Choice) else ()
        value = next(iter(choices), None) or (known and known.example) or option.metavar or False  # a flag
        value = [value] if option.multiple else value
    return json.dumps(value)
