"""Errors that leave a run quote nothing, neither themselves nor by what is attached to them."""

import pyarrow as pa
import pytest

from ahi_catalog.connectors.errors import AhiCatalogError, StoreError, UnexpectedError
from ahi_catalog.connectors.redaction import describe, redact_errors, trace
from ahi_catalog.schemas.phi.pseudonyms import PhiKey

MARK = "Marked^Name"


@redact_errors
def fails_in_arrow() -> None:
    pa.array([MARK]).cast(pa.int32())


@redact_errors
def fails_while_handling() -> None:
    try:
        pa.array([MARK]).cast(pa.int32())
    except pa.ArrowInvalid:
        raise StoreError("one line of ours")  # noqa: B904  # what is tested


@redact_errors
def fails_with_a_cause() -> None:
    raise StoreError("one line of ours") from ValueError(MARK)


@redact_errors
def fails_in_a_module_of_ours() -> None:
    PhiKey(b"short")


def test_an_error_of_a_library_is_told_by_type_and_place() -> None:
    """Neither its text nor the error itself goes on; the place is the innermost line of ours, if there is one."""
    with pytest.raises(UnexpectedError, match="unexpected ArrowInvalid") as raised:
        fails_in_arrow()
    assert MARK not in str(raised.value)
    assert attached(raised.value) == []
    with pytest.raises(UnexpectedError, match=r"ValueError in ahi_catalog/schemas/phi/pseudonyms.py, line \d+"):
        fails_in_a_module_of_ours()


@pytest.mark.parametrize("fails", [fails_while_handling, fails_with_a_cause])
def test_our_errors_go_on_alone(fails: object) -> None:
    """An error of ours keeps its kind and text, and loses what it was raised in place of."""
    with pytest.raises(StoreError, match="one line of ours") as raised:
        fails()  # type: ignore[operator]
    assert attached(raised.value) == []


def test_what_returns_returns() -> None:
    """A function that does not fail is not changed."""
    assert redact_errors(lambda value: value + 1)(1) == 2


def test_a_trace_shows_code_and_our_own_texts_only() -> None:
    """--debug prints lines of code and types of a whole chain, and no text that is not ours."""
    try:
        try:
            raise ValueError(MARK)  # noqa: TRY301  # what is tested
        except ValueError as error:
            raise AhiCatalogError("ours") from error
    except AhiCatalogError as error:
        lines = list(trace(error))
    assert "ValueError" in lines
    assert lines[-1] == "AhiCatalogError: ours"
    assert MARK not in "".join(lines)
    assert describe(ValueError(MARK)) == "ValueError"


def attached(error: BaseException) -> list[BaseException]:
    """What an error was raised in place of."""
    return [other for other in (error.__cause__, error.__context__) if other is not None]
