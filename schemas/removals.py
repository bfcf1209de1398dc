"""The table `removals`: image sets that are gone, so that whoever copies a catalog can follow deletions too."""

from typing import Final

import pyarrow as pa

from ahi_catalog.schemas.tables import TIMESTAMP, Column, Table

REMOVALS: Final = Table(
    name="removals",
    doc="Image sets whose row was removed, since the service confirmed that they are deleted; ids and times only.",
    columns=(
        Column(
            name="image_set_id",
            type=pa.string(),
            source=("imageSetId",),
            doc="The image set's identifier, 32 of [0-9a-z].",
            nullable=False,
        ),
        Column(
            name="created_at",
            type=TIMESTAMP,
            source=("createdAt",),
            doc="When the image set was created, in UTC.",
            nullable=False,
        ),
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
    volatile=frozenset(),
    object_name="removals.parquet",
    looked_up=("image_set_id",),
    unique=("image_set_id",),
    categories=(),
)
