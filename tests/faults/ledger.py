"""What a run of the suite injected, compared and found, for the table at its end."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_SUMS: Final = ("compared", "looks", "lost", "doubled", "altered")


@dataclass(slots=True)
class Ledger:
    """Counts over the whole run. Thread-safe by its methods.

    Attributes:
        faults: Faults injected, by kind.
        seeds: Of the points and scenarios, by test.
        compared: Rows compared with the service, value by value.
        lost: Rows that coverage promised and that were not there.
        doubled: Image sets with more than one row.
        altered: Rows that are not what the service said, or that went back to an older version.
    """

    faults: Counter[str] = field(default_factory=Counter)
    seeds: Counter[int] = field(default_factory=Counter)
    compared: int = 0
    looks: int = 0
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    is_rehearsal: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def injected(self, kind: str, times: int = 1) -> None:
        """A fault was injected, so often."""
        with self._lock:
            self.faults[kind] += times

    def seeded(self, seed: int) -> None:
        """A seed was used."""
        with self._lock:
            self.seeds[seed] += 1

    def looked(self, *, compared: int, lost: int = 0, doubled: int = 0, altered: int = 0) -> None:
        """The catalog was compared with the service. What code broken on purpose loses is not counted."""
        with self._lock:
            self.looks += bool(compared)
            self.compared += compared
            if not self.is_rehearsal:
                self.lost += lost
                self.doubled += doubled
                self.altered += altered

    def page(self) -> dict[str, Any]:
        """All of it in plain values, for another process."""
        with self._lock:
            sums = {name: getattr(self, name) for name in _SUMS}
            return {"faults": dict(self.faults), "seeds": dict(self.seeds), **sums}

    def add(self, page: Mapping[str, Any]) -> None:
        """Count what another process counted."""
        with self._lock:
            self.faults.update(page["faults"])
            self.seeds.update({int(seed): times for seed, times in page["seeds"].items()})
            for name in _SUMS:
                setattr(self, name, getattr(self, name) + page[name])

    def lines(self) -> list[str]:
        """The table."""
        seeds = sorted(self.seeds)
        shown = ", ".join(map(str, seeds[:6])) + (f" … {seeds[-1]}" if len(seeds) > 6 else "")
        rows = [
            *((f"  {kind}", f"{times:,}") for kind, times in sorted(self.faults.items())),
            ("faults injected", f"{sum(self.faults.values()):,}"),
            ("seeds", f"{len(seeds):,} ({shown})"),
            ("comparisons", f"{self.looks:,}"),
            ("rows compared", f"{self.compared:,}"),
            ("rows lost", f"{self.lost:,}"),
            ("rows doubled", f"{self.doubled:,}"),
            ("rows altered or gone back", f"{self.altered:,}"),
        ]
        width = max(len(name) for name, _ in rows)
        return [f"{name:<{width}}  {value}" for name, value in rows]


LEDGER = Ledger()
