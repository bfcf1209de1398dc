"""The shape of the project: which way imports point, what pure modules may not do, how long a file may be."""

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("flows", "connectors", "schemas") for path in (ROOT / package).rglob("*.py"))
PURE = [
    *(ROOT / "schemas").glob("*.py"),
    *(
        ROOT / "connectors" / name
        for name in ("windows.py", "rows.py", "settings.py", "errors.py", "endpoints.py", "iam.py")
    ),
    *(ROOT / "connectors/healthimaging" / name for name in ("pages.py", "scan.py", "walk.py")),
    *(
        ROOT / "connectors/catalog" / f"{name}.py"
        for name in ("layout", "merge", "comparison", "parquet", "checkpoint", "verification", "description", "phi")
    ),
    ROOT / "connectors/glue/table.py",
    *(ROOT / "connectors/reporting" / f"{name}.py" for name in ("suppression", "history")),
    *(ROOT / "flows" / name for name in ("schedule.py", "buffer.py", "planning.py", "estimate.py")),
    *(ROOT / "flows/page").glob("*.py"),
]
FORBIDDEN = {"schemas": {"flows", "connectors", "prefect"}, "connectors": {"flows", "prefect"}, "flows": {"tests"}}
CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter", "sleep"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_arrows_point_one_way() -> None:
    """flows → connectors → schemas, and connectors know no Prefect."""
    for path in MODULES:
        packages = {name.partition(".")[0] for name in imports(path)}
        assert not packages & FORBIDDEN[path.relative_to(ROOT).parts[0]], path.name


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


def test_files_stay_short() -> None:
    """No module is over 350 lines, and half of them are under 120."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not [path.name for path, count in lines.items() if count > 350]
    assert statistics.median(lines.values()) < 120
