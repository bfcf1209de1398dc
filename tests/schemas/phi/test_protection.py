"""What a PHI policy makes of rows: nothing of the originals stays, joins do, and the same comes out every time."""

import json
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.schemas import IMAGE_SETS, PhiKey, PhiPolicy, Policy, Sensitivity, protection
from ahi_catalog.schemas.phi.policy import Action, action
from tests.support.basic_profile import check_profile

KEY = PhiKey(b"0123456789abcdef" * 4)
OTHER_KEY = PhiKey(b"fedcba9876543210" * 4)
IDENTIFIERS = ("patient_id", "accession_number", "study_id", "study_instance_uid", "series_instance_uid")


def protected(
    rows: list[dict[str, Any]], policy: Policy = Policy.PSEUDONYMIZE, key: PhiKey = KEY, **flags: bool
) -> Any:
    """Rows under a policy, checked as Arrow checks them."""
    check = key.check if policy is Policy.PSEUDONYMIZE else None
    protect = protection(IMAGE_SETS, PhiPolicy(policy=policy, key_check=check, **flags), key if check else None)
    table = protect(pa.Table.from_pylist([row_of(**row) for row in rows], IMAGE_SETS.schema))
    assert table.schema == IMAGE_SETS.schema
    table.validate(full=True)
    return table.to_pylist()


def row_of(**values: Any) -> dict[str, Any]:
    return {"image_set_id": "a" * 32, "created_at": datetime(2024, 1, 1), **values}  # noqa: DTZ001  # read as UTC


texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=20) | st.text(" \0P1", max_size=4)
dates = st.none() | st.dates()
rows = st.lists(
    st.fixed_dictionaries(
        {
            **dict.fromkeys((*IDENTIFIERS, "patient_name", "study_description", "extra", "series_body_part"), texts),
            "extra": st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2).map(json.dumps),
            "patient_birth_date": dates,
            "study_date": dates,
            "study_datetime": st.none() | st.datetimes(),
            "dicom_study_date": texts,
            "dicom_study_time": texts,
            "dicom_patient_birth_date": texts,
        }
    ),
    max_size=8,
)


@settings(deadline=None)
@given(rows, st.booleans(), st.booleans())
def test_joins_are_kept_and_originals_are_not(found: list[dict[str, Any]], keep_text: bool, shift: bool) -> None:  # noqa: FBT001
    """Identifiers that are equal but for padding stay equal, others different, those absent or blank what they are."""
    made = protected(found, keep_text=keep_text, shift_dates=shift)
    for name in IDENTIFIERS:
        pairs = {(before[name], after[name]) for before, after in zip(found, made, strict=True)}
        named = {(a.strip(" \0"), b) for a, b in pairs if a is not None and a.strip(" \0")}
        assert len(named) == len({a for a, _ in named}) == len({b for _, b in named})
        assert all(a != b for a, b in named)
        assert all(a == b for a, b in pairs if a is None or not a.strip(" \0"))


def test_padding_is_no_part_of_an_identifier_and_a_blank_stays_blank() -> None:
    """P1, padded with blanks or NULs, is one patient with one pseudonym and one shift; nobody is no patient."""
    day = date(2024, 3, 1)
    named = ["P1", "P1 ", " P1", "P1\0", "P1 \0 "]
    blank = [None, "", " ", "\0", " \0 "]
    found = [dict.fromkeys(IDENTIFIERS, text) | {"study_date": day} for text in (*named, *blank)]
    made = protected(found, shift_dates=True)
    for name in IDENTIFIERS:
        assert len({row[name] for row in made[: len(named)]}) == 1
        assert [row[name] for row in made[len(named) :]] == blank
    [shifted] = {row["study_date"] for row in made[: len(named)]}
    assert shifted < day
    assert {row["study_date"] for row in made[len(named) :]} == {None}


@settings(deadline=None)
@given(rows, st.integers(0, 8))
def test_rows_are_protected_alike_in_any_company(found: list[dict[str, Any]], cut: int) -> None:
    """The same rows and key give the same values, in one batch or in two; so overlapping runs write the same bytes."""
    parts = protected(found[:cut], shift_dates=True) + protected(found[cut:], shift_dates=True)
    assert protected(found, shift_dates=True) == parts


@settings(deadline=None)
@given(rows, st.sampled_from([Policy.PSEUDONYMIZE, Policy.DROP]))
def test_no_date_text_tells_more_than_its_date(found: list[dict[str, Any]], policy: Policy) -> None:
    """Raw dates are made of the parsed ones; raw times are times; births are years."""
    for row in protected(found, policy):
        for parsed, raw in (("study_date", "dicom_study_date"), ("patient_birth_date", "dicom_patient_birth_date")):
            assert row[raw] == (None if row[parsed] is None else row[parsed].isoformat().replace("-", ""))
        assert row["dicom_study_time"] is None or re.fullmatch(r"[0-9:.]+[ \0]*", row["dicom_study_time"])
        assert row["patient_birth_date"] is None or (
            row["patient_birth_date"].month,
            row["patient_birth_date"].day,
        ) == (1, 1)


@settings(deadline=None)
@given(rows)
def test_drop_leaves_nothing_to_join(found: list[dict[str, Any]]) -> None:
    """Under drop no identifier, name, UID, date or text is left; codes are codes."""
    for row in protected(found, Policy.DROP):
        gone = [c.name for c in IMAGE_SETS.columns if c.sensitivity not in (Sensitivity.NONE, Sensitivity.CODE)]
        assert not [name for name in gone if row[name] is not None]


def test_keep_changes_nothing() -> None:
    """Under keep rows are what they were."""
    [row] = protected([{"patient_name": "A^B", "extra": "{}"}], Policy.KEEP)
    assert (row["patient_name"], row["extra"]) == ("A^B", "{}")


def test_uids_are_valid_and_derived_from_uuids() -> None:
    """A pseudonymous UID is 2.25. and the decimal value of a UUID, at most 64 characters (DICOM PS3.5 B.2)."""
    found = [{"study_instance_uid": f"1.2.{number}"} for number in range(500)]
    for row in protected(found):
        uid = row["study_instance_uid"]
        assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]*)", uid)
        assert len(uid) <= 64
        made = uuid.UUID(int=int(uid.removeprefix("2.25.")))
        assert (made.variant, made.bytes[6] >> 4) == (uuid.RFC_4122, 8)


def test_columns_and_keys_have_pseudonyms_of_their_own() -> None:
    """Equal texts in two columns, and under two keys, give different pseudonyms."""
    row = dict.fromkeys(IDENTIFIERS, "1.2.3")
    [ours], [theirs] = protected([row]), protected([row], key=OTHER_KEY)
    values = [found[name] for found in (ours, theirs) for name in IDENTIFIERS]
    assert len(set(values)) == 2 * len(IDENTIFIERS)


def test_dates_of_a_patient_move_together() -> None:
    """All dates of a patient move back by the same 1 to 365 days, by other days for another, and times of day stay."""
    days = [date(2024, 3, 1), date(2023, 12, 31)]
    found = [
        {"patient_id": patient, "study_date": day, "study_datetime": datetime(day.year, day.month, day.day, 13, 5)}  # noqa: DTZ001
        for patient in map(str, range(40))
        for day in days
    ]
    offsets: dict[str, set[timedelta]] = {}
    for before, after in zip(found, protected(found, shift_dates=True), strict=True):
        offset = before["study_date"] - after["study_date"]
        assert before["study_datetime"] - after["study_datetime"] == offset
        assert timedelta(1) <= offset <= timedelta(365)
        assert after["dicom_study_date"] == after["study_date"].strftime("%Y%m%d")
        offsets.setdefault(str(before["patient_id"]), set()).add(offset)
    assert all(len(one) == 1 for one in offsets.values())
    assert len(set.union(*offsets.values())) > 20


@pytest.mark.parametrize("patient", [None, "", "  \0"])
def test_dates_without_a_patient_cannot_be_shifted(patient: str | None) -> None:
    """Where there is no patient to derive days from, dates are null rather than unshifted or shifted in common."""
    [row] = protected([{"patient_id": patient, "study_date": date(2024, 3, 1)}], shift_dates=True)
    assert (row["study_date"], row["dicom_study_date"]) == (None, None)


def test_the_first_year_has_nothing_before_it() -> None:
    """A date that its shift would move before the year 1 is null."""
    early = {
        "patient_id": "a",
        "study_date": date.min,
        "study_datetime": datetime(1, 1, 1),  # noqa: DTZ001
        "patient_birth_date": date.min,
    }
    [row] = protected([early], shift_dates=True)
    assert (row["study_date"], row["study_datetime"], row["patient_birth_date"]) == (None, None, date.min)


@pytest.mark.parametrize(
    ("value", "kept"), [("CHEST", True), ("Chest ", True), ("Mrs. A. Smith", False), ("A" * 17, False), ("山田", False)]
)
def test_only_code_strings_are_kept_as_codes(value: str, kept: bool) -> None:  # noqa: FBT001
    """Free text in the place of a code is null."""
    [row] = protected([{"series_body_part": value}])
    assert row["series_body_part"] == (value if kept else None)


def test_kept_text_of_extra_is_what_is_declared_and_no_identifier() -> None:
    """With keep_text `extra` loses identifiers in odd forms, and fields that nobody knows."""
    extra = {
        "DICOMTags": {
            "DICOMPatientName": ["A^B"],
            "DICOMStudyDate": 20240101,
            "DICOMStudyDescription": "\ud800",
            "DICOMOtherPatientIDs": "123",
        },
        "imageSetLabel": "Smith",
        "version": "1",
    }
    found = {"extra": json.dumps(extra), "study_description": "Knee"}
    [row] = protected([found], keep_text=True)
    assert json.loads(row["extra"]) == {"DICOMTags": {"DICOMStudyDescription": "\ud800"}, "version": "1"}
    assert row["study_description"] == "Knee"
    [row] = protected([found])
    assert (row["extra"], row["study_description"]) == (None, None)


@pytest.mark.parametrize("key", [b"", b"0123456789abcdef" * 2 + b"", b"a" * 64])
def test_a_weak_key_is_refused(key: bytes) -> None:
    """A key has 32 bytes, and they are not all the same."""
    if len(key) == 32:
        PhiKey(key)
        with pytest.raises(ValueError, match="32 random bytes"):
            PhiKey(key[:-1])
    else:
        with pytest.raises(ValueError, match="32 random bytes"):
            PhiKey(key)


def test_a_key_shows_nowhere() -> None:
    """Neither repr nor pickle nor the check value gives the key away."""
    import pickle  # noqa: PLC0415

    assert "0123" not in f"{KEY!r} {KEY} {KEY.check}"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    assert KEY.check != OTHER_KEY.check


@pytest.mark.parametrize(
    "make",
    [
        lambda: PhiPolicy(policy=Policy.DROP, keep_text=True),
        lambda: PhiPolicy(shift_dates=True),
        lambda: PhiPolicy(policy=Policy.PSEUDONYMIZE),
        lambda: PhiPolicy(policy=Policy.KEEP, key_check="0"),
        lambda: protection(IMAGE_SETS, PhiPolicy(policy=Policy.PSEUDONYMIZE, key_check=KEY.check), OTHER_KEY),
        lambda: protection(IMAGE_SETS, PhiPolicy(policy=Policy.PSEUDONYMIZE, key_check=KEY.check), None),
    ],
)
def test_policies_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    """Flags, key and policy have to go together."""
    with pytest.raises(ValueError, match=r"key|`keep_text`"):
        make()


def test_every_sensitive_column_has_its_line_of_the_basic_profile() -> None:
    """PS3.15's action is cited for each column that can tell of a patient; no other is; what is kept has its option."""
    check_profile("column", IMAGE_SETS.columns)


@pytest.mark.parametrize("column", IMAGE_SETS.columns, ids=lambda column: column.name)
def test_what_tells_of_no_patient_is_kept(column: Any) -> None:
    """And nothing else is kept whatever it holds."""
    is_harmless = column.sensitivity is Sensitivity.NONE
    assert is_harmless == (action(Policy.PSEUDONYMIZE, column) is Action.KEEP)
