"""Answers of GetImageSetMetadata as rows: the same however they are cut, and nothing that is not of their form."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.schemas import INSTANCES, SERIES
from ahi_catalog.schemas.decoding import metadata
from ahi_catalog.schemas.decoding.metadata import MalformedMetadataError, Origin, read_metadata, to_table

ORIGIN = Origin(image_set_id="a" * 32, version=3, created_at=datetime(2024, 1, 1, tzinfo=UTC))


def instance(number: int, frames: int = 1, **dicom: Any) -> dict[str, Any]:
    attributes = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "InstanceNumber": f"{number} ", "Rows": 512}
    return {
        "DICOM": attributes | dicom,
        "DICOMVRs": {},
        "StoredTransferSyntaxUID": "1.2.840.10008.1.2.1",
        "ImageFrames": [{"ID": f"{number:032x}", "FrameSizeInBytes": 1_000} for _ in range(frames)],
    }


def document(series: dict[str, dict[str, Any]], study: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "SchemaVersion": "1.1",
        "Patient": {"DICOM": {"PatientID": "P1"}},
        "Study": {"DICOM": {"StudyInstanceUID": "1.2", **(study or {})}, "Series": series},
    }


def one_series(instances: list[dict[str, Any]], **dicom: Any) -> dict[str, Any]:
    return document(
        {"1.2.3": {"DICOM": dicom, "Instances": {f"1.2.3.{number}": each for number, each in enumerate(instances)}}}
    )


def rows_of(found: Any, keywords: dict[str, str] | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of `series` and of `instances`, by way of Arrow."""
    body = found if isinstance(found, bytes) else json.dumps(found).encode()
    read = read_metadata([body], ORIGIN, keywords or {}, with_instances=True)
    series, instances = to_table(read.series), read.instances
    assert series.schema.names == [*SERIES.schema.names, "patient_id"]
    assert instances.schema == INSTANCES.schema
    for table in (series, instances):
        table.validate(full=True)
    return series.to_pylist(), instances.to_pylist()


def test_a_series_has_its_facts() -> None:
    """Each column comes from its level; sums are sums; padded texts are numbers; what instances differ in is null."""
    instances = [
        instance(1, KVP="120 ", PixelSpacing=["0.5", "0.75"], ImageType=["ORIGINAL", "PRIMARY"], EchoTime=1),
        instance(2, frames=3, KVP="120", PixelSpacing=["0.5", "0.75"], ImageType=["ORIGINAL", "PRIMARY"], EchoTime=2),
    ]
    body = one_series(instances, Modality="CT", SeriesNumber="7 ", SeriesDate="20240229", SoftwareVersions=["a", "b"])
    body["Study"]["DICOM"]["PatientAge"] = "006M"
    [row], its = rows_of(body)
    assert {name: value for name, value in row.items() if value is not None} == {
        "image_set_id": "a" * 32,
        "image_set_version": 3,
        "created_at": datetime(2024, 1, 1, tzinfo=UTC),
        "series_instance_uid": "1.2.3",
        "study_instance_uid": "1.2",
        "modality": "CT",
        "series_number": 7,
        "series_date": datetime(2024, 2, 29, tzinfo=UTC).date(),
        "patient_age": "006M",
        "patient_age_years": 0.5,
        "software_versions": "a\\b",
        "sop_class_uid": ["1.2.840.10008.5.1.4.1.1.2"],
        "transfer_syntax_uid": ["1.2.840.10008.1.2.1"],
        "instances": 2,
        "frames": 4,
        "bytes": 4_000,
        "rows": 512,
        "pixel_spacing": [0.5, 0.75],
        "image_type": ["ORIGINAL", "PRIMARY"],
        "kvp": 120.0,
        "patient_id": "P1",
    }
    assert [(each["sop_instance_uid"], each["instance_number"], each["frames"]) for each in its] == [
        ("1.2.3.0", 1, 1),
        ("1.2.3.1", 2, 3),
    ]
    assert its[1]["frame_ids"] == [f"{2:032x}"] * 3


def test_values_inside_sequences_are_found() -> None:
    """Multi-frame objects keep spacing, and nuclear ones the drug, in a sequence."""
    measures = [{"PixelMeasuresSequence": [{"SliceThickness": "1.5", "PixelSpacing": ["1", "2"]}]}]
    drug = [{"Radiopharmaceutical": "FDG"}, {"Radiopharmaceutical": "other"}]
    [row], _ = rows_of(
        one_series([instance(1, SharedFunctionalGroupsSequence=measures, RadiopharmaceuticalInformationSequence=drug)])
    )
    assert (row["slice_thickness"], row["pixel_spacing"], row["radiopharmaceutical"]) == (1.5, [1.0, 2.0], "FDG")


def test_what_a_column_cannot_hold_is_kept_beside_it() -> None:
    """It is null there, and in `extra` under its keyword as it was sent; an age that is none has no years."""
    [row], _ = rows_of(
        one_series([instance(1, KVP="many", Rows=2**40)], SeriesDate="2024-02-30", Modality=5, SeriesNumber="1.5")
        | {"Patient": None}
    )
    assert json.loads(row["extra"]) == {
        "KVP": "many",
        "Rows": 2**40,
        "SeriesDate": "2024-02-30",
        "Modality": 5,
        "SeriesNumber": "1.5",
    }
    assert not any(row[name] for name in ("kvp", "rows", "series_date", "modality", "series_number", "patient_id"))


def test_further_keywords_have_a_column_of_json() -> None:
    """By their VR numbers are numbers; a keyword that is not there, or on which instances differ, is null."""
    body = one_series([instance(1, ExposureTime="12 ", XRayTubeCurrent=1), instance(2, ExposureTime="12")])
    keywords = {"ExposureTime": "IS", "XRayTubeCurrent": "IS", "PatientComments": "LT"}
    [row], _ = rows_of(body, keywords)
    assert json.loads(row["attributes"]) == {"ExposureTime": 12, "XRayTubeCurrent": None, "PatientComments": None}


@pytest.mark.parametrize("size", [-1, True, "5", 2.0, 2**63 - 1, 2**70, None])
def test_a_size_that_is_none_does_not_count(size: Any) -> None:
    """Of a frame; what would overflow the sum neither."""
    body = one_series([instance(1, frames=2)])
    body["Study"]["Series"]["1.2.3"]["Instances"]["1.2.3.0"]["ImageFrames"][0]["FrameSizeInBytes"] = size
    for [row] in rows_of(body):
        assert (row["bytes"], row["frames"]) == (1_000, 2)


@pytest.mark.parametrize("instances", [{}, None])
def test_an_image_set_without_instances_has_its_series(instances: Any) -> None:
    """As one that holds nothing but a description."""
    [row], its = rows_of(document({"1.2.3": {"DICOM": {"Modality": "SR"}, "Instances": instances}}))
    assert (row["modality"], row["instances"], row["frames"], row["bytes"], row["sop_class_uid"], its) == (
        "SR",
        0,
        0,
        0,
        None,
        [],
    )


@pytest.mark.parametrize("depth", [100, 300, 450, 600, 900, 2_000])
def test_what_is_nested_without_end_is_kept_or_refused(depth: int) -> None:
    """Refused where it is deeper than can be followed, of what is kept too."""
    text = json.dumps(one_series([instance(1, KVP="")])).replace('"KVP": ""', f'"KVP": {"[" * depth}{"]" * depth}')
    assert depth > 100 or rows_of(text.encode(), {"KVP": "LT"})
    with suppress(MalformedMetadataError):
        rows_of(text.encode(), {"KVP": "LT"})


odd_texts = st.text(max_size=8) | st.sampled_from(['},"1.2":{', '\\"},"1.2.3":{"', "}}}}}", '{"Instances":{'])
attribute_values = st.none() | st.integers(-3, 3) | odd_texts | st.lists(odd_texts, max_size=2)
uid = st.from_regex(r"[0-9](\.[0-9]{1,2}){1,3}", fullmatch=True)
instances_strategy = st.dictionaries(
    uid,
    st.fixed_dictionaries(
        {
            "DICOM": st.fixed_dictionaries(
                {"Rows": st.just(512) | attribute_values, "KVP": attribute_values, "SOPClassUID": odd_texts},
                optional={
                    "Private": st.dictionaries(uid, st.fixed_dictionaries({"a": odd_texts}), max_size=3),
                    "X": odd_texts,
                },
            )
        },
        optional={"ImageFrames": st.lists(st.just({"ID": "f", "FrameSizeInBytes": 5}), max_size=2)},
    ),
    max_size=6,
)
series_strategy = st.dictionaries(
    uid,
    st.tuples(instances_strategy, attribute_values).flatmap(
        lambda pair: st.sampled_from(
            [
                {"DICOM": {"Manufacturer": pair[1]}, "Instances": pair[0]},
                {"Instances": pair[0], "DICOM": {"Manufacturer": pair[1]}},
            ]
        )
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(series_strategy, st.integers(1, 400), st.integers(1, 400), st.sampled_from([None, 1]))
def test_rows_do_not_depend_on_how_a_body_is_cut(
    series: dict[str, Any], part: int, piece: int, indent: int | None
) -> None:
    """Parts of any size, pieces of any size, gzip or not, spaces or none: the rows of the whole document."""
    body = json.dumps(document(series), indent=indent).encode()
    whole = read_metadata([body], ORIGIN, with_instances=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "_PART_BYTES", part)
        for sent in (body, gzip.compress(body), gzip.compress(body[:50]) + gzip.compress(body[50:])):
            pieces = [sent[at : at + piece] for at in range(0, len(sent), piece)]
            assert read_metadata(pieces, ORIGIN, with_instances=True) == whole


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Gateway error</html>",
        b"[]",
        b"{}",
        b'{"Study": {"Series": {}}}',
        b'{"Study": {"Series": ["Secret^Name"]}}',
        b'{"Study": {"Series": {"1.2": {"Instances": {"1": {"DICOM": "Secret^Name"}}}}}}',
        b"\x1f\x8b\xff\x00" * 8,
        gzip.compress(json.dumps(one_series([instance(1)])).encode())[:-9],
        json.dumps(one_series([instance(1)])).encode()[:-3],
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_metadata_is_refused_without_quoting_it(body: bytes) -> None:
    """Text, other JSON, half a body and broken gzip are one error, which holds nothing of them."""
    with pytest.raises(MalformedMetadataError) as refused:
        read_metadata([body], ORIGIN)
    assert "Secret" not in str(refused.value)


def test_a_body_that_unzips_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than the stated size ends there, and so does an instance that never ends."""
    monkeypatch.setattr(metadata, "MOST_BYTES", 5_000_000)
    bomb = gzip.compress(b" " * 50_000_000)
    with pytest.raises(MalformedMetadataError, match="more than 4 MB"):
        read_metadata([bomb], ORIGIN)
    monkeypatch.setattr(metadata, "MOST_BYTES", 1 << 30)
    monkeypatch.setattr(metadata, "_MOST_PART_BYTES", 6_000_000)
    with pytest.raises(MalformedMetadataError, match="an instance"):
        read_metadata([bomb], ORIGIN)


def large_body(count: int) -> Iterator[bytes]:
    """A body of so many instances, piece by piece."""
    filler = json.dumps({"DICOM": {"Rows": 5, "Other": "x" * 800}, "ImageFrames": [{"FrameSizeInBytes": 2}]}).encode()
    yield b'{"Study":{"Series":{"1.2":{"Instances":{'
    for number in range(count):
        # Longer than a UID may be: some are.
        yield (b"," if number else b"") + b'"1.2.%070d":%b' % (number, filler)
    yield b"}}}}}"


def test_a_large_body_is_never_held() -> None:
    """Fifty thousand instances pass through in parts of some megabytes; all are counted."""
    before, largest = metadata._decoder(()), 0

    def decode(part: bytes) -> Any:
        nonlocal largest
        largest = max(largest, len(part))
        return before.decode(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "_decoder", lambda _: type("Counting", (), {"decode": staticmethod(decode)}))
        [row] = read_metadata(large_body(50_000), ORIGIN).series
    assert (row["instances"], row["bytes"], row["rows"]) == (50_000, 100_000, 5)
    assert largest < 5 << 20


def test_memory_does_not_grow_with_the_body() -> None:
    """What is allocated at most is the same for a body of 9 MB and for one of 17, with rows of `instances` too."""
    peaks = []
    for count in (9_000, 18_000):
        tracemalloc.start()
        found = read_metadata(large_body(count), ORIGIN, with_instances=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found.instances) == count
    assert peaks[1] < 1.1 * peaks[0] < 40 << 20
