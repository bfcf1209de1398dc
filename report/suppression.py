"""Which groups are too small to show. Pure.

A group of fewer than 11 patients is hidden, the threshold of the Centers for Medicare & Medicaid Services' cell size
suppression policy; of patients, since forty image sets of one patient still tell of that one. Where a total is shown
beside the groups, a single hidden one would follow by subtraction; so at least two are hidden, of 11 patients together
or more.
"""

from collections.abc import Sequence
from typing import Final

SMALLEST: Final = 11
"""The fewest patients (or studies, where studies are counted) of a group that is shown."""


def to_hide(sizes: Sequence[int], *, spare_last: bool = False) -> frozenset[int]:
    """The positions of the groups to hide, where the groups' total is known.

    Args:
        sizes: Patients in each group. A group of nobody is shown as such.
        spare_last: Hide another group beside a small one rather than the last, which is the newest in time.
    """
    hidden = {position for position, size in enumerate(sizes) if 0 < size < SMALLEST}
    others = [position for position, size in enumerate(sizes) if size >= SMALLEST]
    if hidden and others and (len(hidden) == 1 or sum(sizes[position] for position in hidden) < SMALLEST):
        last = len(sizes) - 1 if spare_last else None
        hidden.add(min(others, key=lambda position: (position == last, sizes[position], position)))
    return frozenset(hidden)


def is_small(size: int, of: int) -> bool:
    """Whether a group, or all that is not in it, is too small to show.

    Args:
        size: Patients in the group.
        of: Patients in all, which is shown elsewhere.
    """
    return 0 < size < SMALLEST or 0 < of - size < SMALLEST
