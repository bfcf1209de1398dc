"""How much of the suite runs, and from which seed.

``AHI_FAULTS=full`` runs all of it (`make test-faults`), otherwise a short form; ``AHI_FAULTS_SEED`` is the first
seed, 1 where not given; ``AHI_FAULTS_COUNT`` how many follow, where a test takes several; ``AHI_FAULTS_SHRINK=1``
shrinks what the model-based test finds.
"""

import os
from typing import Final

IS_FULL: Final = os.environ.get("AHI_FAULTS") == "full"
SEED: Final = int(os.environ.get("AHI_FAULTS_SEED", "1"))
SHRINKS: Final = bool(os.environ.get("AHI_FAULTS_SHRINK"))


def seeds(short: int, full: int) -> range:
    """So many seeds, in the short form or in the full one."""
    count = full if IS_FULL else short
    return range(SEED, SEED + int(os.environ.get("AHI_FAULTS_COUNT", count)))
