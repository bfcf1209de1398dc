"""Arrow in a command's process; each test in a process of its own, for it cannot be undone."""

import os
import subprocess
import sys

from ahi_catalog.cli.main import LIBRARIES

COUNT_MAPPED = """
import ctypes

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]

mallinfo = ctypes.CDLL("libc.so.6").mallinfo2  # mallinfo(3)
mallinfo.restype = Info

def mapped():
    return mallinfo().hblks
"""
"""Counts the blocks that glibc has mapped one by one."""


def printed_by(code: str) -> str:
    given = {name: value for name, value in os.environ.items() if name not in LIBRARIES}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_pandas_stays_away_until_it_is_asked_for() -> None:
    """Converting values does not import an installed pandas; a data frame is made all the same, and taken."""
    code = """
import sys
from ahi_catalog.cli import arrow
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


def test_our_modules_convert_no_value_as_they_are_imported() -> None:
    """They are imported before Arrow is set up, and pandas would come with the first value."""
    code = """
import sys
import ahi_catalog.cli.running, ahi_catalog.pipeline.many, ahi_catalog.pipeline.verify.job
print("pandas" in sys.modules)
"""
    assert printed_by(code) == "False"


def test_a_large_block_is_handed_back_again_and_again() -> None:
    """glibc maps a block anew after one was freed, where by itself it would keep the next one in its heap."""
    code = """
import os
from ahi_catalog.cli.main import LIBRARIES
os.environ |= LIBRARIES
from ahi_catalog.cli import arrow
import pyarrow as pa
arrow.prepare()
for _ in range(2):
    before = mapped()
    block = pa.allocate_buffer(1 << 20)
    print(mapped() - before)
    del block
"""
    assert printed_by(COUNT_MAPPED + code).split() == ["1", "1"]


def test_a_threshold_of_ones_own_is_glibcs_matter() -> None:
    """A number too large to be handed on, or none at all, changes nothing: a small block stays in the heap."""
    code = """
import os
from ahi_catalog.cli import arrow
import pyarrow as pa
for threshold in ("4294967296", "9" * 30, "-1", "many", ""):
    os.environ["MALLOC_MMAP_THRESHOLD_"] = threshold
    arrow.prepare()
    before = mapped()
    block = pa.allocate_buffer(5000, memory_pool=pa.system_memory_pool())
    print(mapped() - before)
    del block
"""
    assert printed_by(COUNT_MAPPED + code).split() == ["0"] * 5


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
