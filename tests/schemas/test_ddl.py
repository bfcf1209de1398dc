"""The DDL and the views: what they name, how they quote, which partitions Athena works out."""

from dataclasses import replace
from datetime import date

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.schemas import IMAGE_SETS, ddl
from ahi_catalog.schemas.external import ExternalTable, projection
from ahi_catalog.schemas.views import US_EAST, VIEWS, StoragePrices

DAYS = ExternalTable(
    table=IMAGE_SETS,
    name=IMAGE_SETS.name,
    location="s3://bucket/imaging/image_sets",
    partition_key="created_date",
    datastore_ids=("b" * 32, "a" * 32),
    first_day=date(2023, 7, 19),
)
MONTHS = replace(DAYS, partition_key="created_month")
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@pytest.mark.parametrize("table", [DAYS, MONTHS], ids=lambda table: table.partition_key)
@pytest.mark.parametrize("engine", ["athena", "spark", "duckdb"])
def test_every_column_has_its_comment(engine: str, table: ExternalTable) -> None:
    """Each column and partition key of the declaration stands in the DDL of each engine with its doc."""
    sql = "\n".join(statement.sql for statement in ddl.ENGINES[engine](table))
    for name, doc in [*((c.name, c.doc) for c in IMAGE_SETS.columns), *((key.name, key.doc) for key in table.keys)]:
        [line] = [
            line for line in sql.splitlines() if (f"{name}` " in line and "COMMENT" in line) or f'"{name}" IS ' in line
        ][:1]
        assert doc.partition("'")[0].replace(";", ",") in line


@pytest.mark.parametrize("engine", ["athena", "spark", "duckdb"])
def test_no_statement_holds_a_semicolon(engine: str) -> None:
    """A client that splits a script at semicolons cuts no statement."""
    assert not [statement for statement in ddl.ENGINES[engine](DAYS) if ";" in statement.sql]


def test_glue_takes_every_comment() -> None:
    """A column's comment in Glue has at most 255 bytes."""
    docs = [doc for _, _, doc in ddl.hive_columns(IMAGE_SETS)] + [
        key.doc for table in (DAYS, MONTHS) for key in table.keys
    ]
    assert max(len(doc.encode()) for doc in docs) <= 255


def test_athena_projects_the_days_from_the_first_to_now() -> None:
    """A catalog of days has a projection of single days, and its data stores as an enum."""
    assert projection(DAYS) == {
        "projection.enabled": "true",
        "projection.datastore_id.type": "enum",
        "projection.datastore_id.values": f"{'a' * 32},{'b' * 32}",
        "projection.created_date.type": "date",
        "projection.created_date.format": "yyyy-MM-dd",
        "projection.created_date.range": "2023-07-19,NOW",
        "projection.created_date.interval": "1",
        "projection.created_date.interval.unit": "DAYS",
    }
    [create, *_] = ddl.athena(DAYS)
    assert "`created_date` date" in create.sql
    assert "LOCATION 's3://bucket/imaging/image_sets/'" in create.sql


def test_athena_projects_months_for_a_catalog_of_months() -> None:
    """A catalog of months has a projection of months, and without data stores they are injected."""
    found = projection(replace(MONTHS, datastore_ids=()))
    assert found["projection.datastore_id.type"] == "injected"
    assert "projection.datastore_id.values" not in found
    assert found["projection.created_month.format"] == "yyyy-MM"
    assert found["projection.created_month.range"] == "2023-07,NOW"
    assert found["projection.created_month.interval.unit"] == "MONTHS"
    [create, *_] = ddl.athena(MONTHS)
    assert "`created_month` string" in create.sql


def test_views_are_named_after_a_table_with_a_name_of_its_own() -> None:
    """Two catalogs in one database do not overwrite each other's views."""
    assert DAYS.view_name("studies") == "studies"
    other = replace(DAYS, name="mri", database="lake")
    makes = {statement.makes: statement.sql for statement in ddl.athena(other)}
    assert makes["image_sets"].startswith("CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`mri` (")
    assert makes["studies"].startswith('CREATE OR REPLACE VIEW "lake"."mri_studies" AS\n')
    assert 'FROM "lake"."mri"\n' in makes["studies"]


@settings(deadline=None)
@given(name=text, value=text)
def test_any_name_and_text_is_quoted_safely(name: str, value: str) -> None:
    """DuckDB reads back the very name and the very text, whatever they hold."""
    with duckdb.connect() as connection:
        answer = connection.execute(f"SELECT {ddl._quote_doubled(value)} AS {ddl._double_quoted(name)}")
        assert [column[0] for column in answer.description] == [name]
        assert answer.fetchone() == (value,)


@settings(deadline=None)
@given(value=text)
def test_a_backslashed_literal_ends_where_it_should(value: str) -> None:
    """Read as Hive and Spark do (a backslash takes the next character as it is), the literal is the text."""
    literal = ddl._backslashed(value)
    read, rest = "", iter(literal[1:])
    for character in rest:
        if character == "'":
            break
        read += next(rest) if character == "\\" else character
    assert read == value
    assert not list(rest)


def test_views_count_what_is_there() -> None:
    """Studies and patients have one row each; absent and blank texts are none, and padding is no part."""
    columns = {column.name: "NULL" for column in IMAGE_SETS.columns}
    rows = [
        {"study_instance_uid": "1", "patient_id": "p", "series_instance_uid": "1.1", "series_modality": "CT"},
        {"study_instance_uid": "1\0", "patient_id": " p ", "series_instance_uid": "1.2", "series_modality": "MR "},
        {"study_instance_uid": "1", "patient_id": "o", "series_instance_uid": "1.2\0", "series_modality": " "},
        {"study_instance_uid": "2", "patient_id": "p\0", "series_instance_uid": ""},
        {"study_instance_uid": " ", "patient_id": "p", "series_modality": "XA"},
        {"patient_id": ""},
        {"study_instance_uid": "2 ", "patient_id": " \0"},
    ]
    types = {"number_of_study_related_instances": "INTEGER", "study_date": "DATE"}
    selects = []
    for number, row in enumerate(rows):
        values = columns | {name: "'" + value.replace("\0", "' || chr(0) || '") + "'" for name, value in row.items()}
        values["created_at"] = f"TIMESTAMP '2024-01-0{number + 1}'"
        listed = ", ".join(
            f"CAST({value} AS {types.get(name, 'TIMESTAMP' if name.endswith('_at') else 'VARCHAR')}) AS {name}"
            for name, value in values.items()
        )
        selects.append(f"SELECT 'd' AS datastore_id, {listed}")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW image_sets AS {' UNION ALL '.join(selects)}")
        connection.execute(
            "CREATE TABLE removals (datastore_id TEXT, image_set_id TEXT, created_at TIMESTAMP, removed_at TIMESTAMP);"
            "CREATE TABLE series (datastore_id TEXT, image_set_id TEXT, instances BIGINT, bytes BIGINT, "
            "manufacturer TEXT)"
        )
        for statement in ddl.duckdb_views(US_EAST):
            connection.execute(statement)
        studies = connection.execute(
            "SELECT study_instance_uid, patient_id, series, image_sets, modalities, day(first_seen), day(last_seen) "
            "FROM studies ORDER BY 1"
        ).fetchall()
        patients = connection.execute(
            "SELECT patient_id, studies, series, image_sets, modalities FROM patients ORDER BY 1"
        ).fetchall()
    assert studies == [("1", "o", 2, 3, ["CT", "MR"], 1, 3), ("2", "p", 0, 2, None, 4, 7)]
    assert patients == [("o", 1, 1, 1, None), ("p", 2, 2, 4, ["CT", "MR", "XA"])]


def test_views_tell_what_was_read_of_metadata_and_what_storage_costs() -> None:
    """Instances, bytes and manufacturers where `series` has them; each image set is billed as 5 MB at least."""
    days = {"a": (5, "CT"), "b": (40, "CT"), "c": (400, "MR")}
    rows = " UNION ALL ".join(
        "SELECT "
        + ", ".join(
            f"{sql} AS {name}"
            for name, sql in {
                **{column.name: "NULL::TEXT" for column in IMAGE_SETS.columns},
                "datastore_id": "'d'",
                "image_set_id": f"'{name}'",
                "study_instance_uid": "'1'" if name != "c" else "'2'",
                "patient_id": "'p'",
                "series_modality": f"'{modality}'",
                "storage_tier": "'FREQUENT_ACCESS'" if name != "c" else "'ARCHIVE_INSTANT_ACCESS'",
                "number_of_study_related_instances": "7::BIGINT",
                "created_at": f"current_date::TIMESTAMP - INTERVAL {age} DAY",
                **dict.fromkeys(("updated_at", "last_accessed_at"), "NULL::TIMESTAMP"),
            }.items()
        )
        for name, (age, modality) in days.items()
    )
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE image_sets AS {rows}")
        connection.execute(
            "CREATE TABLE removals (datastore_id TEXT, image_set_id TEXT, created_at TIMESTAMP, removed_at TIMESTAMP);"
            "CREATE TABLE series AS SELECT 'd' AS datastore_id, * FROM (VALUES "
            "('a', 2::BIGINT, 3 * (1 << 30)::BIGINT, 'GE '), ('b', 3, 10, 'ACME')) "
            "found(image_set_id, instances, bytes, manufacturer)"
        )
        for statement in ddl.duckdb_views(StoragePrices(frequent=0.5, archive=0.1)):
            connection.execute(statement)
        told = "instances, image_sets, image_sets_read, bytes, manufacturers"
        studies = connection.execute(f"SELECT {told} FROM studies ORDER BY study_instance_uid").fetchall()
        patients = connection.execute(f"SELECT {told} FROM patients").fetchall()
        storage = connection.execute("FROM storage ORDER BY image_sets_read DESC, age DESC").fetchall()
    everything = 3 * 2**30 + 10
    assert studies == [(5, 2, 2, everything, ["ACME", "GE"]), (7, 1, 0, None, None)]
    assert patients == [(5, 3, 2, everything, ["ACME", "GE"])]
    least = 5_000_000 / 2**30
    frequent, archived = "FREQUENT_ACCESS", "ARCHIVE_INSTANT_ACCESS"
    old = "over a year"
    assert storage == [
        ("d", frequent, "CT", "under 30 days", "under 30 days", 1, 1, 3 << 30, 3.0, 1.5, pytest.approx(1.2)),
        (
            "d",
            frequent,
            "CT",
            "30 to 90 days",
            "30 to 90 days",
            1,
            1,
            10,
            least,
            *map(pytest.approx, (least * 0.5, least * 0.4)),
        ),
        ("d", archived, "MR", old, old, 1, 0, None, least, pytest.approx(least * 0.1), 0.0),
    ]


def test_views_name_only_columns_that_there_are() -> None:
    """The keys of a view come first, and no name stands twice."""
    for view in VIEWS:
        names = [column.name for column in view.columns]
        assert len(set(names)) == len(names)
        assert names[0] == "datastore_id"
