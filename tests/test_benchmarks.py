"""Benchmarks beside the table of goals still run to their end, on a few rows."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "sizes", "says"),
    [
        ("phi_policies", ("--rows", "300"), "shift_dates"),
        ("emulator_pages", ("--rows", "1000", "--seconds", "1"), "pages a CPU second"),
        ("cluster_cost", ("--rows", "300"), "--dask local"),
    ],
)
def test_a_benchmark_runs_to_its_end(name: str, sizes: tuple[str, ...], says: str) -> None:
    """On a few rows, where its figures mean nothing, it prints its last line."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *sizes]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert says in ended.stdout.splitlines()[-1]
