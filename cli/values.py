"""Values of an answer as JSON has them, from Arrow. Pure."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.cli.output import json_text


def json_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as a JSON document holds them.

    Dates and times are ISO 8601, with T, and Z where they are in UTC; bytes are hexadecimal; decimals are numbers.
    """
    kind = column.type
    if pa.types.is_temporal(kind):
        return _times(column)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_decimal(kind):
        return list(map(_value, column))
    values: list[Any] = column.to_pylist()
    return values


def _value(scalar: pa.Scalar) -> Any:
    kind = scalar.type
    value: Any = None
    if not scalar.is_valid:
        return value
    if pa.types.is_map(kind):
        entries = ((_value(entry["key"]), _value(entry["value"])) for entry in scalar.values)
        value = {key if isinstance(key, str) else json_text(key): value for key, value in entries}
    elif pa.types.is_struct(kind):
        value = {name: _value(part) for name, part in scalar.items()}
    elif pa.types.is_nested(kind):
        value = list(map(_value, scalar.values))
    elif pa.types.is_temporal(kind):
        [value] = _times(pa.array([scalar], kind))
    elif pa.types.is_decimal(kind):
        number = scalar.as_py()
        value = int(number) if number == number.to_integral_value() else float(number)
    else:
        value = scalar.as_py().hex() if pa.types.is_binary(kind) else scalar.as_py()
    return value


def _times(times: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """Dates and times as text, which Python's own cannot all be: years before 1, nanoseconds, 24:00:00."""
    kind = times.type
    is_utc = pa.types.is_timestamp(kind) and kind.tz is not None
    if is_utc:
        # Without its zone, which Arrow would look up in a database that not every machine has.
        times = pc.cast(pc.cast(times, pa.int64()), pa.timestamp(kind.unit))
    texts = pc.replace_substring_regex(pc.cast(times, pa.string()), r"\.0+$", "")
    if pa.types.is_timestamp(kind):
        texts = pc.replace_substring(texts, " ", "T")
    texts = pc.binary_join_element_wise(texts, "Z", "") if is_utc else texts
    found: list[str | None] = texts.to_pylist()
    return found
