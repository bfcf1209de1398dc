"""`ahi-catalog contract` against datacontract-cli, which knows the standard's schema: make test-contract."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ahi_catalog.cli.main import run
from ahi_catalog.schemas import PhiPolicy
from ahi_catalog.schemas.contract import contract
from ahi_catalog.schemas.dictionary import TABLES
from tests.support.world import World

pytestmark = pytest.mark.contract


def lint(path: Path) -> None:
    linter = shutil.which("datacontract")
    if linter is None:
        pytest.skip("datacontract-cli is not installed: make test-contract")
    linted = subprocess.run([linter, "lint", str(path)], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    assert "valid against ODCS v3.1.0" in linted.stdout


@pytest.mark.parametrize("policy", [{}, {"partition": "month", "phi": "drop"}, {"phi": "pseudonymize"}])
def test_the_contract_is_one_of_the_standard(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    policy: dict[str, Any],
) -> None:
    """Each partition unit and PHI policy passes the lint, which holds it against the schema of ODCS 3.1."""
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", "0123456789abcdef" * 4)
    world.fill(10)
    world.sync(**policy)
    capsys.readouterr()
    assert run(["contract", "--catalog", str(world.catalog)]) == 0
    path = tmp_path / "contract.odcs.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    lint(path)


@pytest.mark.parametrize("location", ["s3://bucket/imaging", "/data/imaging"])
def test_the_contract_of_every_table_is_one_of_the_standard(tmp_path: Path, location: str) -> None:
    """Those too that a catalog has only when it is asked for them, on S3 and in a folder."""
    document = contract(
        TABLES, catalog_id="", location=location, key="created_date", phi=PhiPolicy(), max_lag=timedelta(hours=3)
    )
    path = tmp_path / "contract.odcs.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    lint(path)
