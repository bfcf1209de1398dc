"""The same job onto real S3 servers."""

import io
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from ahi_catalog.connectors.catalog import Store, open_catalog, open_store
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.errors import StoreError
from tests.support.reference import Row, data_objects, expected_rows, read_rows
from tests.support.world import World


def bodies(store: Store) -> dict[str, bytes]:
    """The data objects of a store by their key."""
    found = {entry.key: store.get(entry.key) for entry in store.entries("image_sets/")}
    return {key: stored.body for key, stored in found.items() if stored}


def rows_of(objects: dict[str, bytes]) -> dict[str, Row]:
    """The rows of data objects, read without our code."""
    return read_rows(pq.read_table(io.BytesIO(body)) for body in objects.values())


def test_s3_and_a_local_folder_hold_the_same_bytes(s3_url: str, world: World) -> None:
    """A sync to S3 and one to a folder leave byte-identical data objects, and both equal the service."""
    world.fill(1_500)
    world.sync(catalog=s3_url)
    world.sync()
    store = open_store(s3_url)
    objects = bodies(store)
    assert objects == data_objects(world.catalog)
    assert rows_of(objects) == expected_rows(world.service.rows(world.datastore_id))
    [answer] = run_query(open_catalog(store), "select count(*) as n from image_sets").to_pylist()
    assert answer == {"n": 1_500}


def test_a_store_that_pretends_gets_no_data_objects(world: World, pretending_url: str) -> None:
    """On a server that ignores conditional writes a sync is refused in one line, and publishes nothing."""
    world.fill(1_500)
    world.settings = replace(world.settings, catalog=pretending_url)
    with pytest.raises(StoreError, match="use a store that honours conditional writes") as refused:
        world.sync()
    assert "\n" not in str(refused.value)
    assert not bodies(open_store(pretending_url))
