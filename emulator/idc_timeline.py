"""When the image sets of the Imaging Data Commons arrive: releases, import jobs, accesses. Made up, fixed.

IDC says in which of its versions a series first appeared and was last revised, but a catalog of its own has
no import times. This gives them the shape that HealthImaging's have: import jobs of a few hundred series
share one createdAt, jobs come in bursts of thousands in a minute, and between releases nothing happens.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ahi_catalog.emulator.instants import MICROS, to_micros

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
