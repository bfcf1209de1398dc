"""SIGTERM and Ctrl-C end a run in an orderly way."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_log = logging.getLogger(__name__)

INTERRUPTED: Final = 130
"""The exit code of a run that was asked to stop."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs; a second SIGINT interrupts at once.

    Outside of the main thread signals cannot be handled, and the event stays as it is.
    """
    stop = threading.Event()

    def ask_to_stop(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        _log.warning("stopping: publishing what is proven; the next run resumes there (Ctrl-C again stops at once)")
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
