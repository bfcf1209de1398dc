"""The views over the table `image_sets`: one row a study, one row a patient.

Their SQL is written once, in what DuckDB, Athena (Trino) and Spark have in common. Texts are without the padding
that they may have in the table.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view: its name, the SQL that gives it, and one line for the data dictionary."""

    name: str
    sql: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view over `image_sets`, grouped by its keys.

    Attributes:
        name: Of the view.
        doc: What a row is.
        keys: The columns that it is grouped by, a data store's id first.
        columns: The others.
    """

    name: str
    doc: str
    keys: tuple[ViewColumn, ViewColumn]
    columns: tuple[ViewColumn, ...]

    @property
    def all_columns(self) -> tuple[ViewColumn, ...]:
        """The keys, then the others."""
        return (*self.keys, *self.columns)

    def select(self, source: str) -> str:
        """The SELECT that the view stands for.

        Args:
            source: The table, quoted as its engine wants it.
        """
        columns = ",\n".join(
            f"  {column.sql}" if column.sql == column.name else f"  {column.sql} AS {column.name}"
            for column in self.all_columns
        )
        store, key = (column.sql for column in self.keys)
        # Text that is blank or null names no study and no patient.
        return f"SELECT\n{columns}\nFROM {source}\nWHERE {key} <> ''\nGROUP BY {store}, {key}"


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


_DATASTORE: Final = ViewColumn("datastore_id", "datastore_id", "The data store.")
_COUNTS: Final = (
    ViewColumn("series", f"count(DISTINCT {_text('series_instance_uid')})", "How many series."),
    ViewColumn("image_sets", "count(*)", "How many image sets, those that are not primary too."),
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


STUDIES: Final = View(
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
            "max(number_of_study_related_instances)",
            "Number of Study Related Instances, the greatest that an image set tells.",
        ),
        _MODALITIES,
        ViewColumn("body_parts", _distinct("series_body_part"), "The body parts, as a sorted array."),
        *_SEEN,
    ),
)

PATIENTS: Final = View(
    name="patients",
    doc="One row a patient of a data store; image sets without a Patient ID are left out.",
    keys=(_DATASTORE, ViewColumn("patient_id", _unpadded("patient_id"), "Patient ID.")),
    columns=(
        _least_text("patient_name", "Patient's Name"),
        _least_text("patient_sex", "Patient's Sex"),
        _least("patient_birth_date", "Patient's Birth Date"),
        ViewColumn("studies", f"count(DISTINCT {_text('study_instance_uid')})", "How many studies."),
        *_COUNTS,
        _MODALITIES,
        ViewColumn("first_study_date", "min(study_date)", "The earliest Study Date."),
        ViewColumn("last_study_date", "max(study_date)", "The latest Study Date."),
        *_SEEN,
    ),
)

VIEWS: Final = (STUDIES, PATIENTS)
