"""Arrow as a long-running command wants it: memory goes back to the system, and pandas stays away."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from typing import Final

import pyarrow as pa

_M_MMAP_THRESHOLD: Final = -3
_INT_MAX: Final = 2**31 - 1


def prepare() -> None:
    """Set the process up; call it before Arrow is used."""
    _give_memory_back()
    with _hidden("pandas"):
        # pyarrow imports pandas, where it is installed, at the first value that it converts: 40 MB and a quarter of a
        # second for nothing. Whoever asks for a data frame later gets one all the same.
        pa.scalar(0)


def _give_memory_back() -> None:
    # glibc, whose malloc Arrow uses here, has read its variable before cli/main.py could set it. A user's own it
    # has read by itself, or overlooked, in forms beyond these; and there may be another C library.
    with suppress(OSError, AttributeError, ValueError):
        threshold = int(os.environ.get("MALLOC_MMAP_THRESHOLD_", ""))
        if 0 <= threshold <= _INT_MAX:
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, threshold)


class _Hiding(MetaPathFinder):
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == self._name:
            raise ModuleNotFoundError(f"{fullname} is hidden")


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    finder = _Hiding(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
