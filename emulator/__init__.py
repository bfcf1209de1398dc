"""The embedded HealthImaging service: a real HTTP server that answers as AWS HealthImaging's model says.

It is what the demo, the tests and the benchmarks run against. Where AWS documents nothing (whether BETWEEN
includes its ends, how long a page token lives, how late an image set becomes searchable) the answer is an
option, so that a client can be shown to be right either way.
"""

from ahi_catalog.emulator.errors import ServiceError
from ahi_catalog.emulator.faults import FAULT_KINDS, FaultPlan
from ahi_catalog.emulator.options import ServiceOptions
from ahi_catalog.emulator.server import Emulator, listen, run_forever
from ahi_catalog.emulator.service import Counters, Service

__all__ = [
    "FAULT_KINDS",
    "Counters",
    "Emulator",
    "FaultPlan",
    "Service",
    "ServiceError",
    "ServiceOptions",
    "listen",
    "run_forever",
]
