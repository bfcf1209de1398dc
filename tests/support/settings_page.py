"""The table of docs/settings.md, made from the commands: `make docs` writes it, a test keeps it so."""

from pathlib import Path
from typing import Final

from ahi_catalog.cli.main import cli
from ahi_catalog.cli.settings_file import reference

PAGE: Final = Path(__file__).parents[2] / "docs" / "settings.md"
_BEGIN: Final = "| key, and flag |"
_END: Final = "\n## Extras"


def render() -> str:
    """The page as it is to be: its own words around the table."""
    text = PAGE.read_text(encoding="utf-8")
    return text[: text.index(_BEGIN)] + reference(cli) + text[text.index(_END) :]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
