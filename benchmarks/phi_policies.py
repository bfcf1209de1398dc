"""What each PHI policy costs, beside reading and flattening the same pages: rows a second of one core, all in one run.

``keep`` hands the table on as it is and costs nothing. The rows are series of the NCI Imaging Data Commons, as the
embedded service lists them.

    python -m benchmarks.phi_policies [--rows 100000]
"""

import argparse
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import orjson
import pyarrow as pa

from ahi_catalog.connectors.healthimaging.pages import PAGE_ROWS
from ahi_catalog.emulator import Service
from ahi_catalog.emulator.idc import load_idc
from ahi_catalog.schemas import IMAGE_SETS, PhiKey, PhiPolicy, Policy, flatten, protection, read
from ahi_catalog.schemas.image_sets import SUMMARIES

_KEY = PhiKey(bytes(range(64)))
_BATCH_PAGES = 200
_POLICIES = (
    PhiPolicy(policy=Policy.DROP),
    PhiPolicy(policy=Policy.PSEUDONYMIZE, key_check=_KEY.check),
    PhiPolicy(policy=Policy.PSEUDONYMIZE, shift_dates=True, keep_text=True, key_check=_KEY.check),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    service = Service()
    summaries = list(service.rows(load_idc(service, rows=rows)))
    pages = [
        orjson.dumps({SUMMARIES: summaries[start : start + PAGE_ROWS]}) for start in range(0, len(summaries), PAGE_ROWS)
    ]
    batches = [pages[start : start + _BATCH_PAGES] for start in range(0, len(pages), _BATCH_PAGES)]
    tables: list[pa.Table] = []
    flattening = seconds(lambda: tables.extend(flatten([read(page).rows for page in batch]) for batch in batches))
    print(f"{len(summaries):,} rows in batches of {_BATCH_PAGES * PAGE_ROWS:,}")
    print(f"{'read and flatten':<40} {len(summaries) / flattening:>12,.0f} rows/s")
    for policy in _POLICIES:
        protect = protection(IMAGE_SETS, policy, _KEY if policy.key_check else None)
        spent = min(seconds(partial(deque, map(protect, tables), maxlen=0)) for _ in range(3))
        more = f"{100 * spent / flattening:5.0f} % on top"
        print(f"{policy!s:<40} {len(summaries) / spent:>12,.0f} rows/s  {more}")


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
