"""The PHI policy of a catalog: what becomes of each column that can tell of a patient. Pure values.

The actions follow the declaration's sensitivities, and those follow botocore's `sensitive` marks. docs/security.md
has, for each column, what the Basic Profile of DICOM PS3.15 Annex E asks for, and under which of its options
`pseudonymize` keeps more.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ahi_catalog.schemas.tables import Column, Sensitivity


class Policy(StrEnum):
    """What is done with patients' data before a row reaches the store."""

    KEEP = "keep"
    PSEUDONYMIZE = "pseudonymize"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhiPolicy:
    """The policy of a catalog, fixed when it is created.

    Attributes:
        policy: Which of the three.
        keep_text: With `pseudonymize`: keep the study description, and of ``extra`` what is declared.
        shift_dates: With `pseudonymize`: move dates by whole days, by a number that is the patient's own.
        key_check: With `pseudonymize`: the check value of its key (`PhiKey.check`).

    Raises:
        ValueError: The parts do not go together; says what to do.
    """

    policy: Policy = Policy.KEEP
    keep_text: bool = False
    shift_dates: bool = False
    key_check: str | None = None

    def __post_init__(self) -> None:
        if self.policy is not Policy.PSEUDONYMIZE and (self.keep_text or self.shift_dates):
            raise ValueError(f"`keep_text` and `shift_dates` go with `phi` {Policy.PSEUDONYMIZE}, not {self.policy}")
        if (self.policy is Policy.PSEUDONYMIZE) != (self.key_check is not None):
            raise ValueError(f"a key goes with `phi` {Policy.PSEUDONYMIZE}, and with nothing else")

    @property
    def tells_patients(self) -> bool:
        """Whether patients, studies and series can be told apart under it."""
        return self.policy is not Policy.DROP

    def __str__(self) -> str:
        """The policy and the settings that go with it: ``pseudonymize, shift_dates``."""
        return ", ".join([self.policy, *["keep_text"] * self.keep_text, *["shift_dates"] * self.shift_dates])


class Action(StrEnum):
    """What a policy makes of a column; an absent value stays absent under each."""

    KEEP = "keep"
    NULL = "null"
    HASH = "keyed hash"
    UID = "keyed 2.25. UID"
    YEAR = "year, as its first of January"
    DATE = "kept or shifted; a text that is no date or time: null"
    TEXT = "null unless keep_text"
    CODE = "kept where it is a code string, else null"
    AGE = "kept to 89 years, 90 beyond"
    ATTRIBUTES = "numbers and code strings; descriptions with keep_text; else null"


_PSEUDONYMIZE: Final = {
    Sensitivity.NONE: Action.KEEP,
    Sensitivity.IDENTIFIER: Action.HASH,
    Sensitivity.NAME: Action.NULL,
    Sensitivity.UID: Action.UID,
    Sensitivity.BIRTH: Action.YEAR,
    Sensitivity.DATE: Action.DATE,
    Sensitivity.TEXT: Action.TEXT,
    Sensitivity.CODE: Action.CODE,
    Sensitivity.AGE: Action.AGE,
    Sensitivity.ATTRIBUTES: Action.ATTRIBUTES,
}
_KEPT_BY_DROP: Final = (Action.KEEP, Action.CODE, Action.AGE, Action.ATTRIBUTES)
_DROP: Final = {
    sensitivity: action if action in _KEPT_BY_DROP else Action.NULL for sensitivity, action in _PSEUDONYMIZE.items()
}


def action(policy: Policy, column: Column) -> Action:
    """What a policy makes of a column."""
    if policy is Policy.KEEP:
        return Action.KEEP
    return (_DROP if policy is Policy.DROP else _PSEUDONYMIZE)[column.sensitivity]
