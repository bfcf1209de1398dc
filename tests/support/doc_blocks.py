"""The code blocks of a page, and which of them a test runs.

A block runs when its info string says so: ```` ```sh run ````, ```` ```python run ````, ```` ```sql run ````, and
```` ```cron run ````, whose commands are run now. ```` ```toml run ```` is the settings file of what follows. A block
```` ```text output ```` after it is what it prints, where a line of ``…`` stands for any lines. Readers see none of
this: Markdown shows a block by its first word alone.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EXAMPLE_ID: Final = "0123456789abcdef0123456789abcdef"
"""The data store of the pages' examples, which they also call ID."""

_LANGUAGES: Final = frozenset({"sh", "python", "sql", "cron", "toml"})

_BLOCK = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A block to run.

    Attributes:
        language: ``sh``, ``python``, ``sql``, ``cron`` or ``toml``.
        text: What stands in it.
        line: Of the page, where it begins.
        output: What it prints, as the page says; None where the page says nothing.
    """

    language: str
    text: str
    line: int
    output: str | None = None


def runnable_blocks(page: Path) -> list[Block]:
    """The blocks of a page that a test runs, in order.

    Raises:
        ValueError: A mark that is none of ours, or an output that follows no block.
    """
    found: list[Block] = []
    content = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(content):
        language, _, mark = match["info"].strip().partition(" ")
        line = content.count("\n", 0, match.start()) + 1
        if mark == "run" and language in _LANGUAGES:
            found.append(Block(language, match["text"], line))
        elif (language, mark) == ("text", "output") and found and found[-1].output is None:
            found[-1] = Block(found[-1].language, found[-1].text, found[-1].line, match["text"])
        elif mark:
            raise ValueError(f"{page.name}:{line}: a block is marked `run` or, after one that runs, `output`")
    return found


def commands_of(block: Block) -> str:
    """What a shell runs of a block: of cron's lines the commands, with ID standing for the examples' data store."""
    text = re.sub(r"^(?:[-\d*/]+ +){5}", "", block.text, flags=re.MULTILINE) if block.language == "cron" else block.text
    return text.replace("--datastore-id ID", f"--datastore-id {EXAMPLE_ID}")


def same_output(expected: str, printed: str) -> bool:
    """Whether what was printed is what the page says, blanks at the ends of lines aside."""
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line.strip() == "…" else re.escape(line.rstrip()) + r"[ ]*\n"
        for line in expected.strip("\n").splitlines()
    )
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None
