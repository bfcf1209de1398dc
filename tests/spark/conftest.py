"""Spark in this process's own JVM, with a Hive metastore of its own, on a machine in another zone than UTC."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _java_version() -> int:
    """The major version of the Java that Spark would start; 0 where there is none."""
    java = shutil.which("java")
    if not java:
        return 0
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Spark session; the test is skipped with a word where pyspark or Java 17 is missing."""
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: make test-spark")
    if _java_version() < 17:
        pytest.skip("Spark 4 needs Java 17 or newer")
    folder: Path = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder} -Duser.timezone=America/New_York",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        # Compiling costs more than it gains on a few thousand rows.
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.codegen.wholeStage": "false",
        # As Spark 3 has it, which reads no date before 1582 and no time before 1900 unless told how.
        "spark.sql.parquet.datetimeRebaseModeInRead": "EXCEPTION",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = sql.SparkSession.builder.master("local[2]").enableHiveSupport()
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
