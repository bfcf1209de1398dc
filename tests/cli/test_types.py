"""Every type of DuckDB's in every format of a query, and in pandas."""

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ahi_catalog import Catalog
from ahi_catalog.cli.main import run
from ahi_catalog.connectors.errors import UsageError

# By DuckDB's logical type: a value in SQL, in JSON, and in a table where that is not JSON's; its type in Arrow and in
# pandas. CSV and Parquet follow from these.
VALUES: Final[dict[str, tuple[str, Any, str | None, str, str]]] = {
    "ARRAY": ("[1, NULL]::integer[2]", [1, None], "1, null", "fixed_size_list<: int32>[2]", "object"),
    "BIGINT": ("9007199254740993", 9007199254740993, "9,007,199,254,740,993", "int64", "Int64"),
    "BIGNUM": ("(2::bignum)", "2", None, "string", "str"),
    "BIT": ("bit '0101'", "0101", None, "string", "str"),
    "BLOB": (r"'\x00A'::blob", "0041", None, "binary", "object"),
    "BOOLEAN": ("true", True, "True", "bool", "boolean"),
    "DATE": ("date '1582-10-04'", "1582-10-04", None, "date32[day]", "datetime64[ms]"),
    "DECIMAL": ("1.50::decimal(4, 2)", 1.5, None, "decimal128(4, 2)", "float64"),
    "DOUBLE": ("'nan'::double", None, "nan", "double", "float64"),
    "ENUM": ("'a'::enum('a', 'b')", "a", None, "string", "str"),
    "FLOAT": ("0.5::float", 0.5, None, "float", "float32"),
    "GEOMETRY": ("'POINT(1 2)'::geometry", "POINT (1 2)", None, "string", "str"),
    "HUGEINT": ("sum(7)", 7, None, "int64", "Int64"),
    "INTEGER": ("-2026::integer", -2026, None, "int32", "Int32"),
    "INTERVAL": ("interval '1 month 2 days 3 seconds'", "1 month 2 days 00:00:03", None, "string", "str"),
    "LIST": ("[1, 2]", [1, 2], "1, 2", "list<l: int32>", "object"),
    "MAP": ("map {1: sum(7)}", {"1": 7}, '{"1": 7}', "map<int32, int64>", "object"),
    "NULL": ("NULL", None, "", "string", "str"),
    "SMALLINT": ("1::smallint", 1, None, "int16", "Int16"),
    "STRUCT": ("{'a b': sum(7)}", {"a b": 7}, '{"a b": 7}', "struct<a b: int64>", "object"),
    "TIME": ("time '10:11:12.5'", "10:11:12.500000", None, "time64[us]", "object"),
    "TIMESTAMP": ("timestamp '2024-02-29 10:11:12.5'", "2024-02-29T10:11:12.500000", "2024-02-29 10:11:12",
                  "timestamp[us]", "datetime64[us]"),
    "TIMESTAMP WITH TIME ZONE": ("timestamptz '2024-02-29 10:11:12+02'", "2024-02-29T08:11:12Z", "2024-02-29 08:11:12Z",
                                 "timestamp[us, tz=UTC]", "datetime64[us, UTC]"),
    "TIMESTAMPTZ_NS": ("(timestamp_ns '2024-02-29 10:11:12')::timestamptz_ns", "2024-02-29T10:11:12Z",
                       "2024-02-29 10:11:12Z", "timestamp[ns, tz=UTC]", "datetime64[ns, UTC]"),
    "TIMESTAMP_MS": ("timestamp_ms '0001-01-01 00:00:00.001'", "0001-01-01T00:00:00.001", "0001-01-01 00:00:00",
                     "timestamp[ms]", "datetime64[ms]"),
    "TIMESTAMP_NS": ("timestamp_ns '2024-02-29 10:11:12.000000001'", "2024-02-29T10:11:12.000000001",
                     "2024-02-29 10:11:12", "timestamp[ns]", "datetime64[ns]"),
    "TIMESTAMP_S": ("timestamp_s '9999-12-31 23:59:59'", "9999-12-31T23:59:59", "9999-12-31 23:59:59", "timestamp[s]",
                    "datetime64[s]"),
    "TIME WITH TIME ZONE": ("timetz '10:11:12+02'", "10:11:12+02", None, "string", "str"),
    "TIME_NS": ("'10:11:12.5'::time_ns", "10:11:12.500000000", None, "time64[ns]", "object"),
    "TINYINT": ("1::tinyint", 1, None, "int8", "Int8"),
    "TUPLE": ("row(1, interval 1 day)", {"element1": 1, "element2": "1 day"}, '{"element1": 1, "element2": "1 day"}',
              "struct<element1: int32, element2: string>", "object"),
    "TYPE": ("get_type(1)", "INTEGER", None, "string", "str"),
    "UBIGINT": ("10000::ubigint", 10000, "10,000", "uint64", "UInt64"),
    "UHUGEINT": ("340282366920938463463374607431768211455::uhugeint", "340282366920938463463374607431768211455", None,
                 "string", "str"),
    "UINTEGER": ("1::uinteger", 1, None, "uint32", "UInt32"),
    "UNION": ("union_value(k := 1)", "1", None, "string", "str"),
    "USMALLINT": ("1::usmallint", 1, None, "uint16", "UInt16"),
    "UTINYINT": ("1::utinyint", 1, None, "uint8", "UInt8"),
    "UUID": ("uuid '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001", None, "string",
             "str"),
    "VARCHAR": ("'naïve, \"quoted\"'", 'naïve, "quoted"', None, "string", "str"),
    "VARIANT": ("{'a': 1}::variant", "{'a': 1}", None, "string", "str"),
}  # fmt: skip


def duckdb_types() -> list[str]:
    """The logical types of the DuckDB that is installed."""
    with duckdb.connect() as connection:
        found = connection.execute("select distinct logical_type from duckdb_types() order by all").fetchall()
    return [name for (name,) in found]


Ask = Callable[[str, str], bytes]


@pytest.fixture(scope="module")
def ask(idc_catalogs: dict[str, Path]) -> Ask:
    """What `query` writes to stdout in a format."""

    def asked(sql: str, form: str) -> bytes:
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())) as printed:
            assert run(["query", "--catalog", str(idc_catalogs["month"]), "--format", form, sql]) == 0
            printed.flush()
            return printed.buffer.getvalue()

    return asked


@dataclass(frozen=True)
class Written:
    """A row with a value of each type, and with lists, structures and maps of it, in every format."""

    json: dict[str, Any]
    csv: dict[str, str]
    table: str
    parquet: pa.Table
    arrow: pa.Table
    frame: Any


@pytest.fixture(scope="module")
def written(ask: Ask, idc_catalogs: dict[str, Path]) -> Written:
    """One query of them all in each format."""
    listed = [
        f'{value} as "{name}", [{value}, {value}] as "{name} l", {{\'a\': {value}}} as "{name} s", '
        f"map {{'k': {value}}} as \"{name} m\""
        for name, (value, *_) in VALUES.items()
    ]
    sql = f"select {', '.join(listed)}"
    [in_json], [in_csv] = json.loads(ask(sql, "json")), csv.DictReader(io.StringIO(ask(sql, "csv").decode()))
    answer = Catalog(idc_catalogs["month"]).query(sql)
    parquet = pq.read_table(io.BytesIO(ask(sql, "parquet")))
    return Written(in_json, in_csv, ask(sql, "table").decode(), parquet, answer.arrow(), answer.df())


@pytest.mark.parametrize("name", duckdb_types())
def test_every_type_has_its_form_in_every_format(name: str, written: Written) -> None:
    """On its own and within lists, structures and maps; so a type that DuckDB gains has to be given one."""
    _, in_json, in_table, in_arrow, in_pandas = VALUES[name]
    text = in_json if isinstance(in_json, str) else "" if in_json is None else json.dumps(in_json)
    nested = {f"{name} l": [in_json, in_json], f"{name} s": {"a": in_json}, f"{name} m": {"k": in_json}}

    found = {column: value for column, value in written.json.items() if column in {name, *nested}}
    assert found == {name: in_json, **nested}

    assert {column: json.loads(written.csv[column]) for column in nested} == nested
    if "T" in text and "TIME" in name:  # moments stand in CSV with a blank
        assert re.sub(r"\.0+(?!\d)", "", written.csv[name].replace(" ", "T")) == text
    else:
        assert written.csv[name] in {text, text.replace("1.5", "1.50"), "nan"}

    shown = re.findall(rf"^ *{name}  +(.*?) *$", written.table, re.MULTILINE)
    assert shown == ([] if in_json is None and in_table == "" else [text if in_table is None else in_table])

    assert written.parquet[name].to_pylist() == written.arrow[name].to_pylist() or name == "DOUBLE"
    assert str(written.arrow.schema.field(name).type) == in_arrow
    assert str(written.frame.dtypes[name]) == in_pandas


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_the_extremes_of_every_type_are_written(ask: Ask, form: str) -> None:
    """Years before 1 and after 9999, infinity, 24:00:00, sums beyond 64 bits: nothing is unexpected."""
    assert ask("from test_all_types()", form)


def test_a_sum_beyond_64_bits_is_its_number(ask: Ask, idc_catalogs: dict[str, Path]) -> None:
    """To the last digit in JSON and CSV, a decimal in Arrow, float64 in pandas."""
    sql = "select sum(9223372036854775807) as n from range(3)"
    assert json.loads(ask(sql, "json")) == [{"n": 3 * (2**63 - 1)}]
    assert ask(sql, "csv").split()[-1].decode() == str(3 * (2**63 - 1))
    answer = Catalog(idc_catalogs["month"]).query(sql)
    assert answer.arrow().schema.types == [pa.decimal128(38, 0)]
    assert answer.df()["n"].tolist() == [float(3 * (2**63 - 1))]


def test_a_time_that_pandas_cannot_hold_is_told_in_a_line(idc_catalogs: dict[str, Path]) -> None:
    """Without the value."""
    with pytest.raises(UsageError, match="cast it to text") as error:
        Catalog(idc_catalogs["month"]).query("select time '24:00:00' as t").df()
    assert "24" not in str(error.value.__cause__)
