"""Arrow in a command's process; each test in a process of its own, for it cannot be undone."""

import subprocess
import sys


def printed_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_pandas_stays_away_until_it_is_asked_for() -> None:
    """Converting values does not import an installed pandas; a data frame is made all the same, and taken."""
    code = """
import sys
from flows.cli import arrow
arrow.prepare()
import pyarrow as pa
table = pa.table({"number": pa.array([1, 2]), "text": pa.array(["a", None])})
assert pa.scalar(1.5).as_py() == 1.5
print("pandas" in sys.modules)
frame = table.to_pandas()
assert pa.Table.from_pandas(frame).to_pylist() == table.to_pylist()
print("pandas" in sys.modules)
"""
    assert printed_by(code).split() == ["False", "True"]


def test_memory_comes_from_the_system() -> None:
    """So that what is freed goes back to it."""
    code = (
        "from flows.cli import arrow; arrow.prepare(); import pyarrow as p; print(p.default_memory_pool().backend_name)"
    )
    assert printed_by(code) == "system"
