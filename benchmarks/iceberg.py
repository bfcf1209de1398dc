"""What a mirror into an Iceberg table costs: the first one, one of a small change, and what the table remembers.

python -m benchmarks.iceberg [--partitions 1000] [--rows 1000] [--changes 40] [--snapshots 500]

On SeaweedFS, its S3 and its REST catalog, on loopback.
"""

import itertools
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import botocore.endpoint
import pyarrow as pa
import requests
from botocore.config import Config
from pyiceberg import catalog as pyiceberg
from pyiceberg.utils.config import Config as PyIcebergConfig

from ahi_catalog.connectors.catalog import Catalog, Partition, Unit, open_or_create, open_store, parquet
from ahi_catalog.connectors.iceberg import history, mirror
from ahi_catalog.connectors.iceberg.opening import open_iceberg
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage import MemoryStore
from ahi_catalog.pipeline.iceberg import Request, mirror_tables
from ahi_catalog.pipeline.run import now
from ahi_catalog.schemas import IMAGE_SETS
from benchmarks.harness import Goal, arguments, conclude, scratch, show
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, running_s3_server

ID = "0" * 32
FIRST = datetime(2022, 1, 1, 12, tzinfo=UTC)
CHANGED = 5
TO = "tables.imaging"


def main() -> None:
    """Measure and print."""
    given = arguments(
        __doc__,
        partitions=(1_000, "partitions"),
        rows=(1_000, "rows of each"),
        changes=(40, f"mirrors of {CHANGED} changed partitions"),
        snapshots=(500, "snapshots of a table that remembers them"),
    )
    with scratch() as folder:
        (folder / "s3").mkdir()
        with _serving(folder / "s3") as url:
            catalog = open_or_create(open_store(url), Unit.DAY)
            with ThreadPoolExecutor(8) as threads:
                size = sum(threads.map(lambda day: _put(catalog, day, given.rows, 1), range(given.partitions)))
            first = _first(url, folder)
            changes = [_change(catalog, url, turn, given) for turn in range(given.changes)]
        grown, kept = _remember(folder, given.partitions, given.snapshots)
    requests_made, seconds = max(count for count, _ in changes), sorted(took for _, took in changes)
    show(
        f"{given.partitions:,} partitions, {given.partitions * given.rows:,} rows, {size / 1e6:.0f} MB",
        ["", "seconds", "requests"],
        [
            ["first mirror", f"{first['wall']:.1f}", ""],
            *([f"mirror {n + 1}", f"{changes[n][1]:.2f}", str(changes[n][0])] for n in range(0, len(changes), 8)),
        ],
    )
    median = seconds[len(seconds) // 2]
    conclude(
        [
            Goal("first mirror: seconds", "≤ 60", f"{first['wall']:.1f}", first["wall"] <= 60),
            Goal("first mirror: peak", "≤ 300 MB", f"{first['peak'] / 1e6:.0f} MB", first["peak"] <= 300e6),
            Goal(f"{CHANGED} partitions changed: requests, at most", "≤ 40", str(requests_made), requests_made <= 40),
            Goal(f"{CHANGED} partitions changed: seconds, median", "≤ 3", f"{median:.2f}", median <= 3),
            Goal(
                f"metadata after {given.snapshots} snapshots, expired to 30",
                "≤ a fifth",
                f"{kept / 1e6:.2f} of {grown / 1e6:.2f} MB",
                kept <= grown / 5,
            ),
        ],
        given.json,
    )


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """The server, an empty catalog's URL on it, and PyIceberg set to its tables."""
    with running_s3_server(folder) as server:
        settings = {"type": "rest", "uri": server.iceberg, "warehouse": "s3://tables", "rest.sigv4-enabled": "true"}
        settings |= {"rest.signing-name": "s3tables", "rest.signing-region": "us-east-1"}
        names = {
            f"PYICEBERG_CATALOG__TABLES__{name.replace('.', '__').replace('-', '_').upper()}": value
            for name, value in settings.items()
        }
        os.environ |= names | {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": server.endpoint,
        }
        path_style = Config(s3={"addressing_style": "path"})
        boto3.Session().client("s3", config=path_style).create_bucket(Bucket="catalogs")
        _configure()
        boto3.Session().client("s3tables", endpoint_url=server.endpoint).create_table_bucket(name="tables")
        yield "s3://catalogs/imaging"


def _configure() -> None:
    """Have PyIceberg read its variables, as it does when it is imported."""
    module: Any = pyiceberg
    module._ENV_CONFIG = PyIcebergConfig()  # noqa: SLF001  # it has no other way


def _put(catalog: Catalog, day: int, rows: int, version: int) -> int:
    """Write the object of a day; its size."""
    moment = FIRST + timedelta(days=day)
    columns: dict[str, Any] = {name: [None] * rows for name in IMAGE_SETS.schema.names}
    columns |= {
        "image_set_id": sorted(uuid.uuid4().hex for _ in range(rows)),
        "version": [version] * rows,
        "created_at": [moment] * rows,
        "patient_id": [f"P{day}-{number // 3}" for number in range(rows)],
        "study_instance_uid": [f"1.2.840.{day}.{number // 2}" for number in range(rows)],
        "series_instance_uid": [f"1.2.840.{day}.{number}.{version}" for number in range(rows)],
        "series_modality": ["CT", "MR"] * (rows // 2) + ["CT"] * (rows % 2),
    }
    body = parquet.encode(IMAGE_SETS, pa.table(columns, schema=IMAGE_SETS.schema))
    key = Partition.of(ID, Unit.DAY, moment).key(IMAGE_SETS)
    found = catalog.store.get(key)
    catalog.store.put(key, body, expected=found.etag if found else None)
    return len(body)


def _first(url: str, folder: Path) -> dict[str, float]:
    """The cost of the command, in a process of its own."""
    figures = folder / "figures.json"
    command = [sys.executable, "-m", "benchmarks.measuring", str(figures), "[]"]
    command += [str(Path(sys.executable).with_name("ahi-catalog")), "iceberg", "--catalog", url, "--to", TO]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    cost: dict[str, float] = json.loads(figures.read_text())
    return cost


def _change(catalog: Catalog, url: str, turn: int, given: Any) -> tuple[int, float]:
    """Change partitions here and there, and mirror: the requests, and the seconds."""
    for number in range(CHANGED):
        _put(catalog, (turn * 37 + number * 211) % given.partitions, given.rows, turn + 2)
    with _counting() as made:
        began = time.perf_counter()
        [report] = mirror_tables(url, S3Access(), Request(to=TO))
        took = time.perf_counter() - began
    assert report.mirrored.replaced > 0
    return made.total(), took


@contextmanager
def _counting() -> Iterator[Counter[str]]:
    """The requests to S3 and to the REST catalog."""
    made: Counter[str] = Counter()
    to_s3, to_rest = botocore.endpoint.Endpoint.make_request, requests.Session.request

    def count_s3(self: Any, model: Any, request: Any) -> Any:
        made[model.name] += 1
        return to_s3(self, model, request)

    def count_rest(self: Any, method: str, *more: Any, **named: Any) -> Any:
        made[method] += 1
        return to_rest(self, method, *more, **named)

    with (
        patch.object(botocore.endpoint.Endpoint, "make_request", count_s3),
        patch.object(requests.Session, "request", count_rest),
    ):
        yield made


def _remember(folder: Path, partitions: int, snapshots: int) -> tuple[int, int]:
    """Bytes of metadata of a table in a folder after many snapshots, and after the expiry of all but thirty."""
    prefix = "PYICEBERG_CATALOG__LOCAL__"
    os.environ |= {f"{prefix}TYPE": "sql", f"{prefix}URI": f"sqlite:///{folder}/tables.db"}
    os.environ[f"{prefix}WAREHOUSE"] = f"file://{folder}/tables"
    _configure()
    catalog = open_or_create(MemoryStore(), Unit.DAY)
    for day in range(partitions):
        _put(catalog, day, 1, 1)
    with open_iceberg("local", S3Access()) as iceberg:
        target = mirror.Target(catalog=iceberg, identifier=("imaging", "image_sets"), table=IMAGE_SETS)
        for turn in range(snapshots):
            for number in range(CHANGED):
                _put(catalog, (turn * 37 + number * 211) % partitions, 1, turn + 2)
            run = mirror.Run(run_id=uuid.uuid4().hex[:8], started=now(), clock=now, summary={})
            mirror.mirror(catalog, target, run)
        grown = _bytes(folder)
        found = target.open()
        assert found is not None
        before = found.metadata.snapshots[-30:][0].timestamp_ms / 1000
        history.expire(found, datetime.fromtimestamp(before, UTC), now())
        return grown, _bytes(folder)


def _bytes(folder: Path) -> int:
    files = itertools.chain((folder / "tables").rglob("*.avro"), (folder / "tables").rglob("*.json"))
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
