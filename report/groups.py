"""Counts by a code or a class: modalities, body parts, hours, storage tiers, idle times."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.report.facts import Facts
from ahi_catalog.report.suppression import SMALLEST, to_hide
from ahi_catalog.schemas.views import AGES, FREQUENT, OLDEST

_MOST: Final = 15


@dataclass(frozen=True, slots=True)
class Stored:
    """What the storage of image sets comes to; those whose metadata was not read count as the least that is billed.

    Attributes:
        gigabytes: As they are billed.
        dollars: A month; of those whose tier is known.
        saves: What these would cost less in the archive.
        read: Of how many the metadata was read.
    """

    gigabytes: float
    dollars: float
    saves: float
    read: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Image sets with something in common.

    Attributes:
        label: What they have in common.
        image_sets: How many; None where the group is too small to show.
        studies, patients: Of them; None too where groups are lumped together, and where the catalog does not tell
            them apart.
        stored: Of them; None where the group is too small to show, and where no metadata was read.
    """

    label: str
    image_sets: int | None
    studies: int | None = None
    patients: int | None = None
    stored: Stored | None = None


@dataclass(frozen=True, slots=True)
class _Counted:
    label: str
    image_sets: int = 0
    studies: int = 0
    patients: int = 0
    in_frequent: int = 0
    in_others: int = 0
    stored: Stored = Stored(0.0, 0.0, 0.0, 0)

    @property
    def part(self) -> int:
        """Patients of the smaller part by tier: what it stores follows from gigabytes and dollars of the group."""
        return min((patients for patients in (self.in_frequent, self.in_others) if patients), default=0)

    def group(self, facts: Facts, *, with_storage: bool) -> Group:
        stored = self.stored if facts.has_metadata and with_storage else None
        shown = Group(label=self.label, image_sets=self.image_sets, stored=stored)
        return replace(shown, studies=self.studies, patients=self.patients) if facts.tells_patients else shown


def totals(facts: Facts) -> Group:
    """All image sets of the data store."""
    [all_of_it] = _count(facts, "'all'") or [_Counted("all")]
    if 0 < all_of_it.patients < SMALLEST:
        return Group(label="all", image_sets=None)
    return all_of_it.group(facts, with_storage=not 0 < all_of_it.part < SMALLEST)


def by_code(facts: Facts, column: str) -> tuple[Group, ...]:
    """The largest groups by a code, largest first; small ones, odd texts and the rest as one group at the end.

    Args:
        facts: Of the data store.
        column: ``modality`` or ``body_part``.
    """
    counted = sorted(_count(facts, column), key=lambda found: (-found.image_sets, found.label))
    hidden = to_hide([found.patients for found in counted])
    kept = [found for position, found in enumerate(counted) if position not in hidden and found.label != "?"][:_MOST]
    others = [found for found in counted if found not in kept]
    shown = [replace(found, label=found.label or "none given") for found in kept]
    if not others:
        return _groups(facts, shown)
    # Its size follows from the total in any case; it is left out where all of it is too small.
    names = ("image_sets", "patients", "in_frequent", "in_others")
    sums = {name: sum(getattr(found, name) for found in others) for name in names}
    stored = Stored(*map(sum, zip(*(astuple(found.stored) for found in others), strict=True)))
    lumped = _Counted(f"other ({len(others)})", stored=stored, **sums)
    *groups, last = _groups(facts, [*shown, lumped])
    return (*groups, replace(last, studies=None, patients=None))


def by_hour(facts: Facts, zone: str = "UTC") -> tuple[Group, ...]:
    """By hour of createdAt, 24 groups.

    Args:
        facts: Of the data store.
        zone: In which the hours are told, as the IANA names it.

    Raises:
        UsageError: There is no such zone.
    """
    # DuckDB brings the zones: the machine may have no database of them.
    if not (named := facts.rows("select name from pg_timezone_names() where name = $1", zone)):
        raise UsageError("`time_zone` is one of the IANA's names, as UTC or Europe/Berlin")
    local = f"hour(timezone('{named[0][0]}', timezone('UTC', created)))::text"
    return _in_order(facts, _count(facts, local), [str(hour) for hour in range(24)])


def by_tier(facts: Facts) -> tuple[Group, ...]:
    """By storage tier, as the service names them."""
    counted = _count(facts, "coalesce(tier, '')")
    return _in_order(facts, counted, sorted(found.label for found in counted))


def by_idle_time(facts: Facts, tier: Group, as_of: datetime) -> tuple[Group, ...]:
    """The image sets of a tier by the time since they were last accessed, or since they were made.

    Args:
        facts: Of the data store.
        tier: The storage tier; where its own size is not shown, none of its parts is.
        as_of: When the catalog last heard of changes, aware.
    """
    parts = _in_order(facts, _count(facts, _class_of("accessed", as_of), tier.label), [*AGES.values(), OLDEST])
    if tier.image_sets is None:
        return tuple(part if part.image_sets == 0 else Group(label=part.label, image_sets=None) for part in parts)
    return parts


def by_age(facts: Facts, as_of: datetime) -> tuple[Group, ...]:
    """By the time since they were created, until a moment that is aware."""
    return _in_order(facts, _count(facts, _class_of("created", as_of)), [*AGES.values(), OLDEST])


def _class_of(column: str, as_of: datetime) -> str:
    moment = as_of.astimezone(UTC).replace(tzinfo=None)
    cases = (f"when {column} > timestamp '{moment - timedelta(days=days)}' then '{age}'" for days, age in AGES.items())
    return f"case {' '.join(cases)} else '{OLDEST}' end"


def _count(facts: Facts, label: str, tier: str | None = None) -> list[_Counted]:
    rows = facts.rows(
        f"select {label} as label, count(*), count(distinct study), count(distinct patient), "  # noqa: S608  # labels are ours
        f"count(distinct patient) filter (tier = '{FREQUENT}'), "
        f"count(distinct patient) filter (tier is distinct from '{FREQUENT}'), "
        "sum(gigabytes), coalesce(sum(dollars), 0), coalesce(sum(saves), 0), count(*) filter (is_read) "
        "from facts where $1 is null or tier = $1 group by 1",
        tier,
    )
    return [
        _Counted(name, image_sets, studies, patients, in_frequent, in_others, Stored(*sums))
        for name, image_sets, studies, patients, in_frequent, in_others, *sums in rows
    ]


def _in_order(facts: Facts, counted: Iterable[_Counted], labels: Sequence[str]) -> tuple[Group, ...]:
    found = {each.label: each for each in counted}
    return _groups(facts, [found.get(label, _Counted(label)) for label in labels])


def _groups(facts: Facts, counted: Sequence[_Counted]) -> tuple[Group, ...]:
    """Groups that add up to a total which is shown, without what is too small to show."""
    hidden, untold = (to_hide([getattr(each, size) for each in counted]) for size in ("patients", "part"))
    return tuple(
        Group(label=each.label, image_sets=None)
        if position in hidden
        else each.group(facts, with_storage=position not in untold)
        for position, each in enumerate(counted)
    )
