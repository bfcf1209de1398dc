"""The declaration against the installed botocore model of medical-imaging/2023-07-19."""

import re
from typing import Any

import botocore.session
import pyarrow as pa
import pytest

from ahi_catalog.schemas import IMAGE_SETS, Sensitivity
from ahi_catalog.schemas.image_sets import RECEIVED, SUMMARIES, TAGS


def api_fields() -> dict[tuple[str, ...], bool]:
    """The fields of a summary in the API, by path, and whether the API marks them sensitive."""
    model = botocore.session.get_session().get_service_model("medical-imaging")
    output: Any = model.operation_model("SearchImageSets").output_shape
    summary = output.members[SUMMARIES].member
    fields: dict[tuple[str, ...], Any] = {(name,): shape for name, shape in summary.members.items() if name != TAGS}
    fields |= {(TAGS, name): shape for name, shape in summary.members[TAGS].members.items()}
    return {path: bool(shape.metadata.get("sensitive")) for path, shape in fields.items()}


def test_every_field_of_the_api_has_its_column() -> None:
    """The API has no field that the declaration lacks, and the declaration none that the API lacks."""
    assert {column.source for column in RECEIVED} == set(api_fields())


def test_what_the_api_calls_sensitive_is_sensitive_here() -> None:
    """A column tells of a patient exactly where botocore marks its field sensitive."""
    sensitive = {column.source: column.sensitivity is not Sensitivity.NONE for column in RECEIVED}
    assert sensitive == api_fields()


@pytest.mark.parametrize("column", IMAGE_SETS.columns, ids=lambda column: column.name)
def test_every_type_is_one_that_all_readers_read(column: Any) -> None:
    """No TIME, no unsigned integer, no nanosecond."""
    assert column.type in {
        pa.string(),
        pa.int32(),
        pa.int64(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("us"),
        pa.timestamp("us", tz="UTC"),
    }
    assert column.doc.endswith((".", "null."))


def test_names_are_the_services_in_snake_case() -> None:
    """DICOM dropped; text that a parsed column stands beside is `dicom_*`, and that column has the plain name."""
    parsed = {column.name for column in IMAGE_SETS.columns if not column.source}
    for column in RECEIVED:
        plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.source[-1].removeprefix("DICOM")).lower()
        is_parsed = plain in parsed or plain == "study_time"
        assert column.name == (f"dicom_{plain}" if is_parsed else plain)


def test_only_identity_and_creation_are_required() -> None:
    """Everything but the id and createdAt may be absent."""
    assert [field.name for field in IMAGE_SETS.schema if not field.nullable] == ["image_set_id", "created_at"]
