"""How long it took from an image set's createdAt until its row was published: a sketch of fixed size. Pure.

Delays are counted in bins of which each is a tenth longer than the one before, so a percentile is right to a twentieth
(https://arxiv.org/abs/1908.10693). Sketches add up, and hold counts only.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Self

_SHORTEST: Final = 0.1
"""Seconds; what is shorter, as where two clocks differ, counts as that."""
_GROWTH: Final = 1.1
_LAST: Final = 240
"""Number of the last bin, which begins at 27 years."""


class Freshness:
    """Delays of published rows, in seconds."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, seconds: Iterable[float]) -> None:
        """Count delays."""
        self._counts.update(
            min(math.floor(math.log(max(each, _SHORTEST) / _SHORTEST, _GROWTH)), _LAST) for each in seconds
        )

    def merge(self, other: Self) -> None:
        """Count the other's delays too."""
        self._counts += other._counts

    def quantile(self, share: float) -> float | None:
        """Seconds within which a share of the rows was published; None where there are none.

        Args:
            share: Above 0, at most 1.
        """
        rank = math.ceil(share * len(self))
        for number in sorted(self._counts):
            rank -= self._counts[number]
            if rank <= 0:
                return _SHORTEST * math.pow(_GROWTH, number + 0.5)
        return None

    def document(self) -> dict[str, Any]:
        """As JSON goes."""
        shares = {"median_seconds": 0.5, "p95_seconds": 0.95, "p99_seconds": 0.99}
        seconds = {name: self.quantile(share) for name, share in shares.items()}
        return {
            "rows": len(self),
            **{name: None if value is None else round(value, 2) for name, value in seconds.items()},
            "bins": {str(number): count for number, count in sorted(self._counts.items())},
        }

    @classmethod
    def parse(cls, document: Any) -> Self:
        """The sketch of a document; an empty one where a run report of an earlier version has none.

        Raises:
            ValueError: It is no such document.
        """
        found = cls()
        try:
            bins = document["bins"] if document is not None else {}
            found._counts.update({int(number): int(count) for number, count in bins.items()})
        except (AttributeError, KeyError, TypeError):
            raise ValueError("no freshness") from None
        return found

    def __str__(self) -> str:
        values = [self.quantile(share) for share in (0.5, 0.95, 0.99)]
        median, most, nearly_all = ("-" if value is None else in_words(value) for value in values)
        return (
            f"half within {median}, 95 % within {most}, 99 % within {nearly_all}"
            if len(self)
            else "none recent enough to measure"
        )


def in_words(seconds: float) -> str:
    """Seconds in the unit that people would take."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
