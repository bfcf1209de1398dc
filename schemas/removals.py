"""The table `removals`: image sets that are gone, so that whoever copies a catalog can follow deletions too."""

from typing import Final

from ahi_catalog.schemas.image_sets import IMAGE_SETS
from ahi_catalog.schemas.tables import TIMESTAMP, Column, Table

REMOVALS: Final = Table(
    name="removals",
    doc="Image sets whose row was removed, since the service confirmed that they are deleted; ids and times only.",
    columns=(
        *(column for column in IMAGE_SETS.columns if column.name in {"image_set_id", "created_at"}),
        Column(
            name="removed_at",
            type=TIMESTAMP,
            source=(),
            doc="When a run last went to remove its row, in UTC by that machine's clock.",
            nullable=False,
        ),
    ),
    key=("image_set_id",),
    # The later one: who has read the table in between is to meet the removal that took the row.
    version=("removed_at",),
    created="created_at",
    object_name="removals.parquet",
    looked_up=("image_set_id",),
    unique=("image_set_id",),
)
