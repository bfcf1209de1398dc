"""The declarations of `series` and `instances` against DICOM's dictionary, PS3.15's table and the documentation."""

import json
import re
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from pydicom.datadict import tag_for_keyword

from ahi_catalog.schemas import IMAGE_SETS, INSTANCES, SERIES, PhiKey, PhiPolicy, Policy, Table, protection
from ahi_catalog.schemas.keywords import value_representations
from ahi_catalog.schemas.series import ATTRIBUTES, snake_case
from tests.support.basic_profile import check_profile

KEY = PhiKey(b"0123456789abcdef" * 4)
KEYWORDS = {
    "ExposureTime": "IS",
    "BolusDescription": "LT",
    "PatientComments": "LT",
    "ScanOptions": "CS",
    "RequestingPhysician": "PN",
}
COLUMNS = [column for table in (SERIES, INSTANCES) for column in table.columns]
READABLE = {pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.date32(), pa.timestamp("us", tz="UTC")}


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.keyword)
def test_attributes_are_those_of_the_dictionary(attribute: Any) -> None:
    """The tag in the doc is pydicom's, and the column's name follows from the keyword."""
    tag = tag_for_keyword(attribute.keyword)
    assert tag is not None
    assert attribute.column.name == snake_case(attribute.keyword)
    assert f"({tag >> 16:04X},{tag & 0xFFFF:04X})" in attribute.column.doc


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_every_type_is_one_that_all_readers_read(column: Any) -> None:
    """Texts, numbers and dates, or lists of them."""
    assert (column.type.value_type if pa.types.is_list(column.type) else column.type) in READABLE
    assert column.doc.endswith((".", "null."))


def test_every_sensitive_column_has_its_line_of_the_basic_profile() -> None:
    """PS3.15's action is cited for each column that can tell of a patient; no other is; what is kept has its option."""
    check_profile("column of `series` or `instances`", COLUMNS)


def protected(table: Table, values: dict[str, Any], policy: Policy = Policy.PSEUDONYMIZE, **flags: bool) -> Any:
    key = KEY if policy is Policy.PSEUDONYMIZE else None
    keywords = {
        "ExposureTime": "IS",
        "BolusDescription": "LT",
        "PatientComments": "LT",
        "ScanOptions": "CS",
        "RequestingPhysician": "PN",
    }
    protect = protection(
        table, PhiPolicy(policy=policy, key_check=key.check if key else None, **flags), key, keywords=keywords
    )
    start = {"image_set_id": "a" * 32, "created_at": datetime(2024, 1, 1, tzinfo=UTC)}
    schema = pa.schema([*table.schema, pa.field("patient_id", pa.string())]) if table is SERIES else table.schema
    rows = protect(pa.Table.from_pylist([start | values], schema))
    assert rows.schema == table.schema
    return rows.to_pylist()[0]


def test_pseudonyms_are_those_of_image_sets() -> None:
    """Studies, series and shifted dates join with `image_sets`."""
    shared = {"study_instance_uid": "1.2", "series_instance_uid": "1.2.3", "patient_id": "P"}
    series = protected(SERIES, {**shared, "series_date": date(2024, 3, 1)}, shift_dates=True)
    protect = protection(IMAGE_SETS, PhiPolicy(policy=Policy.PSEUDONYMIZE, key_check=KEY.check, shift_dates=True), KEY)
    start = {"image_set_id": "a" * 32, "created_at": datetime(2024, 1, 1, tzinfo=UTC)}
    [image_set] = protect(
        pa.Table.from_pylist([{**start, **shared, "study_date": date(2024, 3, 1)}], IMAGE_SETS.schema)
    ).to_pylist()
    for name in ("study_instance_uid", "series_instance_uid"):
        assert series[name] == image_set[name] != shared[name]
    assert series["series_date"] == image_set["study_date"] != date(2024, 3, 1)


KEPT_ATTRIBUTES = {
    "ExposureTime": "Secret",
    "PatientComments": "Secret",
    "ScanOptions": "Secret^Text",
    "RequestingPhysician": "Secret",
}
SECRETS = {
    **dict.fromkeys(("series_description", "protocol_name", "device_serial_number", "station_name"), "Secret"),
    **dict.fromkeys(("institution_name", "contrast_bolus_agent", "series_time", "patient_age", "patient_id"), "Secret"),
    "modality": "Secret^Text",
    "image_type": ["ORIGINAL", "Secret^Text"],
    "frame_of_reference_uid": "9.9",
    "extra": '{"KVP":"Secret"}',
    "attributes": json.dumps(KEPT_ATTRIBUTES),
}


@pytest.mark.parametrize("policy", [Policy.PSEUDONYMIZE, Policy.DROP])
def test_nothing_of_the_original_is_left(policy: Policy) -> None:
    """Descriptions, places, devices, agents and attributes are null or pseudonyms; keywords keep their place."""
    row = protected(SERIES, SECRETS, policy)
    assert not re.search(r"Secret|9\.9", json.dumps(row, default=str))
    assert json.loads(row["attributes"]) == dict.fromkeys(KEPT_ATTRIBUTES)
    assert (row["device_serial_number"] is None) is (policy is Policy.DROP)
    assert protected(SERIES, SECRETS, Policy.KEEP) == protected(SERIES, {}, Policy.KEEP) | {
        name: value for name, value in SECRETS.items() if name != "patient_id"
    }


def test_what_tells_of_nobody_is_kept() -> None:
    """Numbers and codes of `attributes`, kinds of image and ages up to 89 stay; above they are told as 90."""
    row = protected(
        SERIES,
        {
            "image_type": ["ORIGINAL", "PRIMARY"],
            "patient_age": "089Y",
            "patient_age_years": 89.0,
            "patient_weight": 70.5,
            "attributes": '{"ExposureTime":[1,2],"ScanOptions":["A","B"],"BolusDescription":"x"}',
        },
        keep_text=True,
    )
    assert (row["image_type"], row["patient_age"], row["patient_age_years"]) == (["ORIGINAL", "PRIMARY"], "089Y", 89.0)
    assert row["patient_weight"] == 70.5
    assert json.loads(row["attributes"]) == {
        "ExposureTime": [1, 2],
        "ScanOptions": ["A", "B"],
        "BolusDescription": "x",
    }
    old = protected(SERIES, {"patient_age": "104Y", "patient_age_years": 104.0}, Policy.DROP)
    assert (old["patient_age"], old["patient_age_years"]) == ("090Y", 90.0)


def test_keywords_are_those_of_the_dictionary() -> None:
    """One that is unknown, a sequence, or a column of its own is refused by its name."""
    assert value_representations(["ExposureTime", "SmallestImagePixelValue"]) == {
        "ExposureTime": "IS",
        "SmallestImagePixelValue": "US",
    }
    for keyword, reason in [("Nonsense", "dictionary"), ("PixelData", "plain"), ("Rows", "column")]:
        with pytest.raises(ValueError, match=f"{keyword} .*{reason}"):
            value_representations([keyword])
