from typing import Any

import pytest

from ahi_catalog.emulator.errors import ServiceError
from ahi_catalog.emulator.model import OPERATIONS, Operation, operations

SECRET = "Doe^Jane"


def operation(name: str) -> Operation:
    return next(its for its in operations() if its.name == name)


def criteria(body: bytes) -> Any:
    return operation("SearchImageSets").body(body)


def one_filter(values: str, operator: str = "EQUAL") -> bytes:
    return f'{{"filters":[{{"operator":"{operator}","values":{values}}}]}}'.encode()


def test_the_operations_are_those_of_the_model() -> None:
    """Paths and methods come from botocore, not from us."""
    assert tuple(its.name for its in operations()) == OPERATIONS
    search = operation("SearchImageSets")
    assert (search.method, set(search.query)) == ("POST", {"maxResults", "nextToken"})
    assert search.path.fullmatch("/datastore/abc/searchImageSets")


def test_a_full_search_is_understood() -> None:
    """Every part of a search passes; times become microseconds, unknown members go."""
    body = (
        b'{"filters":[{"operator":"BETWEEN","values":[{"createdAt":1777593600.123456},'
        b'{"createdAt":"2026-05-02T00:00:00Z"}],"later":1},{"operator":"EQUAL","values":[{"isPrimary":true}]}],'
        b'"sort":{"sortField":"createdAt","sortOrder":"ASC"},"somethingNew":{}}'
    )
    assert criteria(body) == {
        "filters": [
            {
                "operator": "BETWEEN",
                "values": [{"createdAt": 1777593600123456}, {"createdAt": 1777680000000000}],
            },
            {"operator": "EQUAL", "values": [{"isPrimary": True}]},
        ],
        "sort": {"sortField": "createdAt", "sortOrder": "ASC"},
    }
    assert criteria(b"") == criteria(b"{}") == criteria(b'{"filters":null}') == {}


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        (b"[]", "searchCriteria", "structure"),
        (b'{"filters":{}}', "searchCriteria.filters", "list"),
        (b'{"filters":[]}', "searchCriteria.filters", "between 1 and 2"),
        (b'{"filters":[{},{},{}]}', "searchCriteria.filters", "between 1 and 2"),
        (b'{"filters":[{"operator":"EQUAL"}]}', "searchCriteria.filters.1.values", "null"),
        (one_filter("[]"), "searchCriteria.filters.1.values", "between 1 and 2"),
        (one_filter("[{}]"), "searchCriteria.filters.1.values.1", "exactly one"),
        (
            one_filter('[{"isPrimary":true,"DICOMPatientId":"Doe^Jane"}]'),
            "searchCriteria.filters.1.values.1",
            "exactly one",
        ),
        (one_filter('[{"DICOMSex":"Doe^Jane"}]'), "searchCriteria.filters.1.values.1", "exactly one"),
        (one_filter('[{"isPrimary":"Doe^Jane"}]'), "searchCriteria.filters.1.values.1.isPrimary", "boolean"),
        (one_filter('[{"DICOMPatientId":7}]'), "searchCriteria.filters.1.values.1.DICOMPatientId", "string"),
        (
            one_filter('[{"DICOMPatientId":"' + "Doe^Jane" * 65 + '"}]'),
            "searchCriteria.filters.1.values.1.DICOMPatientId",
            "less than or equal to 512",
        ),
        (
            one_filter('[{"DICOMStudyInstanceUID":"Doe^Jane"}]'),
            "searchCriteria.filters.1.values.1.DICOMStudyInstanceUID",
            "pattern",
        ),
        (
            one_filter('[{"createdAt":"Doe^Jane"}]'),
            "searchCriteria.filters.1.values.1.createdAt",
            "timestamp",
        ),
        (
            one_filter('[{"DICOMStudyDateAndTime":{"DICOMStudyTime":"Doe^Jane"}}]'),
            "searchCriteria.filters.1.values.1.DICOMStudyDateAndTime.DICOMStudyDate",
            "null",
        ),
        (one_filter('[{"isPrimary":true}]', "Doe^Jane"), "searchCriteria.filters.1.operator", "enum"),
        (b'{"sort":{"sortField":"createdAt"}}', "searchCriteria.sort.sortOrder", "null"),
        (b'{"sort":{"sortField":"Doe^Jane","sortOrder":"ASC"}}', "searchCriteria.sort.sortField", "enum"),
    ],
)
def test_what_the_model_forbids_is_refused(body: bytes, field: str, rule: str) -> None:
    """The message names the field and the rule, and never the value."""
    with pytest.raises(ServiceError) as refused:
        criteria(body)
    assert (refused.value.status, refused.value.code) == (400, "ValidationException")
    assert f"'{field}'" in refused.value.message
    assert rule in refused.value.message
    assert SECRET not in str(refused.value)


def test_a_body_that_is_not_json_is_refused() -> None:
    """The parser's message, which would quote the text, is not passed on."""
    with pytest.raises(ServiceError, match="not JSON") as refused:
        criteria(b'{"Doe^Jane')
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("maxResults=0", "maxResults"),
        ("maxResults=51", "maxResults"),
        ("maxResults=ten", "maxResults"),
        ("maxResults=", "maxResults"),
        ("nextToken=", "nextToken"),
        ("nextToken=%C3%BC", "nextToken"),
        ("nextToken=" + "a" * 8193, "nextToken"),
    ],
)
def test_parameters_are_checked(query: str, field: str) -> None:
    """Ranges, lengths and patterns of the query string are the model's."""
    with pytest.raises(ServiceError, match=f"'{field}'"):
        operation("SearchImageSets").parameters({"datastoreId": "0" * 32}, query)


@pytest.mark.parametrize("bad", ["0" * 31, "0" * 33, "A" * 32, "%C3%BC" * 16])
def test_a_data_store_id_has_its_form(bad: str) -> None:
    """The whole text must match the pattern."""
    with pytest.raises(ServiceError, match="'datastoreId'"):
        operation("GetDatastore").parameters({"datastoreId": bad}, "")


def test_parameters_are_decoded() -> None:
    """Numbers become ints, and the version goes by the model's own name."""
    found = operation("GetImageSet").parameters({"datastoreId": "0" * 32, "imageSetId": "1" * 32}, "version=2")
    assert found == {"datastoreId": "0" * 32, "imageSetId": "1" * 32, "versionId": "2"}
    assert operation("ListDatastores").parameters({}, "maxResults=7&unknown=1") == {"maxResults": 7}
