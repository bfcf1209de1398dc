"""Showing something again and again on a terminal."""

from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live


def keep_showing(make: Callable[[], RenderableType], wait: Callable[[], None], console: Console | None = None) -> None:
    """Show what is made, in place, each time after waiting; ends when one of the two raises.

    What was shown last stays on the terminal.

    Args:
        make: What to show now.
        wait: Until it is made again.
        console: Where; stdout by default.
    """
    with Live(make(), console=console or Console(), auto_refresh=False) as live:
        live.refresh()
        while True:
            wait()
            live.update(make(), refresh=True)
