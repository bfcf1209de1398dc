"""SIGTERM and Ctrl-C end a run in an orderly way."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

_log = logging.getLogger(__name__)

INTERRUPTED: Final = 130
"""The exit code of a run that was asked to stop."""
INTERRUPTED_TEXT: Final = "Interrupted; what was published by then stays."
_SHOW_CURSOR: Final = b"\x1b[?25h"


@contextmanager
def stop_on_signals(before_exit: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs; a SIGINT after that ends the process at once.

    What is published by then stays, as after a kill; threads that read or write are not waited for. Outside of the
    main thread signals cannot be handled, and the event stays as it is.

    Args:
        before_exit: What else has to end with the process, where it is ended at once.
    """
    stop = threading.Event()

    def ask_to_stop(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            _exit(before_exit)
        stop.set()
        _log.warning("stopping: publishing what is proven (Ctrl-C again stops at once)")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(before_exit: Callable[[], None]) -> NoReturn:
    # Not by an exception: Python joins the threads of every pool before it ends.
    try:
        before_exit()
    finally:
        # A progress bar has hidden the cursor.
        os.write(2, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + INTERRUPTED_TEXT.encode() + b"\n")
        os._exit(INTERRUPTED)
