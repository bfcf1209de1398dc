"""Which scans whose rows come out of order hand back their windows: one for each worker that has nothing to do.

What is handed back is split; if all scans did so whenever one worker is idle, they would do little else.
"""

import threading


class HandingBack:
    """How many scans are still asked to hand back their windows. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = 0

    def ask(self, scans: int) -> None:
        """So many scans, whichever look first, shall hand back; replaces what was asked before."""
        with self._lock:
            self._asked = scans

    def take(self) -> bool:
        """Whether the scan that looks shall; the others are asked for one less."""
        with self._lock:
            if self._asked <= 0:
                return False
            self._asked -= 1
            return True
