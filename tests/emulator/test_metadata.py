"""GetImageSetMetadata of the embedded service, through boto3."""

import gzip
import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ahi_catalog.emulator import Service
from ahi_catalog.emulator.dicom_files import load_dicom_files
from ahi_catalog.emulator.idc import load_idc
from tests.support.world import World


def metadata(running: Any, image_set_id: str, **more: str) -> dict[str, Any]:
    answer = running.client.get_image_set_metadata(datastoreId=running.store, imageSetId=image_set_id, **more)
    assert answer["contentEncoding"] == "gzip"
    document: dict[str, Any] = json.loads(gzip.decompress(answer["imageSetMetadataBlob"].read()))
    return document


def test_metadata_has_the_form_of_the_guide(running: Any) -> None:
    """Patient, study, series and one instance, with what the summary says."""
    found = metadata(running, f"{3:032x}", versionId="1")
    tags = running.service.rows(running.store)[3]["DICOMTags"]
    assert found["Patient"]["DICOM"]["PatientID"] == tags["DICOMPatientId"]
    [series] = found["Study"]["Series"].values()
    [instance] = series["Instances"].values()
    assert instance["ImageFrames"][0]["FrameSizeInBytes"] > 0


def test_reading_moves_an_image_set_out_of_the_archive(running: Any) -> None:
    """It is an access: the tier is FREQUENT_ACCESS, the last access is now, and the version stays."""
    running.service.update(running.store, f"{3:032x}", {"storageTier": "ARCHIVE_INSTANT_ACCESS"}, new_version=False)
    running.service.advance(timedelta(days=1))
    metadata(running, f"{3:032x}")
    row = running.service.rows(running.store)[3]
    assert (row["storageTier"], row["version"]) == ("FREQUENT_ACCESS", 1)
    assert row["lastAccessedAt"] == running.service.now().timestamp()


def test_metadata_of_what_is_new_is_not_consistent_yet(start: Any) -> None:
    """For some seconds after an import or an update it is a 409."""
    running = start(metadata_lag=5)
    metadata(running, f"{3:032x}")
    running.service.update(running.store, f"{3:032x}", {})
    with pytest.raises(ClientError, match="not consistent yet") as refused:
        metadata(running, f"{3:032x}", versionId="2")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    running.service.advance(timedelta(seconds=5))
    metadata(running, f"{3:032x}", versionId="2")


@pytest.mark.parametrize("asked", [{"versionId": "2"}, {"imageSetId": "f" * 32}])
def test_what_is_not_there_is_not_found(running: Any, asked: dict[str, str]) -> None:
    """Another version, or another image set."""
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        running.client.get_image_set_metadata(**{"datastoreId": running.store, "imageSetId": f"{3:032x}"} | asked)


def test_metadata_has_a_quota_of_its_own(start: Any) -> None:
    """Its burst is beside that of searches."""
    running = start(rate=1, burst=1, metadata_rate=1, metadata_burst=2, monotonic=lambda: 0.0)
    running.client.search_image_sets(datastoreId=running.store)
    for _ in range(2):
        metadata(running, f"{3:032x}")
    with pytest.raises(ClientError, match="ThrottlingException"):
        metadata(running, f"{3:032x}")


def test_dicom_files_have_their_true_datasets(make_world: Any) -> None:
    """What pydicom reads of the files, by level; numbers as they are written there; sequences as lists of objects."""
    world: World = make_world()
    load_dicom_files(world.service, world.datastore_id)
    store = world.service.datastore(world.datastore_id)
    documents = [json.loads(store.describe(record)) for record in store.current.values()]
    series = [each for found in documents for each in found["Study"]["Series"].values()]
    assert {"GE Medical Systems", "SIEMENS"} <= {each["DICOM"].get("Manufacturer") for each in series}
    instances = [instance["DICOM"] for each in series for instance in each["Instances"].values()]
    assert any(isinstance(each.get("SliceThickness"), str) for each in instances)
    assert any(isinstance(each.get("RequestAttributesSequence"), list) for each in instances)
    assert not any("PixelData" in each for each in instances)


def test_a_data_store_is_not_younger_than_what_it_holds() -> None:
    """Image sets of 2024 in a data store made now: it was created no later than the first."""
    service = Service()
    store = service.create_datastore(name="files")
    load_dicom_files(service, store)
    first = min(row["createdAt"] for row in service.rows(store))
    assert service.datastore(store).created == first * 1_000_000


def test_the_imaging_data_commons_has_its_facts() -> None:
    """As many instances as the index counts, of the size that it says, on its scanner."""
    idc_index_data = pytest.importorskip("idc_index_data")
    import pyarrow.parquet as pq  # noqa: PLC0415

    service = Service()
    store = service.datastore(load_idc(service, rows=50))
    loaded = {record.summary()["DICOMTags"]["DICOMSeriesInstanceUID"] for record in store.current.values()}
    index = {
        row["SeriesInstanceUID"]: row
        for row in pq.read_table(
            idc_index_data.IDC_INDEX_PARQUET_FILEPATH,
            columns=["SeriesInstanceUID", "instanceCount", "series_size_MB", "Manufacturer", "SOPClassUID"],
            filters=[("SeriesInstanceUID", "in", loaded)],
        ).to_pylist()
    }
    assert len(store.current) == len(index)
    for record in store.current.values():
        [(uid, series)] = json.loads(store.describe(record))["Study"]["Series"].items()
        facts, instances = index[uid], series["Instances"].values()
        assert len(instances) == facts["instanceCount"]
        assert series["DICOM"].get("Manufacturer") == facts["Manufacturer"]
        assert {instance["DICOM"]["SOPClassUID"] for instance in instances} == {facts["SOPClassUID"]}
        sizes = [frame["FrameSizeInBytes"] for its in instances for frame in its.get("ImageFrames", [])]
        assert sum(sizes) == (round(facts["series_size_MB"] * 1e6) if sizes else 0)
