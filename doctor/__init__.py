"""Whether everything that a run needs is there, found out by calls that change nothing.

The one exception is a small object of its own, ``_state/probe/doctor``, which shows whether writes are conditional.
"""

from ahi_catalog.doctor.check import Check, Verdict, fix, note, ok
from ahi_catalog.doctor.examine import examine

__all__ = ["Check", "Verdict", "examine", "fix", "note", "ok"]
