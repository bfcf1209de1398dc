"""`ahi-catalog completion`."""

from typing import Final

import click
from click.shell_completion import shell_complete

_PROGRAM: Final = "ahi-catalog"
_VARIABLE: Final = "_AHI_CATALOG_COMPLETE"
"""The variable by which the shell's script asks click for what could come next."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> int:
    """Print the script that completes commands, options and their values in a shell.

    \b
    bash, in ~/.bashrc:
      eval "$(ahi-catalog completion bash)"
    zsh, in ~/.zshrc, after compinit:
      eval "$(ahi-catalog completion zsh)"
    fish, once:
      ahi-catalog completion fish > ~/.config/fish/completions/ahi-catalog.fish
    """
    return shell_complete(context.find_root().command, {}, _PROGRAM, _VARIABLE, f"{shell}_source")
