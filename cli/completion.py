"""`ahi-catalog completion`."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from ahi_catalog.connectors.errors import UsageError

_PROGRAM: Final = "ahi-catalog"
_VARIABLE: Final = "_AHI_CATALOG_COMPLETE"
"""The variable by which the shell's script asks click for what could come next."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the script that completes commands, options and their values in a shell.

    \b
    bash, in ~/.bashrc:
      eval "$(ahi-catalog completion bash)"
    zsh, in ~/.zshrc, after compinit:
      eval "$(ahi-catalog completion zsh)"
    fish, once:
      ahi-catalog completion fish > ~/.config/fish/completions/ahi-catalog.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"this version of click knows no completion for {shell}")
    click.echo(made(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
