"""Arrow in a command's process; each test in a process of its own, for it cannot be undone."""

import os
import subprocess
import sys

from ahi_catalog.cli.main import LIBRARIES


def printed_by(code: str) -> str:
    given = {name: value for name, value in os.environ.items() if name not in LIBRARIES}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_memory_comes_from_the_system() -> None:
    """What Python makes and what Arrow makes by itself, so that what is freed goes back; no BLAS thread spins."""
    code = """
import contextlib, os, sys
from ahi_catalog.cli.main import main
sys.argv = ["ahi-catalog", "--version"]
with contextlib.suppress(SystemExit):
    main()
import numpy
threads = len(os.listdir("/proc/self/task"))
from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.schemas import IMAGE_SETS
parquet.encode(IMAGE_SETS, IMAGE_SETS.schema.empty_table())
import pyarrow as pa
print(pa.default_memory_pool().backend_name, pa.mimalloc_memory_pool().max_memory(), threads)
"""
    assert printed_by(code).split("\n")[-1].split() == ["system", "0", "1"]
