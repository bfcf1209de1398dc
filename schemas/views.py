"""The views over the tables: studies, patients, what contradicts itself, what changed, and what storage costs.

Their SQL is written once, in what DuckDB, Athena (Trino) and Spark have in common, so that a view means the same
everywhere. Texts are without the padding that they may have in the table, since "P1" and "P1 " are one patient. The
price: a look-up in a view reads that column of every object, one in `image_sets` the objects that may have it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LEAST_BYTES: Final = 5_000_000
"""Of an image set, as storage is billed (https://aws.amazon.com/healthimaging/pricing/)."""
GIGABYTE: Final = 1 << 30
FREQUENT: Final = "FREQUENT_ACCESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePrices:
    """Dollars of a gigabyte and month in each tier."""

    frequent: float
    archive: float


US_EAST: Final = StoragePrices(frequent=0.105, archive=0.006)


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view: its name, one line for the data dictionary, and the SQL that gives it where that is one."""

    name: str
    sql: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view over the catalog's tables.

    Attributes:
        name: Of the view.
        doc: What a row is.
        columns: In their order, a data store's id first.
        template: The SELECT, with the names of tables and prices in braces.
    """

    name: str
    doc: str
    columns: tuple[ViewColumn, ...]
    template: str

    def select(self, quoted: Callable[[str], str], prices: StoragePrices) -> str:
        """The SELECT that the view stands for.

        Args:
            quoted: Names a table, given its declared name, as the engine wants it.
            prices: What `storage` reckons with.
        """
        names = {name: quoted(name) for name in ("image_sets", "removals", "series")}
        return self.template.format(frequent=prices.frequent, archive=prices.archive, **names)


def _unpadded(column: str) -> str:
    """A text without the blanks and NULs around it, the padding of DICOM's strings (PS3.5 section 6.2)."""
    return f"trim(BOTH ' ' || chr(0) FROM {column})"


def _text(column: str) -> str:
    """A text without its padding; null where that is all there is."""
    return f"nullif({_unpadded(column)}, '')"


def _distinct(column: str) -> str:
    """The distinct texts of a column in order, as an array; null where there is none."""
    # Without the CASE, Spark's would be empty and the others' null.
    return (
        f"CASE WHEN count({_text(column)}) > 0 "
        f"THEN array_sort(array_agg(DISTINCT {_unpadded(column)}) FILTER (WHERE {_unpadded(column)} <> '')) END"
    )


# Image sets whose metadata was never read have none of these, so that the view is the same with `series` and without.
_FACTS: Final = """LEFT JOIN (
  SELECT datastore_id AS store_read, image_set_id AS image_set_read, CAST(sum(instances) AS BIGINT) AS instances_read,
    CAST(sum(bytes) AS BIGINT) AS bytes_read, min(manufacturer) AS manufacturer_read
  FROM {series}
  GROUP BY datastore_id, image_set_id
) facts ON datastore_id = store_read AND image_set_id = image_set_read"""


def _grouped(*, name: str, doc: str, keys: tuple[ViewColumn, ViewColumn], columns: tuple[ViewColumn, ...]) -> View:
    """A view over `image_sets`, grouped by its keys: a data store's id, and what the rows are of."""
    listed = ",\n".join(
        f"  {column.sql}" if column.sql == column.name else f"  {column.sql} AS {column.name}"
        for column in (*keys, *columns)
    )
    store, key = (column.sql for column in keys)
    # Text that is blank or null names no study and no patient.
    grouped = f"SELECT\n{listed}\nFROM {{image_sets}}\n{_FACTS}\nWHERE {key} <> ''\nGROUP BY {store}, {key}"
    return View(name=name, doc=doc, columns=(*keys, *columns), template=grouped)


_DATASTORE: Final = ViewColumn("datastore_id", "datastore_id", "The data store.")
_COUNTS: Final = (
    ViewColumn("series", f"count(DISTINCT {_text('series_instance_uid')})", "How many series."),
    ViewColumn("image_sets", "count(*)", "How many image sets, those that are not primary too."),
)
_READ: Final = (
    ViewColumn("image_sets_read", "count(image_set_read)", "Of how many of them the metadata was read."),
    ViewColumn("bytes", "CAST(sum(bytes_read) AS BIGINT)", "Bytes of the frames of these; null where none was read."),
    ViewColumn("manufacturers", _distinct("manufacturer_read"), "The manufacturers of these, as a sorted array."),
)
_MODALITIES: Final = ViewColumn("modalities", _distinct("series_modality"), "The modalities, as a sorted array.")
_SEEN: Final = (
    ViewColumn("first_seen", "min(created_at)", "When the first image set was created, in UTC."),
    ViewColumn("last_seen", "max(created_at)", "When the newest image set was created, in UTC."),
    ViewColumn("last_changed", "max(updated_at)", "When any image set was last changed, in UTC."),
)


def _least(column: str, doc: str, sql: str = "") -> ViewColumn:
    return ViewColumn(column, f"min({sql or column})", f"{doc}; the least where its image sets disagree.")


def _least_text(column: str, doc: str) -> ViewColumn:
    return _least(column, doc, _text(column))


STUDIES: Final = _grouped(
    name="studies",
    doc="One row a study; image sets without a Study Instance UID are left out.",
    keys=(_DATASTORE, ViewColumn("study_instance_uid", _unpadded("study_instance_uid"), "Study Instance UID.")),
    columns=(
        _least_text("patient_id", "Patient ID"),
        _least_text("accession_number", "Accession Number"),
        _least_text("study_description", "Study Description"),
        _least("study_date", "Study Date"),
        _least("study_datetime", "Study Date and Time, local time of the modality"),
        *_COUNTS,
        ViewColumn(
            "instances",
            "CASE WHEN count(image_set_read) = count(*) THEN CAST(sum(instances_read) AS BIGINT) "
            "ELSE max(number_of_study_related_instances) END",
            "How many instances, once the metadata of all its image sets was read; until then, Number of Study Related "
            "Instances, the greatest that an image set tells.",
        ),
        *_READ,
        _MODALITIES,
        ViewColumn("body_parts", _distinct("series_body_part"), "The body parts, as a sorted array."),
        *_SEEN,
    ),
)

PATIENTS: Final = _grouped(
    name="patients",
    doc="One row a patient of a data store; image sets without a Patient ID are left out.",
    keys=(_DATASTORE, ViewColumn("patient_id", _unpadded("patient_id"), "Patient ID.")),
    columns=(
        _least_text("patient_name", "Patient's Name"),
        _least_text("patient_sex", "Patient's Sex"),
        _least("patient_birth_date", "Patient's Birth Date"),
        ViewColumn("studies", f"count(DISTINCT {_text('study_instance_uid')})", "How many studies."),
        *_COUNTS,
        ViewColumn("instances", "CAST(sum(instances_read) AS BIGINT)", "Instances of those image sets that were read."),
        *_READ,
        _MODALITIES,
        ViewColumn("first_study_date", "min(study_date)", "The earliest Study Date."),
        ViewColumn("last_study_date", "max(study_date)", "The latest Study Date."),
        *_SEEN,
    ),
)


def _conflict(kind: str, key: str, found: str, least: int) -> str:
    """The SELECT of one kind of conflict.

    Args:
        kind: Its name.
        key: The column of what contradicts itself.
        found: Counts what there should be fewer of.
        least: How many of them make a conflict.
    """
    key = _unpadded(key)
    return (
        f"SELECT datastore_id, '{kind}' AS conflict, {key} AS identifier, {found} AS found, "
        f"count(*) AS image_sets, max(updated_at) AS last_changed\nFROM {{image_sets}}\nWHERE {key} <> ''\n"
        f"GROUP BY datastore_id, {key}\nHAVING {found} >= {least}"
    )


# Empty components at the end of a name are no part of it (DICOM PS3.5 section 6.2.1).
_NAME: Final = "nullif(trim(TRAILING '^= ' || chr(0) FROM " + _unpadded("patient_name") + "), '')"

CONFLICTS: Final = View(
    name="conflicts",
    doc="One row a contradiction: a series, study or patient of which there is more than one of what should be one.",
    columns=(
        _DATASTORE,
        ViewColumn(
            "conflict",
            "",
            "series_image_sets (a series in several image sets), series_not_primary, study_patients (a study of "
            "several patients), patient_names or patient_birth_dates (a patient with several).",
        ),
        ViewColumn("identifier", "", "The Series Instance UID, Study Instance UID or Patient ID."),
        ViewColumn("found", "", "How many image sets, image sets that are not primary, patients, names or dates."),
        ViewColumn("image_sets", "", "How many image sets it has."),
        ViewColumn("last_changed", "", "When any of them was last changed, in UTC."),
    ),
    template="\nUNION ALL\n".join(
        (
            _conflict("series_image_sets", "series_instance_uid", "count(*)", 2),
            _conflict("series_not_primary", "series_instance_uid", "count(CASE WHEN NOT is_primary THEN 1 END)", 1),
            _conflict("study_patients", "study_instance_uid", f"count(DISTINCT {_text('patient_id')})", 2),
            _conflict("patient_names", "patient_id", f"count(DISTINCT {_NAME})", 2),
            _conflict("patient_birth_dates", "patient_id", "count(DISTINCT patient_birth_date)", 2),
        )
    ),
)

CHANGES: Final = View(
    name="changes",
    doc="One row a change: that an image set is new, that it was last updated since, or that it is gone.",
    columns=(
        _DATASTORE,
        ViewColumn("image_set_id", "", "The image set's identifier."),
        ViewColumn("change", "", "new, updated (after it was created, so that it stands twice) or removed."),
        ViewColumn(
            "changed_at",
            "",
            "When it was created or last updated by the service's clock, or removed from the catalog; in UTC.",
        ),
        ViewColumn("created_at", "", "When the image set was created, in UTC."),
        ViewColumn("version", "", "Its newest version; null where it is gone."),
    ),
    # A removal that never came to pass, since its run died before, has a row that says so.
    template="""SELECT datastore_id, image_set_id, 'new' AS change, created_at AS changed_at, created_at, version
FROM {image_sets}
UNION ALL
SELECT datastore_id, image_set_id, 'updated', updated_at, created_at, version
FROM {image_sets}
WHERE updated_at > created_at
UNION ALL
SELECT gone.datastore_id, gone.image_set_id, 'removed', gone.removed_at, gone.created_at, CAST(NULL AS integer)
FROM {removals} gone
LEFT JOIN {image_sets} kept ON kept.datastore_id = gone.datastore_id AND kept.image_set_id = gone.image_set_id
WHERE kept.image_set_id IS NULL""",
)

AGES: Final = {30: "under 30 days", 90: "30 to 90 days", 365: "90 days to a year"}
"""Classes of age and of idle time, by the days that they end before."""
OLDEST: Final = "over a year"


def _days_since(moment: str) -> str:
    """How long ago a moment is, in classes."""
    # Engines agree on the difference of a date and an interval, and not on that of two dates.
    cases = " ".join(
        f"WHEN {moment} > current_date - INTERVAL '{days}' DAY THEN '{since}'" for days, since in AGES.items()
    )
    return f"CASE {cases} ELSE '{OLDEST}' END"


_BILLED: Final = f"CAST(sum(greatest(coalesce(bytes_read, 0), {LEAST_BYTES})) AS DOUBLE) / {GIGABYTE}"

STORAGE: Final = View(
    name="storage",
    doc="What is stored and what it costs a month, by tier, modality and age.",
    columns=(
        _DATASTORE,
        ViewColumn("storage_tier", "", "FREQUENT_ACCESS or ARCHIVE_INSTANT_ACCESS, as the last sync saw it."),
        ViewColumn("modality", "", "Modality of the series, or null."),
        ViewColumn(
            "age", "", "How long ago they were created: under 30 days, 30 to 90 days, 90 days to a year, over a year."
        ),
        ViewColumn("idle", "", "How long nobody has created, changed or accessed them, as far as is known; likewise."),
        ViewColumn("image_sets", "", "How many image sets."),
        ViewColumn("image_sets_read", "", "Of how many of them the metadata was read."),
        ViewColumn("bytes", "", "Bytes of the frames of these; null where none was read."),
        ViewColumn(
            "billed_gigabytes", "", "Gigabytes as they are billed: at least 5 MB an image set, so those not read too."
        ),
        ViewColumn("dollars_a_month", "", "What these cost a month; null where the tier is not known."),
        ViewColumn("archiving_saves", "", "What they would cost less a month in the archive; 0 for what is there."),
    ),
    template=f"""SELECT datastore_id, storage_tier, modality, age, idle, image_sets, image_sets_read, bytes,
  billed_gigabytes, billed_gigabytes * price AS dollars_a_month,
  billed_gigabytes * (price - CAST({{archive}} AS DOUBLE)) AS archiving_saves
FROM (
  SELECT datastore_id, storage_tier, modality, age, idle, count(*) AS image_sets,
    count(image_set_read) AS image_sets_read, CAST(sum(bytes_read) AS BIGINT) AS bytes,
    {_BILLED} AS billed_gigabytes,
    CASE WHEN storage_tier = '{FREQUENT}' THEN CAST({{frequent}} AS DOUBLE)
      WHEN storage_tier IS NOT NULL THEN CAST({{archive}} AS DOUBLE) END AS price
  FROM (
    SELECT datastore_id, storage_tier, modality, image_set_read, bytes_read,
      {_days_since("created")} AS age,
      {_days_since("used")} AS idle
    FROM (
      SELECT datastore_id, storage_tier, {_text("series_modality")} AS modality, image_set_read, bytes_read,
        CAST(created_at AS DATE) AS created,
        CAST(greatest(created_at, coalesce(updated_at, created_at), coalesce(last_accessed_at, created_at)) AS DATE)
          AS used
      FROM {{image_sets}}
      {_FACTS}
    ) told
  ) classed
  GROUP BY datastore_id, storage_tier, modality, age, idle
) summed""",  # noqa: S608  # made of constants alone
)

VIEWS: Final = (STUDIES, PATIENTS, CONFLICTS, CHANGES, STORAGE)
