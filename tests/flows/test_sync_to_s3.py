"""The same job onto a real S3 server."""

from pathlib import Path

import pyarrow.parquet as pq

from connectors.catalog import open_catalog, open_store
from connectors.catalog.querying import run_query
from tests.flows.conftest import World
from tests.support.reference import data_objects, expected_rows, read_rows


def test_s3_and_a_local_folder_hold_the_same_bytes(s3_url: str, world: World, tmp_path: Path) -> None:
    """A sync to S3 and one to a folder leave byte-identical data objects, and both equal the service."""
    world.fill(1_500)
    world.sync(catalog=s3_url)
    world.sync()
    store = open_store(s3_url)
    objects = {}
    for entry in store.entries("image_sets/"):
        stored = store.get(entry.key)
        assert stored is not None
        objects[entry.key] = stored.body
    assert objects == data_objects(world.catalog)
    copies = tmp_path / "copies"
    copies.mkdir()
    for number, body in enumerate(objects.values()):
        (copies / f"{number}.parquet").write_bytes(body)
    rows = read_rows(pq.read_table(path) for path in copies.iterdir())
    assert rows == expected_rows(world.service.rows(world.datastore_id))
    [answer] = run_query(open_catalog(store), "select count(*) as n from image_sets").to_pylist()
    assert answer == {"n": 1_500}
