"""A catalog in a notebook: what it reads, what it answers, what its repr shows."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ahi_catalog import Catalog
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.catalog.external import describe
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.schemas import ddl
from tests.support.idc_catalog import DATASTORE_ID, sync_idc

DAY = date(2020, 10, 15)
READERS: dict[str, Callable[[Catalog], Any]] = {
    "dataset": lambda catalog: catalog.dataset().to_table(
        columns=["patient_id"], filter=pc.field("created_date") == DAY
    )["patient_id"],
    "query": lambda catalog: catalog.query(f"select patient_id from image_sets where created_date = '{DAY}'").arrow()[
        "patient_id"
    ],
    "to_pandas": lambda catalog: pa.chunked_array(
        [pa.array(catalog.to_pandas(["patient_id"], f"created_date = '{DAY}'")["patient_id"], pa.string())]
    ),
}


def spoil(catalog: Path, day: date, column: str) -> None:
    """Leave nothing readable but one column of one day: other objects hold garbage, other columns zeroes."""
    for path in catalog.glob("image_sets/**/*.parquet"):
        if f"created_date={day}" not in str(path):
            path.write_bytes(b"garbage")
            continue
        metadata = pq.read_metadata(path)
        body = bytearray(path.read_bytes())
        for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
            for chunk in (group.column(number) for number in range(group.num_columns)):
                if chunk.path_in_schema != column:
                    start = chunk.dictionary_page_offset or chunk.data_page_offset
                    body[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
        path.write_bytes(body)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_only_the_partitions_and_columns_asked_for_are_read(
    idc_catalogs: dict[str, Path], tmp_path: Path, reader: Callable[[Catalog], Any]
) -> None:
    """With every other partition and column destroyed, the answer is the same."""
    expected = sorted(reader(Catalog(str(idc_catalogs["day"]))).to_pylist())
    shutil.copytree(idc_catalogs["day"], tmp_path / "spoilt")
    spoil(tmp_path / "spoilt", DAY, "patient_id")
    catalog = Catalog(str(tmp_path / "spoilt"))
    assert sorted(reader(catalog).to_pylist()) == expected
    assert len(expected) > 50
    with pytest.raises((pa.ArrowInvalid, OSError)):
        catalog.dataset().to_table(columns=["patient_sex"], filter=pc.field("created_date") == DAY)
    with pytest.raises((pa.ArrowInvalid, OSError)):
        catalog.dataset().to_table(columns=["patient_id"])


def test_a_view_reads_the_columns_and_partitions_asked_for(idc_catalogs: dict[str, Path]) -> None:
    """A filter on the data store reaches the scan, and one on the study leaves others out before they are grouped."""
    sql = "explain select series from studies where study_instance_uid = '1.2.3' and datastore_id = 'a'"
    [plan] = Catalog(str(idc_catalogs["month"])).query(sql).arrow()["explain_value"].to_pylist()
    above, scan, below = plan.partition("PYTHON_ARROW_SCAN")
    assert scan
    assert "Filters: \"datastore_id\" = 'a'" in below
    assert "Filter" in above
    assert "= '1.2.3'" in above
    assert "patient_name" not in plan


@pytest.mark.parametrize("partition", ["day", "month"])
def test_the_ways_to_read_agree(idc_catalogs: dict[str, Path], partition: str) -> None:
    """Dataset, query, pandas and status count the same rows, and the views add up to them."""
    catalog = Catalog(str(idc_catalogs[partition]))
    rows = catalog.dataset().count_rows()
    assert rows >= 4_000
    assert catalog.query("select count(*) from image_sets").arrow()[0].to_pylist() == [rows]
    assert len(catalog.to_pandas(columns=["image_set_id"])) == rows
    assert sum(summary.rows for summary in catalog.status(runs=1)) == rows
    stored = (
        catalog.query("select sum(image_sets) as n, sum(image_sets_read) as known from storage").arrow().to_pylist()
    )
    assert stored == [{"n": rows, "known": 0}]
    for view, key in (("studies", "study_instance_uid"), ("patients", "patient_id")):
        answer = catalog.query(f"select sum(image_sets) as n, count(*) as keys from {view}").arrow().to_pylist()
        distinct = len(set(catalog.dataset().to_table(columns=[key])[key].to_pylist()))
        assert answer == [{"n": rows, "keys": distinct}]


@pytest.mark.parametrize("partition", ["day", "month"])
def test_the_ddl_for_duckdb_reads_the_rows_and_columns_of_a_query(
    idc_catalogs: dict[str, Path], tmp_path: Path, partition: str
) -> None:
    """Folders above the catalog are no columns, an id of digits is a text, and a filter leaves objects out."""
    shutil.copytree(idc_catalogs[partition], (folder := tmp_path / "study_date=1999-01-01" / "created_date=x"))
    catalog = Catalog(folder)
    key = "created_date" if partition == "day" else "created_month"
    sql = f"select * from image_sets where {key} = (select max({key}) from image_sets) order by image_set_id"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for statement in ddl.duckdb(describe(open_catalog(open_store(str(folder))), "duckdb")):
            connection.execute(statement.sql)
        assert connection.execute(sql).to_arrow_table() == catalog.query(sql).arrow()
        [[last, datastore_id]] = connection.execute(f"select max({key}), max(datastore_id) from image_sets").fetchall()
        assert datastore_id == DATASTORE_ID
        rows = connection.execute(f"select count(*) from image_sets where {key} = '{last}'").fetchall()
        # DuckDB takes the columns from the first.
        for path in sorted(folder.glob("image_sets/**/*.parquet"))[1:-1]:
            path.write_bytes(b"garbage")
        assert connection.execute(f"select count(*) from image_sets where {key} = '{last}'").fetchall() == rows


def test_a_frame_keeps_whole_numbers_dates_and_zones(idc_catalogs: dict[str, Path]) -> None:
    """Numbers beside nulls stay whole, dates and times are datetime64, and times are in UTC."""
    frame = Catalog(str(idc_catalogs["day"])).to_pandas(
        columns=["series_number", "is_primary", "study_date", "created_at", "study_datetime"],
        where="series_modality = 'CT' -- a comment at its end",
    )
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "series_number": "Int32",
        "is_primary": "boolean",
        "study_date": "datetime64[ms]",
        "created_at": "datetime64[us, UTC]",
        "study_datetime": "datetime64[us]",
    }


def test_an_answer_is_computed_once_and_outlives_its_catalog(idc_catalogs: dict[str, Path]) -> None:
    """Nothing runs before the answer is asked for; then it is kept, with no connection left to close."""
    answer = Catalog(str(idc_catalogs["day"])).query("select no_such_column from image_sets")
    assert "not asked for yet" in repr(answer)
    with pytest.raises(UsageError, match="no_such_column"):
        answer.arrow()
    answer = Catalog(str(idc_catalogs["day"])).query("select max(patient_id) as id from image_sets")
    assert answer.arrow() is answer.arrow()
    assert answer.df()["id"].tolist() == answer.arrow()["id"].to_pylist()


def test_nothing_that_shows_itself_shows_a_row(idc_catalogs: dict[str, Path]) -> None:
    """The reprs of catalog, answer and status hold no patient's data, nor the query's text."""
    catalog = Catalog(str(idc_catalogs["day"]))
    [patient] = catalog.query("select min(patient_id) as id from image_sets").arrow()["id"].to_pylist()
    answer = catalog.query(f"from image_sets where patient_id = '{patient}'")
    shown = [repr(catalog), repr(answer), repr(catalog.status())]
    assert len(answer.arrow()) > 0
    shown.append(repr(answer))
    assert not [text for text in shown if patient in text]
    assert repr(catalog) == f"Catalog('{idc_catalogs['day']}', partition='day')"
    assert repr(Catalog(idc_catalogs["day"])) == repr(catalog)  # a Path


@pytest.mark.parametrize(
    "ask",
    [
        lambda catalog: catalog.query("select * from read_text('/etc/hostname')"),
        lambda catalog: catalog.query("copy image_sets to 'stolen.csv'"),
        lambda catalog: catalog.query("set enable_external_access = true"),
        lambda catalog: catalog.query("create table image_sets as select 1"),
    ],
)
def test_a_query_reads_the_views_and_nothing_else(idc_catalogs: dict[str, Path], ask: Callable[[Catalog], Any]) -> None:
    """No file, no network, no change of settings."""
    with pytest.raises(UsageError):
        ask(Catalog(str(idc_catalogs["day"]))).arrow()


def test_a_condition_is_one_condition(idc_catalogs: dict[str, Path]) -> None:
    """What closes the bracket and goes on is refused, and a column's name is a name only."""
    catalog = Catalog(str(idc_catalogs["day"]))
    for where in ("true); select 1; --", "true\n); select (1"):
        with pytest.raises(UsageError):
            catalog.to_pandas(where=where)
    with pytest.raises(UsageError):
        catalog.to_pandas(columns=['patient_id" from image_sets --'])


def test_times_are_in_utc_wherever_it_runs(idc_catalogs: dict[str, Path]) -> None:
    """On a machine in another zone, a time cast to a date is its day in UTC."""
    sql = "select count(*) as n from image_sets where cast(created_at as date) <> created_date"
    code = f"from ahi_catalog import Catalog; print(Catalog({str(idc_catalogs['day'])!r}).query({sql!r}).arrow()[0][0])"
    environment = {**os.environ, "TZ": "America/New_York"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "0\n"


def test_a_catalog_on_s3_reads_the_same(s3_url: str, idc_catalogs: dict[str, Path]) -> None:
    """S3 and a folder give the same rows."""
    sync_idc({"month": s3_url}, rows=4_000)
    sql = "select * from image_sets order by image_set_id"
    assert Catalog(s3_url).query(sql).arrow() == Catalog(str(idc_catalogs["month"])).query(sql).arrow()
