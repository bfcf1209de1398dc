"""What a catalog is compared with: the script that a user would write, and dlt. Each run is a process of its own.

python -m benchmarks.contenders pandas|dlt|metadata DATASTORE FOLDER
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EVERYTHING = (datetime(2019, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC))


def pages(datastore_id: str, start: datetime) -> Iterator[list[dict[str, Any]]]:
    """boto3's paginator, oldest first."""
    import boto3  # noqa: PLC0415  # part of what is measured
    from botocore.config import Config  # noqa: PLC0415

    client: Any = boto3.client("medical-imaging", config=Config(inject_host_prefix=False))
    asked = client.get_paginator("search_image_sets").paginate(
        datastoreId=datastore_id,
        searchCriteria={
            "filters": [{"operator": "BETWEEN", "values": [{"createdAt": start}, {"createdAt": EVERYTHING[1]}]}],
            "sort": {"sortField": "createdAt", "sortOrder": "ASC"},
        },
    )
    for page in asked:
        yield page["imageSetsMetadataSummaries"]


def run_pandas(datastore_id: str, folder: Path) -> None:
    """The script that a user would write: paginator, json_normalize, to_parquet by day."""
    import pandas as pd  # noqa: PLC0415

    summaries = [summary for page in pages(datastore_id, EVERYTHING[0]) for summary in page]
    frame = pd.json_normalize(summaries)
    for column in ("createdAt", "updatedAt", "lastAccessedAt"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    frame["created_date"] = frame["createdAt"].dt.date.astype(str)
    frame.to_parquet(folder, partition_cols=["created_date"], index=False)


def run_dlt(datastore_id: str, folder: Path) -> None:
    """Dlt with an incremental resource, to Parquet files."""
    import dlt  # noqa: PLC0415

    @dlt.resource(name="image_sets", primary_key="imageSetId")  # type: ignore[untyped-decorator]
    def image_sets(
        created: Any = dlt.sources.incremental("createdAt", initial_value=EVERYTHING[0]),  # noqa: B008
    ) -> Iterator[Any]:
        yield from pages(datastore_id, created.last_value)

    pipeline = dlt.pipeline(
        "benchmark",
        destination=dlt.destinations.filesystem(bucket_url=folder.resolve().as_uri()),
        dataset_name="imaging",
        pipelines_dir=str(folder.parent / "dlt-state"),
    )
    pipeline.run(image_sets(), loader_file_format="parquet")


def run_metadata(datastore_id: str, folder: Path) -> None:
    """The script that a user would write for series: gzip, json, a data frame of instances, what they agree on."""
    import gzip  # noqa: PLC0415
    import json  # noqa: PLC0415

    import boto3  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    client: Any = boto3.client("medical-imaging", config=Config(inject_host_prefix=False))
    rows = []
    for page in pages(datastore_id, EVERYTHING[0]):
        for summary in page:
            answer = client.get_image_set_metadata(datastoreId=datastore_id, imageSetId=summary["imageSetId"])
            study = json.loads(gzip.decompress(answer["imageSetMetadataBlob"].read()))["Study"]
            for uid, series in study["Series"].items():
                frame = pd.DataFrame([instance["DICOM"] for instance in series["Instances"].values()])
                agreed = {name: frame[name].iloc[0] for name in frame if len(frame[name].astype(str).unique()) == 1}
                size = sum(f["FrameSizeInBytes"] for i in series["Instances"].values() for f in i["ImageFrames"])
                rows.append({**series["DICOM"], **agreed, "uid": uid, "instances": len(frame), "bytes": size})
    frame = pd.DataFrame(rows)
    folder.mkdir(parents=True)
    frame.astype(str).to_parquet(folder / "series.parquet", index=False)


if __name__ == "__main__":
    {"pandas": run_pandas, "dlt": run_dlt, "metadata": run_metadata}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)  # pyarrow's threads sometimes abort an interpreter that ends right after to_parquet
