"""A real catalog to search: the index of the NCI Imaging Data Commons, a million DICOM series.

Identifiers, dates and descriptions are IDC's; import times, versions' times, accesses and tiers are made up, since
the index has none. It has no names, birth dates, accession numbers or times. What it lacks of an instance is made up in
idc_metadata.py.

IDC says in which of its versions a series first appeared and was last revised. From that the made-up times get the
shape that HealthImaging's have: import jobs of a few hundred series share one createdAt, jobs come in bursts of
thousands in a minute, and between releases nothing happens. They are the same on every machine.
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ahi_catalog.emulator.clock import MICROS, epoch_number, to_micros
from ahi_catalog.emulator.idc_metadata import IdcMetadata
from ahi_catalog.emulator.records import Record
from ahi_catalog.emulator.service import Service

__all__ = ["ATTRIBUTION", "RELEASES", "RELEASE_SPAN", "import_times", "load_idc"]

ATTRIBUTION = (
    "NCI Imaging Data Commons (https://imaging.datacommons.cancer.gov), index 25.0.5 of the package "
    "idc-index-data; DICOM metadata under CC BY 4.0, CC BY 3.0 or the National Library of Medicine's terms, as "
    "license_short_name says row by row; rows under CC BY-NC are left out. Fedorov et al., RadioGraphics "
    "2023;43(12):e230180."
)

# Index column to tag, for the tags taken over as they are. The model's limits: StudyDate 36 characters,
# PatientSex 16, SeriesModality 32, SeriesBodyPart 128, the others 512. No value of 25.0.5 comes near them.
_TAGS = {
    "PatientID": "DICOMPatientId",
    "PatientSex": "DICOMPatientSex",
    "StudyInstanceUID": "DICOMStudyInstanceUID",
    "StudyDescription": "DICOMStudyDescription",
    "SeriesInstanceUID": "DICOMSeriesInstanceUID",
    "Modality": "DICOMSeriesModality",
    "BodyPartExamined": "DICOMSeriesBodyPart",
    "StudyDate": "DICOMStudyDate",
    "SeriesNumber": "DICOMSeriesNumber",
}
# Few distinct values each: kept once, and rendered once.
_REPEATED = [name for name in _TAGS if name != "SeriesInstanceUID"]
_NUMBERS = ("instanceCount", "series_init_idc_version", "series_revised_idc_version")
_INT32 = 2**31
_COUNT_LIMIT = 1_000_000  # the model's greatest NumberOfStudyRelated...
_CHUNK = 65_536
_SECONDARY = 50  # one image set in so many is not primary

Ints = NDArray[np.int64]

# Version k of IDC is RELEASES[k - 1]. The first is IDC's own (October 2020); then one every 80 days.
RELEASES: tuple[datetime, ...] = tuple(
    datetime(2020, 10, 15, tzinfo=UTC) + timedelta(days=80 * number) for number in range(25)
)
# A release is complete this long after its date.
RELEASE_SPAN = timedelta(days=3)

_JOB_SERIES = 300
_BURST_JOBS = 10
_JOB_SECONDS = 5
_DAY = 86_400 * MICROS
_ARCHIVED_AFTER = 30 * _DAY
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timeline:
    created: Ints
    updated: Ints
    accessed: Ints
    revised: NDArray[np.bool_]
    archived: NDArray[np.bool_]
    primary: NDArray[np.bool_]


def load_idc(
    service: Service,
    datastore_id: str | None = None,
    *,
    rows: int | None = None,
    as_of: datetime | None = None,
    tiers_as_of: datetime | None = None,
) -> str:
    """Load the Imaging Data Commons as it stood at a moment, one image set a series; returns the data store.

    The same arguments give the same image sets, to the byte. See ATTRIBUTION for source and licences.

    Args:
        service: Where to.
        datastore_id: An existing data store; without it one named "idc" is made, created with IDC's first
            release.
        rows: About so many image sets of the whole timeline, and no fewer while there are any: whole
            patients, sampled by a hash of their ids. None loads all.
        as_of: Aware. Image sets imported later are left out, and later revisions have not happened. None is
            the day after which IDC 25 is complete.
        tiers_as_of: Aware. The moment from which last accesses and storage tiers are told; `as_of` where not
            given. Two loads with the same one differ only by what was imported and revised between.
    """
    moment = to_micros(as_of or RELEASES[-1] + RELEASE_SPAN)
    told = to_micros(tiers_as_of) if tiers_as_of else moment
    table = _read(rows)
    timeline = _timeline(table, moment, told)
    keep = np.flatnonzero(timeline.created <= moment)
    uids = table["SeriesInstanceUID"].take(pa.array(keep)).combine_chunks()
    if datastore_id is None:
        datastore_id = service.create_datastore(name="idc", created_at=RELEASES[0])
    collecting = gc.isenabled()
    gc.disable()  # a million new objects, none of them garbage: looking at them doubles the time
    try:
        with service.lock:
            records = list(_records(table, timeline, keep))
            store = service.datastore(datastore_id)
            store.insert_records(records, service.now_micros())
            store.describe = IdcMetadata(uids)
    finally:
        if collecting:
            gc.enable()
    del table
    pa.default_memory_pool().release_unused()
    return datastore_id


def _read(rows: int | None) -> pa.Table:
    """The index's rows with free licences in import order, sampled, with counts of each study."""
    import idc_index_data  # noqa: PLC0415 - an extra, and its import looks for files

    table = pq.read_table(
        idc_index_data.IDC_INDEX_PARQUET_FILEPATH,
        columns=[*_TAGS, *_NUMBERS, "license_short_name"],
        read_dictionary=[*_REPEATED, "license_short_name"],
    )
    # The row's number in the file is its identity where chance is drawn: the same in every sample.
    table = table.append_column("row", pa.array(np.arange(len(table)))).unify_dictionaries()
    licences = table["license_short_name"].cast(pa.string())
    table = table.filter(pc.invert(pc.match_substring(licences, "CC BY-NC"))).drop_columns("license_short_name")
    if rows is not None:
        table = _sample(table, rows)
    # Import jobs bring a patient's studies together: patients by their hashes, the rest as in the file.
    studies = _column(table["StudyInstanceUID"]).indices.to_numpy()
    table = table.take(pa.array(np.lexsort((studies, _hashes(table))))).combine_chunks()
    study = _column(table["StudyInstanceUID"]).indices.to_numpy()
    series = np.bincount(study)[study]
    instances = np.bincount(study, weights=table["instanceCount"].to_numpy())[study].astype(np.int64)
    return table.append_column("series", pa.array(series)).append_column("instances", pa.array(instances))


def _sample(table: pa.Table, rows: int) -> pa.Table:
    """Whole patients, least hash first, until there are `rows` rows."""
    hashes = _hashes(table)
    patients, sizes = np.unique(hashes, return_counts=True)
    last = int(np.searchsorted(np.cumsum(sizes), rows))
    if last >= len(patients):
        return table
    return table.filter(pa.array(hashes <= patients[last]))


def _column(column: pa.ChunkedArray) -> Any:
    """A dictionary-encoded column as one array."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _hashes(table: pa.Table) -> NDArray[np.uint64]:
    """A hash of each row's patient."""
    patients = _column(table["PatientID"])
    each = [int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) for name in patients.dictionary.to_pylist()]
    return np.asarray(np.array(each, dtype=np.uint64)[patients.indices.to_numpy()])


def _timeline(table: pa.Table, moment: int, told: int) -> _Timeline:
    first = table["series_init_idc_version"].to_numpy()
    last = table["series_revised_idc_version"].to_numpy()
    created = import_times(first)
    revision = import_times(last)
    # A revision counts where it is one, and has happened by then.
    revised = (last > first) & (revision <= moment)
    updated = np.where(revised, revision, created)
    identity = mixed(table["row"].to_numpy(), 3)
    accessed = access_times(updated, identity, told)
    return _Timeline(
        created=created,
        updated=updated,
        accessed=accessed,
        revised=revised,
        archived=archived(accessed, told),
        primary=np.asarray(identity % np.uint64(_SECONDARY) != 0),
    )


def _records(table: pa.Table, timeline: _Timeline, keep: Ints) -> Iterator[Record]:
    """Rendered image sets, chunk by chunk, so that the columns are never all Python objects at once."""
    fragments = {name: _fragments(name, _column(table[name]).dictionary) for name in _REPEATED}
    for start in range(0, len(keep), _CHUNK):
        rows = keep[start : start + _CHUNK]
        yield from _render(table.take(pa.array(rows)), timeline, rows, fragments)


def _fragments(name: str, dictionary: pa.Array) -> NDArray[np.object_]:
    """Each distinct value of a column as `"DICOMTag":value,` in JSON; empty where absent (the last one)."""
    found = [_fragment(_TAGS[name], _tag_value(name, text)) for text in dictionary.to_pylist()]
    return np.array([*found, b""], dtype=object)


def _tag_value(name: str, text: str | None) -> str | int | None:
    if name == "StudyDate" and text:
        return text.replace("-", "")  # DICOM's DA
    if name == "SeriesNumber" and text:
        try:
            number = int(text)
        except ValueError:
            return None
        return number if -_INT32 <= number < _INT32 else None
    return text


def _fragment(tag: str, value: str | int | None) -> bytes:
    return b"" if value is None else b'"%b":%b,' % (tag.encode(), orjson.dumps(value))


def _render(
    table: pa.Table, timeline: _Timeline, rows: Ints, fragments: dict[str, NDArray[np.object_]]
) -> Iterator[Record]:
    columns = [
        each[_column(table[name]).indices.fill_null(len(each) - 1).to_numpy()] for name, each in fragments.items()
    ]
    counts = zip(table["series"].to_pylist(), table["instances"].to_pylist(), strict=True)
    uids = table["SeriesInstanceUID"].cast(pa.string()).to_pylist()
    facts = zip(
        timeline.created[rows].tolist(),
        timeline.updated[rows].tolist(),
        timeline.accessed[rows].tolist(),
        timeline.revised[rows].tolist(),
        timeline.archived[rows].tolist(),
        timeline.primary[rows].tolist(),
        strict=True,
    )
    tags = zip(*columns, strict=True)
    for uid, (series, instances), fact, tag in zip(uids, counts, facts, tags, strict=True):
        created, updated, accessed, revised, archive, primary = fact
        name = blake2b(uid.encode(), digest_size=16).hexdigest()
        body = (
            b'{"imageSetId":"%b","version":%d,"createdAt":%b,"updatedAt":%b,"lastAccessedAt":%b,"storageTier":"%b",'
            b'"DICOMTags":{%b"DICOMNumberOfStudyRelatedSeries":%d,%b"DICOMSeriesInstanceUID":"%b"},"isPrimary":%b}'
            % (
                name.encode(),
                2 if revised else 1,
                epoch_number(created),
                epoch_number(updated),
                epoch_number(accessed),
                b"ARCHIVE_INSTANT_ACCESS" if archive else b"FREQUENT_ACCESS",
                b"".join(tag),
                series,
                _fragment("DICOMNumberOfStudyRelatedInstances", instances if instances <= _COUNT_LIMIT else None),
                uid.encode(),
                b"true" if primary else b"false",
            )
        )
        # One int for both where they are equal, as they mostly are.
        yield Record(name, created, created if created == updated else updated, body)


def mixed(values: Any, salt: int) -> NDArray[np.uint64]:
    """Well-mixed 64-bit hashes of integers (SplitMix64), the same on every machine."""
    with np.errstate(over="ignore"):
        state = np.asarray(values).astype(np.uint64) + _MIX * np.uint64(salt + 1)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def import_times(release: Ints) -> Ints:
    """The time of each series' import job, epoch microseconds.

    Args:
        release: Each series' IDC version, 1 to 25; series of one version are imported in the order given.
    """
    times = np.zeros(len(release), dtype=np.int64)
    for version in np.unique(release):
        rows = np.flatnonzero(release == version)
        job = np.arange(len(rows)) // _JOB_SERIES
        burst, place = job // _BURST_JOBS, job % _BURST_JOBS
        # From an hour after midnight on, bursts are spread over the release's days, on whole minutes.
        gap = int(RELEASE_SPAN.total_seconds() // 60 - 120) // (int(burst[-1]) + 1) * 60
        seconds = 3600 + burst * gap + place * _JOB_SECONDS
        micros = (mixed(job, int(version)) % np.uint64(MICROS)).astype(np.int64)
        times[rows] = to_micros(RELEASES[int(version) - 1]) + seconds * MICROS + micros
    return times


def access_times(updated: Ints, identity: NDArray[np.uint64], as_of: int) -> Ints:
    """When each image set was last accessed by `as_of`: four of five never since their last update.

    Args:
        updated: Epoch microseconds.
        identity: A hash of each image set's identity.
        as_of: Epoch microseconds.
    """
    later = updated + (mixed(identity, 1) % np.uint64(200 * _DAY)).astype(np.int64)
    reread = (mixed(identity, 2) % np.uint64(5) == 0) & (later <= as_of)
    return np.where(reread, later, updated)


def archived(accessed: Ints, as_of: int) -> NDArray[np.bool_]:
    """Whether each image set has gone untouched for 30 days, when the service moves it to the archive tier."""
    return np.asarray(as_of - accessed > _ARCHIVED_AFTER)
