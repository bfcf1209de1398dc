"""What a reading of metadata must leave: the rows of `series` and `instances` that one leaves which nothing ends."""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar

from ahi_catalog.emulator import metadata
from ahi_catalog.emulator.records import Record
from ahi_catalog.schemas import IMAGE_SETS, INSTANCES, SERIES, Table
from tests.faults.place import Place
from tests.faults.stages import Stage
from tests.faults.witness import judge, read_rows
from tests.faults.world import BORN, HOUR, METADATA, TODAY, FaultWorld
from tests.support.reference import Row
from tests.support.s3_proxy import S3Proxy
from tests.support.world import summary

TABLES = (SERIES, INSTANCES)
ALONE = replace(METADATA, instances=False)
MORE = replace(METADATA, keyword=("ExposureTime",))
ARCHIVED = ("a00009", "a00018")


def fill(world: FaultWorld) -> None:
    """Some 50 image sets of six days: each with none to three instances by its version, some in the archive."""
    world.service.datastore(world.datastore_id).describe = describe
    world.fill(36, step=3 * HOUR, prefix="a")
    world.fill(8, start=TODAY - 6 * HOUR, step=timedelta(minutes=25), prefix="l")
    world.insert(*(summary(f"d{number:05d}", BORN + 30 * HOUR) for number in range(8)))
    for name in ARCHIVED:
        world.update(name, storageTier="ARCHIVE_INSTANT_ACCESS")


def live(world: FaultWorld) -> None:
    """What happens in the two hours after TODAY."""
    world.service.advance(timedelta(minutes=11))
    for name in ("a00000", "a00020", "a00035", "d00003", "l00001"):
        world.update(name, DICOMTags={"DICOMSeriesModality": "MR"})
    for name in ("l00003", "l00007"):
        world.delete(name)
    world.fill(12, start=TODAY + timedelta(minutes=1), step=timedelta(minutes=1), prefix="n")
    world.service.advance(timedelta(minutes=109))


def count_instances(image_set_id: str, version: int) -> int:
    """How many instances an image set has."""
    return (zlib.crc32(image_set_id.encode()) + version) % 4


def describe(record: Record) -> bytes:
    """The metadata of an image set."""
    uid, version = int(record.image_set_id, 36), record.summary()["version"]
    instances = [
        (
            f"2.25.{uid}.{number}",
            metadata.instance(
                {"InstanceNumber": f"{number} ", "ExposureTime": f"{version}", "SliceThickness": "1.5"},
                "1.2.840.10008.1.2.1",
                [(f"{uid}-{number}-{version}", 1_000 + number)],
            ),
        )
        for number in range(count_instances(record.image_set_id, version))
    ]
    return metadata.document(record, ({}, {}, {"Manufacturer": f"Maker {version}"}), instances)


_DESCRIPTION = "_state/catalog.json"
Tables = dict[Table, dict[str, Row]]


class Reading:
    """Remembers which image sets were read in which version, and every row that a reading may leave.

    Args:
        world: Whose service is watched; worlds moved from it are held against the same memory.
        make_place: Makes an empty place for a reading that nothing ends.
    """

    def __init__(self, world: FaultWorld, make_place: Callable[[], Place]) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()
        self.make_place = make_place
        self._said: dict[str, list[Row]] = {}
        store = world.service.datastore(world.datastore_id)
        described = store.describe

        def note(record: Record) -> bytes:
            self.asked[record.image_set_id, record.summary()["version"]] += 1
            return described(record)

        store.describe = note

    def expect(self, world: FaultWorld, *kept: Table, **settings: Any) -> Tables:
        """What a reading that nothing ends makes of a catalog, of whose tables some are kept; it is not counted."""
        asked = Counter(self.asked)
        undisturbed = world.moved(self.make_place())
        for prefix in (_DESCRIPTION, *(table.folder for table in (IMAGE_SETS, *kept))):
            undisturbed.place.fill(world.place.objects(prefix))
        undisturbed.read_metadata(**settings)
        self.asked.clear()
        self.asked.update(asked)
        return self.admit(undisturbed)

    def admit_versions(self, world: FaultWorld) -> None:
        """The versions that the service has now may be there from now on, though none of them may last."""
        now = world.moved(self.make_place())
        now.sync()
        now.read_metadata()
        self.admit(now)

    def admit(self, world: FaultWorld) -> Tables:
        """The rows of both tables, which may be there from now on."""
        found = {table: read_rows(world.place.objects(table.folder), table.key) for table in TABLES}
        for table, rows in found.items():
            for name, row in rows.items():
                said = self._said.setdefault(f"{table.name} {name}", [])
                if row not in said:
                    said.append(row)
        return found

    def look(self, world: FaultWorld) -> Tables:
        """Whatever is going on: each row once, in its partition, and one that some reading makes."""
        found = {table: read_rows(world.place.objects(table.folder), table.key) for table in TABLES}
        for table, rows in found.items():
            altered = [name for name, row in rows.items() if row not in self._said.get(f"{table.name} {name}", [])]
            judge(len(rows), altered=altered)
        return found

    def published(self, world: FaultWorld, *keywords: str) -> set[tuple[str, int]]:
        """Image sets of the catalog of which all is there, with some keywords: they are not asked for again."""
        found = self.look(world)
        counts = Counter((row["image_set_id"], row["image_set_version"]) for row in found[INSTANCES].values())
        wanted = {(row["image_set_id"], row["version"]) for row in _image_sets(world)}
        return {
            origin
            for row in found[SERIES].values()
            if (origin := (row["image_set_id"], row["image_set_version"])) in wanted
            and counts[origin] == count_instances(*origin)
            and set(keywords) <= json.loads(row["attributes"] or "{}").keys()
        }

    def compare(self, world: FaultWorld, expected: Tables) -> None:
        """Both tables are what a reading makes that nothing ends, and every image set that can be read has its rows."""
        found = self.look(world)
        for table, rows in found.items():
            wanted = expected[table]
            judge(
                len(rows),
                lost=[name for name in wanted if name not in rows],
                altered=[name for name, row in rows.items() if wanted.get(name) != row],
            )
        there = {each["imageSetId"]: each["version"] for each in world.service.rows(world.datastore_id)}
        readable = {
            (row["image_set_id"], row["version"])
            for row in _image_sets(world)
            if row["storage_tier"] == "FREQUENT_ACCESS" and there.get(row["image_set_id"]) == row["version"]
        }
        judge(len(readable), lost=[name for name, _ in readable - self.published(world)])


def _image_sets(world: FaultWorld) -> Iterable[Row]:
    return read_rows(world.place.objects(IMAGE_SETS.folder)).values()


@dataclass(slots=True, kw_only=True)
class ReadingStage(Stage):
    """A reading of metadata to be ended somewhere.

    Attributes:
        reading: Of the stage's service.
        expected: What the run makes.
    """

    STEPS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "put": ("PUT", ""),
        "series": ("PUT", SERIES.object_name),
        "instances": ("PUT", INSTANCES.object_name),
    }

    job: str = "metadata"
    reading: Reading
    expected: Tables = field(default_factory=dict)

    def rehearse(self, place: Place, proxy: S3Proxy) -> None:
        if not self.lines:
            self.expected = self.reading.expect(self.attempt(self.reading.make_place()), *TABLES, **self.settings)
            Stage.rehearse(self, place, proxy)

    def resume(self, world: FaultWorld, **changes: Any) -> None:
        world.read_metadata(**{**self.settings, **changes})

    def compare(self, world: FaultWorld) -> None:
        self.reading.compare(world, self.expected)


def make_reading_stages(world: FaultWorld, make_place: Callable[[], Place]) -> dict[str, ReadingStage]:
    """A first reading, a later one, and one that reads instances and a keyword that were not kept before.

    They are not rehearsed yet.
    """
    fill(world)
    reading = Reading(world, make_place)
    world.sync()
    alone = world.moved(make_place())
    alone.place.fill(world.place.objects(""))
    alone.read_metadata(metadata=ALONE)
    reading.admit(alone)
    world.read_metadata()
    reading.admit(world)
    world.witness.note()
    live(world)
    world.sync()
    base = world.place.objects("")
    first = {key: body for key, body in base.items() if not key.startswith(tuple(table.folder for table in TABLES))}
    return {
        "first": ReadingStage(world=world, base=first, settings={}, lines=Counter(), reading=reading),
        "next": ReadingStage(world=world, base=base, settings={}, lines=Counter(), reading=reading),
        "more": ReadingStage(
            world=world, base=alone.place.objects(""), settings={"metadata": MORE}, lines=Counter(), reading=reading
        ),
    }
