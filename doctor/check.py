"""One thing that the doctor looked at, and what came of it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    FIX = "fix"
    NOTE = "note"
    """Good to know, not needed, or not to be found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor's.

    Attributes:
        name: What was looked at.
        verdict: Whether it is as it has to be.
        says: What was found; where something must be fixed, what to do.
    """

    name: str
    verdict: Verdict
    says: str


def ok(name: str, says: str) -> Check:
    """As it has to be."""
    return Check(name=name, verdict=Verdict.OK, says=says)


def fix(name: str, says: str) -> Check:
    """Something to be fixed before a run can work."""
    return Check(name=name, verdict=Verdict.FIX, says=says)


def note(name: str, says: str) -> Check:
    """Something that no run needs."""
    return Check(name=name, verdict=Verdict.NOTE, says=says)
