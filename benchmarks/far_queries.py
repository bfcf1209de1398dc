"""What queries take on a catalog in S3 that is 40 ms away, beside DuckDB on a pyarrow dataset by Arrow's own S3 client.

Days are an object each, of some hundred rows in one catalog and of some ten thousand in the other. SeaweedFS keeps
them; a relay in a process of its own holds back what goes to it.

    python -m benchmarks.far_queries [--rows 60000]
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
from botocore.config import Config

from ahi_catalog.connectors.catalog import Catalog, Unit, layout, open_or_create, open_store, parquet
from ahi_catalog.connectors.catalog.dataset import data_keys, open_dataset
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.schemas import IMAGE_SETS
from benchmarks.harness import Goal, arguments, conclude, scratch, show
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, running_s3_server

LATENCY = 0.04
RUNS = 5
BUCKET = "catalogs"
FIRST = datetime(2021, 1, 1, tzinfo=UTC)
MODALITIES = ("CT", "MR", "DX", "US", "PT", "MG", "SR", "SM")
QUERIES = {
    "point query": "select * from image_sets where patient_id = 'P-17'",
    "aggregate": "select series_modality, count(*), count(distinct patient_id) from image_sets group by all",
}


def fill(url: str, rows: int, days: int) -> Catalog:
    """A catalog of so many rows, evenly over so many days."""
    schema = IMAGE_SETS.schema
    step = days * 86_400_000_000 // rows
    created = pa.array([int(FIRST.timestamp() * 1e6) + number * step for number in range(rows)])
    columns = {
        "image_set_id": [f"{number:032x}" for number in range(rows)],
        "version": [1] * rows,
        "created_at": created.cast(pa.timestamp("us", "UTC")),
        "patient_id": [f"P-{number * 7_919 % (rows // 20)}" for number in range(rows)],
        "series_modality": [MODALITIES[number * number % len(MODALITIES)] for number in range(rows)],
        "study_instance_uid": [f"1.2.840.{number * 7_919 % (rows // 4)}" for number in range(rows)],
        "series_instance_uid": [f"1.2.840.{number}.{number * number}" for number in range(rows)],
    }
    table = pa.table([columns.get(name, pa.nulls(rows)) for name in schema.names], schema.names).cast(schema)
    catalog = open_or_create(open_store(url), Unit.DAY)
    for partition, part in layout.partition_rows(IMAGE_SETS, "0" * 32, Unit.DAY, table):
        catalog.store.put(partition.key(IMAGE_SETS), parquet.encode(IMAGE_SETS, [part]), expected=None)
    return catalog


def ask_arrow(catalog: Catalog, endpoint: str, sql: str) -> pa.Table:
    """The answer by Arrow's S3 client, after the same listing."""
    keys = data_keys(catalog)
    files = pyarrow.fs.S3FileSystem(
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        region="us-east-1",
        scheme="http",
        endpoint_override=urlsplit(endpoint).netloc,
    )
    root = catalog.store.url.removeprefix("s3://")
    dataset = ds.dataset(
        sorted(f"{root}/{key}" for key in keys),
        schema=open_dataset(catalog, []).schema,
        format="parquet",
        filesystem=files,
        partitioning="hive",
        partition_base_dir=f"{root}/image_sets/",
    )
    with duckdb.connect() as connection:
        connection.register("image_sets", dataset)
        return connection.sql(sql).to_arrow_table()


def best_of(ask: Callable[[], pa.Table]) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return min(times)


@contextmanager
def far_away(endpoint: str) -> Iterator[str]:
    """An endpoint that is the other one, and late."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_relay, args=(theirs, urlsplit(endpoint).port), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def _relay(pipe: Connection, port: int) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while (item := await queue.get())[1]:
                await asyncio.sleep(item[0] - time.monotonic())
                writer.write(item[1])
                await writer.drain()
            writer.close()

        delivering = asyncio.create_task(deliver())
        while chunk := await reader.read(1 << 18):
            queue.put_nowait((time.monotonic() + late, chunk))
        queue.put_nowait((0, b""))
        await delivering

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, forth, LATENCY), carry(back, writer, 0), return_exceptions=True)

    async def serve() -> None:
        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def _environment(endpoint: str, folder: Path) -> None:
    os.environ.update(
        AWS_ENDPOINT_URL_S3=endpoint,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_CONFIG_FILE=str(folder / "none"),
        AWS_SHARED_CREDENTIALS_FILE=str(folder / "none"),
        AWS_EC2_METADATA_DISABLED="true",
    )


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, rows=(60_000, "image sets"))
    lines, goals = [], []
    with scratch() as folder, running_s3_server(folder) as server:
        _environment(server.endpoint, folder)
        boto3.Session().client("s3", config=Config(s3={"addressing_style": "path"})).create_bucket(Bucket=BUCKET)
        for days in (max(1, given.rows // 500), 2):
            url = f"s3://{BUCKET}/{days}-days"
            os.environ["AWS_ENDPOINT_URL_S3"] = server.endpoint
            fill(url, given.rows, days)
            with far_away(server.endpoint) as far:
                os.environ["AWS_ENDPOINT_URL_S3"] = far
                catalog = open_or_create(open_store(url), None)
                for name, sql in QUERIES.items():
                    ours = best_of(lambda catalog=catalog, sql=sql: run_query(catalog, sql))  # type: ignore[misc]
                    arrows = best_of(lambda catalog=catalog, far=far, sql=sql: ask_arrow(catalog, far, sql))  # type: ignore[misc]
                    lines.append([f"{days:,}", name, f"{ours * 1000:,.0f}", f"{arrows * 1000:,.0f}"])
                    what = f"{name} on S3 40 ms away, {days:,} objects"
                    measured = f"{ours / arrows:.2f} ({ours * 1000:,.0f} ms)"
                    goals.append(Goal(what, "≤ 1.2 of Arrow's client", measured, ours <= 1.2 * arrows))
    columns = ["objects", "query", "ms", "ms by Arrow's client"]
    show(f"{given.rows:,} rows, the best of {RUNS}", columns, lines)
    conclude(goals, given.json)


if __name__ == "__main__":
    main()
