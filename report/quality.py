"""Where the data contradict themselves, or say nothing: counts of image sets, series and studies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ahi_catalog.report.facts import Facts
from ahi_catalog.report.suppression import SMALLEST, is_small


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityIssue:
    """Something to look at.

    Attributes:
        what: In words, after the unit.
        unit: What is counted: image sets, series, studies, values of a column.
        count: How many; None: some, but of too few patients to show.
    """

    what: str
    unit: str
    count: int | None


_STUDIES: Final = """
from (select study as id, any_value(patient) as patient, count(distinct study_date) as dates,
             count(distinct patient_id) as patients
      from facts where study is not null group by study)
"""
_SERIES: Final = """
from (select series as id, any_value(patient) as patient, count(*) as image_sets,
             count(*) filter (is_primary) as primaries
      from facts where series is not null group by series)
"""
_IMAGE_SETS: Final = "from facts"

_NOT_PRIMARY: Final = "not is_primary"
_WITHOUT_IDENTIFIERS: Final = frozenset({_NOT_PRIMARY})
_LOOKED_FOR: Final = (
    ("studies", _STUDIES, "patients > 1", "whose series disagree on the patient"),
    ("studies", _STUDIES, "dates > 1", "whose series disagree on the study date"),
    ("series", _SERIES, "image_sets > 1", "in more than one image set"),
    ("series", _SERIES, "primaries > 1", "in more than one primary image set"),
    ("image sets", _IMAGE_SETS, _NOT_PRIMARY, "that are not the primary ones of their series"),
    ("studies", _STUDIES, "dates = 0", "without a readable study date"),
    ("image sets", _IMAGE_SETS, "patient_id is null", "without Patient ID"),
    ("image sets", _IMAGE_SETS, "study is null", "without Study Instance UID"),
    ("image sets", _IMAGE_SETS, "series is null", "without Series Instance UID"),
)
"""What is counted, over which rows, under which condition, in which words."""


def findings(facts: Facts) -> tuple[QualityIssue, ...]:
    """Contradictions first, then what is missing; of a catalog without identifiers and dates what shows without."""
    return tuple(
        QualityIssue(what=what, unit=unit, count=_count(facts, source, condition))
        for unit, source, condition, what in _LOOKED_FOR
        if facts.tells_patients or condition in _WITHOUT_IDENTIFIERS
    )


def unparsable_values(counts: Mapping[str, int]) -> tuple[QualityIssue, ...]:
    """By column, the values that the service sent and that the column cannot hold; most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        QualityIssue(what=name, unit="values of", count=count if count >= SMALLEST else None) for name, count in ordered
    )


def _count(facts: Facts, source: str, condition: str) -> int | None:
    sql = (
        f"select count(*) filter ({condition}), count(distinct patient) filter ({condition}), "
        f"count(distinct patient) {source}"
    )
    [(count, patients, of)] = facts.rows(sql)
    return None if is_small(patients, of) else count
