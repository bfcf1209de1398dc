from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.emulator.clock import epoch_number, from_micros, from_wire, to_micros

MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone


@given(MOMENTS)
def test_an_instant_survives_the_wire_to_the_microsecond(moment: datetime) -> None:
    """What epoch_number writes, a JSON float carries and from_wire reads is the same microsecond."""
    micros = to_micros(moment)
    assert from_wire(float(epoch_number(micros))) == micros
    assert from_micros(micros) == moment


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (1_777_593_600_123_456, b"1777593600.123456"),
        (1_777_593_600_000_000, b"1777593600.000000"),
        (1, b"0.000001"),
        (-1_500_000, b"-1.500000"),
    ],
)
def test_numbers_have_six_decimals(micros: int, text: bytes) -> None:
    """A timestamp is never written short, nor with an exponent."""
    assert epoch_number(micros) == text


def test_texts_are_read_with_their_zone_or_as_utc() -> None:
    """ISO 8601 is read; a text without a zone is UTC."""
    expected = to_micros(datetime(2026, 5, 1, 10, tzinfo=UTC))
    assert from_wire("2026-05-01T10:00:00") == expected
    assert from_wire("2026-05-01T10:00:00Z") == expected
    assert from_wire("2026-05-01T12:00:00+02:00") == expected


@pytest.mark.parametrize("value", ["yesterday", True, None, [], 1e30, float("inf"), float("nan")])
def test_what_is_no_timestamp_is_refused_without_its_value(value: object) -> None:
    """The error never repeats what was sent."""
    with pytest.raises(ValueError, match=r"^not a timestamp$"):
        from_wire(value)


def test_only_instants_are_taken() -> None:
    """Naive datetimes and floats are refused; any zone will do."""
    with pytest.raises(ValueError, match="naive"):
        to_micros(datetime(2026, 5, 1))  # noqa: DTZ001 - the point
    with pytest.raises(TypeError):
        to_micros(1.5)  # type: ignore[arg-type]
    plus_two = timezone(timedelta(hours=2))
    assert to_micros(datetime(1970, 1, 1, 2, tzinfo=plus_two)) == 0
    assert to_micros(7) == 7
