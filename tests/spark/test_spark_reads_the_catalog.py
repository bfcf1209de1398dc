"""The DDL on a real engine: Spark reads real rows through it, and agrees with DuckDB on every aggregate of a set.

Athena's DDL runs here too: its table is Hive's grammar, and Spark has a Hive metastore. What only Athena knows,
partition projection, is replaced by MSCK REPAIR.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import Partition, Unit, open_catalog, open_store
from ahi_catalog.connectors.catalog.external import describe
from ahi_catalog.connectors.catalog.publishing import note_removals
from ahi_catalog.schemas import IMAGE_SETS, ddl
from ahi_catalog.schemas.tables import TIMESTAMP
from ahi_catalog.schemas.views import CHANGES, CONFLICTS, PATIENTS, STORAGE, STUDIES
from tests.support.idc_catalog import DATASTORE_ID, sync_idc
from tests.support.world import summary

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

Ask = Callable[[str], list[tuple[Any, ...]]]
UNITS, ENGINES = ["day", "month"], ["spark", "athena"]

# The Imaging Data Commons has neither names nor times; these do, around midnights and a change of clocks, and in years
# that Spark counts by another calendar. The last are one patient and one study, but for padding, and nobody.
ODD = [
    summary(f"odd{number}", moment, **tags)
    for number, (moment, tags) in enumerate(
        [
            (datetime(2023, 12, 31, 23, 59, 59, 999_999, UTC), {"StudyTime": "235959.999999"}),
            (datetime(2024, 1, 1, tzinfo=UTC), {"StudyTime": "000000", "StudyDate": "20240310"}),
            (datetime(2024, 3, 10, 7, 0, 0, 1, UTC), {"StudyTime": "0230", "StudyDate": "20240310"}),
            (datetime(2024, 11, 3, 5, 30, tzinfo=UTC), {"StudyDate": "1994.11.05", "StudyTime": "11:20:00"}),
            (datetime(2024, 11, 3, 6, 30, tzinfo=UTC), {"StudyDate": "18991231", "PatientBirthDate": "18500101"}),
            (datetime(2024, 11, 3, 6, 31, tzinfo=UTC), {"StudyDate": "15821004", "PatientBirthDate": "11111111"}),
            (datetime(2024, 11, 3, 6, 32, tzinfo=UTC), {"StudyDate": "00010101", "StudyTime": "000001"}),
            (datetime(2025, 6, 1, tzinfo=UTC), {"PatientName": "Yamada^Tarou=山田^太郎", "StudyDate": "no date"}),
            (datetime(2025, 6, 1, tzinfo=UTC) - timedelta(microseconds=1), {"SeriesModality": "", "PatientId": ""}),
            *(
                (
                    datetime(2025, 6, 2, tzinfo=UTC),
                    {"PatientId": f"P1{pad}", "StudyInstanceUID": f"1.9{pad}", "SeriesModality": f"CT{pad}"},
                )
                for pad in ("", " ", "\0", " \0")
            ),
            (datetime(2025, 6, 2, tzinfo=UTC), {"PatientId": " ", "StudyInstanceUID": "\0", "SeriesModality": " "}),
        ]
    )
]


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Some 4,000 real series and odd ones, by day and month, in folders whose names need quoting or look like keys."""
    folders = {
        unit: tmp_path_factory.mktemp("it's 100%") / "env=prod/study_date=1999-01-01" / f'a "{unit}" [1]'
        for unit in UNITS
    }
    sync_idc(folders, rows=4_000, more=ODD)
    # One is gone, and of one the removal never came to pass; the catalog by month has none at all.
    names = ["gone".rjust(32, "0"), "odd0".rjust(32, "0")]
    rows = pa.table(
        {"image_set_id": names, "created_at": pa.array([datetime(2023, 12, 31, tzinfo=UTC)] * 2, TIMESTAMP)}
    )
    partition = Partition(DATASTORE_ID, Unit.DAY, date(2023, 12, 31))
    note_removals(open_store(str(folders["day"])), partition, rows, names)
    return folders


@pytest.fixture(scope="module")
def ask_duckdb(catalogs: dict[str, Path]) -> dict[str, Ask]:
    """DuckDB on the views that its own DDL makes."""

    def connect(folder: Path) -> Ask:
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        for statement in ddl.duckdb(describe(open_catalog(open_store(str(folder))), "duckdb")):
            connection.execute(statement.sql)
        return lambda sql: connection.execute(sql).fetchall()

    return {unit: connect(folder) for unit, folder in catalogs.items()}


@pytest.fixture(scope="module")
def ask_spark(spark: Any, catalogs: dict[str, Path]) -> dict[tuple[str, str], Ask]:
    """Spark on the tables and views that the DDL of each engine makes, each in a database of its own."""
    asking: dict[tuple[str, str], Ask] = {}
    for unit, folder in catalogs.items():
        table = describe(open_catalog(open_store(str(folder))), "spark")
        for engine in ENGINES:
            database = f"{engine}_{unit}"
            spark.sql(f"CREATE DATABASE {database}")
            there = replace(table, database=database)
            statements = ddl.ENGINES[engine](there)
            if engine == "athena":
                # Its views are in Trino's quotes.
                views = [statement for statement in ddl.spark(there) if statement.makes != "image_sets"]
                statements = [statements[0], *views]
            for statement in statements:
                spark.sql(statement.sql)

            # The DDL for Spark says so itself.
            rebase = "CORRECTED" if engine == "athena" else "EXCEPTION"

            def ask(sql: str, database: str = database, rebase: str = rebase) -> list[tuple[Any, ...]]:
                spark.catalog.setCurrentDatabase(database)
                spark.conf.set("spark.sql.parquet.datetimeRebaseModeInRead", rebase)
                return [tuple(row) for row in spark.sql(sql).collect()]

            asking[engine, unit] = ask
    return asking


def shown(name: str, kind: pa.DataType, engine: str) -> str:
    """A column as text or number that two engines write alike."""
    if pa.types.is_timestamp(kind):
        how = f"strftime({name}, '%Y-%m-%d %H:%M:%S.%f')"
        return how if engine == "duckdb" else f"date_format({name}, 'yyyy-MM-dd HH:mm:ss.SSSSSS')"
    return f"cast({name} as string)" if pa.types.is_date(kind) else name


def aggregates(engine: str, source: str) -> str:
    """Rows, and of each column: how many values, how many distinct, the least and the greatest."""
    found = ["count(*)"]
    for column in IMAGE_SETS.columns:
        found += [f"count({column.name})", f"count(distinct {column.name})"]
        if pa.types.is_boolean(column.type):
            found.append(f"sum(case when {column.name} then 1 else 0 end)")
        else:
            found += [shown(f"{how}({column.name})", column.type, engine) for how in ("min", "max")]
        if pa.types.is_integer(column.type):
            found.append(f"cast(sum({column.name}) as bigint)")
    return f"select {', '.join(found)} from {source}"


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_aggregate_is_duckdbs(
    ask_spark: dict[tuple[str, str], Ask], ask_duckdb: dict[str, Ask], engine: str, unit: str
) -> None:
    """Counts, distinct counts, extremes and sums of every column, whole and by group, are the same."""
    spark, duck, key = ask_spark[engine, unit], ask_duckdb[unit], "created_date" if unit == "day" else "created_month"
    [whole] = spark(aggregates("spark", "image_sets"))
    assert [whole] == duck(aggregates("duckdb", "image_sets"))
    assert whole[0] >= 4_000 + len(ODD)
    for group in (
        "series_modality",
        "datastore_id",
        f"cast({key} as string)",
        "cast(created_at as date)",
        "hour(updated_at)",
        "year(study_date)",
        "hour(study_datetime)",
    ):
        sql = f"select {group} as k, count(*), count(distinct study_instance_uid) from image_sets group by 1"
        assert sorted(spark(sql), key=repr) == sorted(duck(sql), key=repr)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("view", [STUDIES, PATIENTS, CONFLICTS, CHANGES], ids=lambda view: view.name)
def test_every_row_of_the_views_is_duckdbs(
    ask_spark: dict[tuple[str, str], Ask], ask_duckdb: dict[str, Ask], view: Any, unit: str
) -> None:
    """Every view's are the same rows, value for value, arrays too."""
    kinds = {column.name: column.type for column in IMAGE_SETS.columns}
    kinds |= {"first_study_date": pa.date32(), "last_study_date": pa.date32()}
    kinds |= dict.fromkeys(("first_seen", "last_seen", "last_changed", "changed_at"), pa.timestamp("us"))
    rows = {}
    for engine, ask in (("duckdb", ask_duckdb[unit]), ("spark", ask_spark["spark", unit])):
        listed = ", ".join(shown(c.name, kinds.get(c.name, pa.string()), engine) for c in view.columns)
        rows[engine] = sorted(ask(f"select {listed} from {view.name}"), key=repr)
    assert rows["spark"] == rows["duckdb"]
    assert len(rows["spark"]) > (2 if view.name == "conflicts" else 100)
    if view.name == "changes":
        gone = [row[1] for row in rows["spark"] if row[2] == "removed"]
        assert gone == (["gone".rjust(32, "0")] if unit == "day" else [])
    if view.name in {"conflicts", "changes"}:
        return
    key = view.columns[1].name
    assert ask_spark["spark", unit](
        f"select {key}, image_sets, modalities from {view.name} where {key} in ('P1', '1.9')"
    ) == [({"patient_id": "P1", "study_instance_uid": "1.9"}[key], 4, ["CT"])]


def test_storage_has_as_many_rows(ask_spark: dict[tuple[str, str], Ask], ask_duckdb: dict[str, Ask]) -> None:
    """Spark takes its SQL, and groups as DuckDB does."""
    asked = f"select count(*) from {STORAGE.name}"
    assert ask_spark["spark", "day"](asked) == ask_duckdb["day"](asked)


@pytest.mark.parametrize("unit", UNITS)
def test_moments_keep_their_instant_and_local_times_their_clock_in_any_session(
    spark: Any, ask_spark: dict[tuple[str, str], Ask], ask_duckdb: dict[str, Ask], unit: str
) -> None:
    """In another session zone created_at is the same instant, and study_datetime reads the same."""
    # Not date_format, which would take the local time for one of the session's zone, where 02:30 may not exist.
    as_spark = "image_set_id, unix_micros(created_at), cast(study_datetime as string)"
    as_duckdb = "image_set_id, epoch_us(created_at), cast(study_datetime as string)"
    where = "from image_sets where study_datetime is not null"
    expected = sorted(ask_duckdb[unit](f"select {as_duckdb} {where}"))
    assert len(expected) == len(ODD) - 1  # one has no date
    for zone in ("UTC", "America/New_York", "Asia/Kolkata"):
        spark.conf.set("spark.sql.session.timeZone", zone)
        try:
            found = sorted(ask_spark["spark", unit](f"select {as_spark} {where}"))
        finally:
            spark.conf.set("spark.sql.session.timeZone", "UTC")
        assert found == expected, zone


def test_dates_of_another_calendar_are_read_where_spark_is_told_how(
    spark: Any, catalogs: dict[str, Path], tmp_path: Path
) -> None:
    """What docs/spark.md shows for a reader without the DDL; without it Spark 3's own mode refuses them."""
    reader = spark.read.schema("patient_birth_date DATE, datastore_id STRING, created_date DATE")
    spark.conf.set("spark.sql.parquet.datetimeRebaseModeInRead", "EXCEPTION")
    # A path of one's own is a pattern to Spark.
    (tmp_path / "catalog").symlink_to(catalogs["day"])
    folder = f"file:{tmp_path}/catalog/image_sets"
    with pytest.raises(Exception, match=r"INCONSISTENT_BEHAVIOR_CROSS_VERSION|datetimeRebaseMode"):
        reader.parquet(folder).collect()
    found = reader.option("datetimeRebaseMode", "CORRECTED").parquet(folder)
    [row] = found.where("patient_birth_date = date '1111-11-11'").collect()
    assert row.datastore_id == DATASTORE_ID


def test_the_printed_script_runs_as_it_is(
    spark: Any, catalogs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """What `ahi-catalog ddl spark` prints, cut at its semicolons, makes table and views with their comments."""
    arguments = ["ddl", "spark", "--catalog", str(catalogs["day"]), "--database", "printed", "--table", "sets"]
    assert run(arguments) == 0
    spark.sql("CREATE DATABASE printed")
    for statement in capsys.readouterr().out.split(";"):
        if statement.strip():
            spark.sql(statement)
    comments = {row.col_name: row.comment for row in spark.sql("DESCRIBE printed.sets").collect()}
    assert comments["patient_name"] == "Patient's Name (0010,0010), as received."
    kinds = {row.col_name: row.data_type for row in spark.sql("DESCRIBE printed.sets").collect()}
    assert (kinds["created_at"], kinds["study_datetime"]) == ("timestamp", "timestamp_ntz")
    assert spark.sql("SELECT * FROM printed.sets_studies").count() > 100
    comments = {row.col_name: row.comment for row in spark.sql("DESCRIBE printed.sets_studies").collect()}
    assert comments["series"] == "How many series."


def test_a_filter_on_the_partition_keys_skips_objects(spark: Any, ask_spark: dict[tuple[str, str], Ask]) -> None:
    """A day is one partition to Spark too."""
    del ask_spark
    for engine in ENGINES:
        query = f"SELECT * FROM {engine}_day.image_sets WHERE created_date = DATE '2024-01-01'"
        assert len(spark.sql(query).inputFiles()) == 1
