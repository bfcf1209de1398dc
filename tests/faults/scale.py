"""How much of the suite runs, and from which seed.

``AHI_FAULTS=full`` runs all of it (`make test-faults`), otherwise a short form; ``AHI_FAULTS_SEED`` is the first
seed, 1 where not given; ``AHI_FAULTS_COUNT`` how many follow, where a test takes several; ``AHI_FAULTS_SHRINK=1``
shrinks what the model-based test finds.
"""

import os
import random
from collections.abc import Sequence
from typing import Final, TypeVar

_T = TypeVar("_T")

IS_FULL: Final = os.environ.get("AHI_FAULTS") == "full"
SEED: Final = int(os.environ.get("AHI_FAULTS_SEED", "1"))
SHRINKS: Final = bool(os.environ.get("AHI_FAULTS_SHRINK"))


def seeds(short: int, full: int) -> range:
    """So many seeds, in the short form or in the full one."""
    count = full if IS_FULL else short
    return range(SEED, SEED + int(os.environ.get("AHI_FAULTS_COUNT", count)))


def some(kinds: Sequence[_T], short: int) -> list[_T]:
    """All of them in the full form, and so many in the short one, which the seed chooses."""
    if IS_FULL or short >= len(kinds):
        return list(kinds)
    chosen = set(random.Random(SEED).sample(range(len(kinds)), short))
    return [kind for number, kind in enumerate(kinds) if number in chosen]
