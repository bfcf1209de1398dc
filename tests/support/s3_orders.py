"""What can be ordered of the S3 proxy: which requests, and what becomes of them."""

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it arrived.

    Attributes:
        number: From 1, in the order of arrival.
        method: GET, PUT, DELETE or LIST (a GET of the bucket); POST of the catalog of Iceberg tables.
        key: The object's, or the prefix listed.
        condition: ``if-match``, ``if-none-match``, or None.
    """

    number: int
    method: str
    key: str
    condition: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What becomes of a request: whether the server ever sees it, and what the client hears.

    Attributes:
        is_applied: Whether it is forwarded.
        refusal: Status and code answered in place of the server's answer.
        delivery: How the answer goes out: whole, never (reset), half of its body (cut), as another body
            (garble), or not before the client has given up (hold).
    """

    is_applied: bool
    refusal: tuple[int, str] | None = None
    delivery: Literal["whole", "reset", "cut", "garble", "hold"] = "whole"


FAULTS: Final = {
    "slow_down": Fault(is_applied=False, refusal=(503, "SlowDown")),
    "internal": Fault(is_applied=False, refusal=(500, "InternalError")),
    "precondition": Fault(is_applied=False, refusal=(412, "PreconditionFailed")),
    "conflict": Fault(is_applied=False, refusal=(409, "ConditionalRequestConflict")),
    "denied": Fault(is_applied=False, refusal=(403, "AccessDenied")),
    "expired": Fault(is_applied=False, refusal=(400, "ExpiredToken")),
    "reset": Fault(is_applied=False, delivery="reset"),
    "stall": Fault(is_applied=False, delivery="hold"),
    "lost_answer": Fault(is_applied=True, delivery="reset"),
    "late_answer": Fault(is_applied=True, delivery="hold"),
    "applied_internal": Fault(is_applied=True, refusal=(500, "InternalError")),
    "applied_conflict": Fault(is_applied=True, refusal=(409, "ConditionalRequestConflict")),
    "cut": Fault(is_applied=True, delivery="cut"),
    "garble": Fault(is_applied=True, delivery="garble"),
}
"""A new kind is a line here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretend:
    """Habits of servers that accept conditional writes and do not keep them.

    Attributes:
        ignore_if_match: `If-Match` is accepted and forgotten.
        ignore_if_none_match: `If-None-Match` is accepted and forgotten.
        two_winners: The share of conditional puts whose condition is forgotten, as where two writers may win.
        unquoted_only: `If-Match` holds only where the ETag comes without its quotes (Ceph RGW 16).
        seed: Of the choice which puts those are.
    """

    ignore_if_match: bool = False
    ignore_if_none_match: bool = False
    two_winners: float = 0.0
    unquoted_only: bool = False
    seed: int = 0


@dataclass(slots=True, kw_only=True)
class Order:
    """Which requests are meant: those that pass every condition given.

    Attributes:
        method: GET, PUT or LIST.
        key: How the key ends.
        conditional: Whether it is a conditional put.
        when: Any other condition.
        at: Of the requests that pass the conditions above, those of these numbers, from 1.
        since: Or those from this number on.
        times: At most so many; None: no end.
        chance: With this probability each.
        seed: Of the choice.
        served: How many were served.
    """

    kind: str
    method: str | None = None
    key: str = ""
    conditional: bool | None = None
    when: Callable[[Request], bool] = lambda _: True
    at: Collection[int] = ()
    since: int = 1
    times: int | None = None
    chance: float = 1.0
    seed: int = 0
    call: Callable[[Request], object] | None = None
    served: int = 0
    _met: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def take(self, request: Request) -> bool:
        """Whether the request is one of them; counts it. Not thread-safe: the proxy holds its lock."""
        if self.times is not None and self.served >= self.times:
            return False
        if self.method not in (None, request.method) or not request.key.endswith(self.key):
            return False
        if self.conditional not in (None, request.condition is not None) or not self.when(request):
            return False
        self._met += 1
        if (self.at and self._met not in self.at) or self._met < self.since:
            return False
        if self.chance < 1 and self._random.random() >= self.chance:
            return False
        self.served += 1
        return True


def first_of_each_put() -> Callable[[Request], bool]:
    """Of the puts of a key every other one, from the first on: each is spoilt once and goes through the next time."""
    seen: Counter[str] = Counter()

    def is_meant(request: Request) -> bool:
        seen[request.key] += 1
        return seen[request.key] % 2 == 1

    return is_meant
