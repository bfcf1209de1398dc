"""Iceberg tables of PyIceberg's SQL catalog, for what mirrors into them."""

from pathlib import Path

import pytest
from pyiceberg import catalog as pyiceberg
from pyiceberg.utils.config import Config


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyIceberg's configuration, by variables, which it reads when it is imported."""
    prefix = "PYICEBERG_CATALOG__TABLES__"
    monkeypatch.setenv(f"{prefix}TYPE", "sql")
    monkeypatch.setenv(f"{prefix}URI", f"sqlite:///{tmp_path}/tables.db")
    monkeypatch.setenv(f"{prefix}WAREHOUSE", f"file://{tmp_path}/tables")
    monkeypatch.setattr(pyiceberg, "_ENV_CONFIG", Config())
