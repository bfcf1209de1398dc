"""Mirroring a catalog into Iceberg tables, and what they remember; by itself, or at the end of another run."""

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ahi_catalog.connectors.catalog import Catalog, open_catalog, open_store
from ahi_catalog.connectors.errors import AhiCatalogError, UsageError, missing_extra
from ahi_catalog.connectors.iam import IcebergTables
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import S3Access, Settings, split_iceberg
from ahi_catalog.connectors.storage.opening import split_url
from ahi_catalog.connectors.windows import format_time
from ahi_catalog.pipeline.run import Clock, now
from ahi_catalog.schemas import IMAGE_SETS, REMOVALS, Table
from ahi_catalog.schemas.series import DERIVED_TABLES

if TYPE_CHECKING:
    from ahi_catalog.connectors.iceberg.history import Expired
    from ahi_catalog.connectors.iceberg.mirror import Mirrored, Run, Target

_log = logging.getLogger(__name__)

TABLES: Final[tuple[Table, ...]] = (IMAGE_SETS, *DERIVED_TABLES, REMOVALS)
"""In the order of their commits. `removals` is listed last: whatever is gone from the others is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        to: ``NAME.NAMESPACE``: a catalog of PyIceberg's configuration, and where its tables are.
        is_overwriting: Whether what others wrote to the tables gives way.
        is_dry: Whether only to tell what would be done.
        keep: Expire snapshots older than this; None: none.
        forget: An image set whose rows go from all snapshots; but for `removals`, which says that it is gone.
    """

    to: str
    is_overwriting: bool = False
    is_dry: bool = False
    keep: timedelta | None = None
    forget: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReport:
    """What became of one Iceberg table.

    Attributes:
        table: Its namespace and name.
        mirrored: What the mirror changed.
        expired: What went from its history; None: nothing was asked for.
    """

    table: str
    mirrored: "Mirrored"
    expired: "Expired | None" = None

    def rows(self) -> list[tuple[str, str]]:
        """As people read it: a label and a value a line."""
        done = self.mirrored
        is_changed = any((done.added, done.replaced, done.removed, done.foreign))
        none = "none: a dry run commits nothing" if is_changed else "none: nothing changed"
        found = [
            ("partitions added", f"{done.added:,}"),
            ("partitions replaced", f"{done.replaced:,}"),
            ("partitions removed", f"{done.removed:,}"),
            ("files of others replaced", f"{done.foreign:,}"),
            ("snapshot", str(done.snapshot_id or none)),
        ]
        if self.expired is not None:
            found += [
                ("snapshots expired", f"{self.expired.snapshots:,}"),
                ("their files deleted", f"{self.expired.files:,}"),
                ("copies that no snapshot names", f"{self.expired.orphans:,}"),
            ]
        return found

    def document(self) -> dict[str, Any]:
        """As JSON goes."""
        return {"table": self.table, **asdict(self.mirrored), "expired": self.expired and asdict(self.expired)}


@redact_errors
def mirror_tables(
    url: str, access: S3Access, request: Request, *, clock: Clock = now, stop: threading.Event | None = None
) -> list[TableReport]:
    """Make Iceberg tables equal to the tables of a catalog, one after another, then forget what is asked for.

    A table that the catalog has nothing of, and that is no Iceberg table yet, is left out.

    Args:
        url: Of the catalog.
        access: How its objects, and the tables' files, are read and written.
        request: What is asked for.
        clock: The local clock, aware.
        stop: Set it to end the run early, with no part of a table changed.

    Raises:
        UsageError: There is no such catalog at either end, or PyIceberg is not installed.
        StateError: Others wrote to a table, or it has another form.
        AhiCatalogError: An end refuses or cannot be reached; the next mirror goes on.
    """
    if request.keep is not None and request.forget is not None:
        raise UsageError("give `keep_snapshots` or `forget`, not both")
    with _extra():
        from ahi_catalog.connectors.iceberg.mirror import Run, Target  # noqa: PLC0415  # an extra, 1.5 seconds
        from ahi_catalog.connectors.iceberg.opening import open_iceberg  # noqa: PLC0415
    name, namespace = split_iceberg(request.to)
    # The tables may lie in S3, and be encrypted there, where the catalog does not.
    is_local = split_url(url)[0] is None
    catalog = open_catalog(open_store(url, S3Access() if is_local else access))
    run_id = uuid.uuid4().hex[:8]
    run = Run(
        run_id=run_id,
        started=clock(),
        clock=clock,
        summary=_summary(catalog, run_id),
        stop=stop or threading.Event(),
        is_overwriting=request.is_overwriting,
        is_dry=request.is_dry,
    )
    with open_iceberg(name, access) as iceberg:
        targets = [Target(catalog=iceberg, identifier=(*namespace, table.name), table=table) for table in TABLES]
        reports = [_mirror_one(catalog, target, run, request) for target in targets]
    return [each for each in reports if each is not None]


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise missing_extra("an Iceberg table", "iceberg") from None


def find_iceberg(to: str) -> IcebergTables:
    """Where Iceberg tables are, by PyIceberg's configuration; for the rights that a mirror needs.

    Args:
        to: ``NAME.NAMESPACE``.

    Raises:
        UsageError: PyIceberg is not installed, or does not know the catalog.
    """
    with _extra():
        from ahi_catalog.connectors.iceberg.opening import find_settings  # noqa: PLC0415  # as above
    name, namespace = split_iceberg(to)
    settings = find_settings(name)
    kind, warehouse = settings.get("type", ""), settings.get("warehouse", "")
    return IcebergTables(kind=kind, namespace=".".join(namespace), warehouse=warehouse)


def mirror_after(settings: Settings) -> None:
    """What every run that changes a catalog does at its end: bring the Iceberg tables up to date that `iceberg` names.

    Never fails: what goes wrong is told, and the next mirror catches up.
    """
    if settings.iceberg is None:
        return
    try:
        mirror_tables(settings.catalog, settings.s3, Request(to=settings.iceberg))
    except AhiCatalogError as error:
        _log.warning("the Iceberg tables in %s are not up to date, the catalog is: %s", settings.iceberg, error)


def _mirror_one(catalog: Catalog, target: "Target", run: "Run", request: Request) -> TableReport | None:
    from ahi_catalog.connectors.iceberg import history, mirror  # noqa: PLC0415  # as above

    mirrored = mirror.mirror(catalog, target, run)
    if mirrored is None:
        return None
    expired = None
    if request.forget is not None and target.table is not REMOVALS and (found := target.open()) is not None:
        expired = history.forget(found, request.forget, run.clock(), is_dry=run.is_dry)
    if request.keep is not None and (found := target.open()) is not None:
        expired = history.expire(found, run.clock() - request.keep, run.clock(), is_dry=run.is_dry)
    return TableReport(table=".".join(target.identifier), mirrored=mirrored, expired=expired)


def _summary(catalog: Catalog, run_id: str) -> dict[str, str]:
    """What a snapshot says of the catalog; read before the catalog is listed, so that the rows are never behind it."""
    told = {
        "ahi-catalog.run-id": run_id,
        "ahi-catalog.catalog": catalog.store.url,
        "ahi-catalog.catalog-id": catalog.description.catalog_id,
    }
    checkpoints = [catalog.checkpoint(each) for each in catalog.datastore_ids()]
    marks = [each.watermark if each and each.begins_at else None for each in checkpoints]
    followed = [each.followed_to if each else None for each in checkpoints]
    for name, moments in {"watermark": marks, "followed-to": followed}.items():
        # Of several data stores that which is behind; where one has none, the table is complete up to no moment.
        if moments and all(moments):
            told[f"ahi-catalog.{name}"] = format_time(min(each for each in moments if each))
    return told
