"""The shape of the project: which way imports point, and what pure modules may not do."""

import ast
import graphlib
import re
from collections.abc import Collection
from pathlib import Path

import pytest

from ahi_catalog.cli.main import cli

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "schemas": set(),
    "connectors": {"schemas"},
    "pipeline": {"connectors", "schemas"},
    "flows": {"pipeline", "connectors", "schemas"},
    "emulator": {"schemas"},
    "report": {"pipeline", "connectors", "schemas"},
    "doctor": {"pipeline", "connectors", "schemas"},
    "cli": {"flows", "pipeline", "report", "doctor", "emulator", "connectors", "schemas"},
}
"""The rooms, and the rooms that each may import beside itself (docs/design.md)."""
MODULES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter", "sleep"}
PURE = [
    *(ROOT / "schemas").rglob("*.py"),
    *(
        ROOT / "connectors" / name
        for name in ("windows.py", "rows.py", "settings.py", "errors.py", "endpoints.py", "iam.py")
    ),
    *(ROOT / "connectors/healthimaging" / name for name in ("pages.py", "scan.py")),
    *(
        ROOT / "connectors/catalog" / f"{name}.py"
        for name in ("layout", "merge", "parquet", "checkpoint", "verification", "description")
    ),
    ROOT / "connectors/glue/table.py",
    *(ROOT / "report" / f"{name}.py" for name in ("suppression", "history")),
    *(ROOT / "pipeline/verify" / name for name in ("comparison.py", "findings.py")),
    *(ROOT / "pipeline" / name for name in ("scan_scheduler.py", "buffer.py", "planning.py", "estimate.py")),
    *(ROOT / "report/page").glob("*.py"),
]


def imports(path: Path) -> set[str]:
    """The modules that a file imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imported_modules(path: Path, known: Collection[str]) -> set[str]:
    """Those of the known modules that a file imports, a package only where a name of its own is asked for."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in known else node.module for full in within.values()}
    return found & set(known)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_those_below_it_alone(room: str) -> None:
    """Arrows point one way, lazy imports counted."""
    for path in (ROOT / room).rglob("*.py"):
        rooms = {name.split(".")[1] for name in imports(path) if name.startswith("ahi_catalog.")}
        assert rooms <= {room, *MAY_IMPORT[room]}, path


def test_no_module_imports_one_that_imports_it() -> None:
    """There is no cycle of modules, lazy imports counted."""
    names = {
        ".".join(("ahi_catalog", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in MODULES
    }
    graph = {name: imported_modules(path, names.keys()) - {name} for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_modules_know_no_network_and_read_no_clock(path: Path) -> None:
    """Neither boto3 nor Prefect is imported, and no clock is read."""
    assert not {name.partition(".")[0] for name in imports(path)} & {"boto3", "botocore", "prefect", "time"}
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & CLOCKS


@pytest.mark.parametrize("room", [room for room in MAY_IMPORT if room != "cli"])
def test_a_room_names_no_option_and_no_command(room: str) -> None:
    """What the command line calls things is known in cli/ alone: elsewhere not even a comment names one.

    What logs in to AWS is another's command, and has no other words.
    """
    named = re.compile(
        rf"(?<![\w-])(?<!aws sso login )(?<!aws login )--[a-z][a-z-]*|ahi-catalog ({'|'.join(cli.commands)})\b"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / room).rglob("*.py")
        for match in named.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize("room", [room for room in MAY_IMPORT if room != "flows"])
def test_prefect_is_imported_in_flows_alone(room: str) -> None:
    """Lazy imports counted."""
    for path in (ROOT / room).rglob("*.py"):
        assert "prefect" not in {name.partition(".")[0] for name in imports(path)}, path
