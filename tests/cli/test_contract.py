"""`ahi-catalog contract`: what a reader of it is told of a catalog; tests/contract proves its form."""

import json

import pytest
import yaml

from ahi_catalog.cli.main import run
from ahi_catalog.schemas import IMAGE_SETS
from tests.support.world import World


def test_a_contract_names_columns_keys_freshness_and_quality(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML and JSON say the same: every column of the declaration, and the partition keys behind them."""
    world.fill(10)
    world.sync()
    told = ["contract", "--catalog", str(world.catalog), "--max-lag", "90m"]
    assert run(told) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert run([*told, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document
    [table] = document["schema"]
    columns = {column["name"]: column for column in table["properties"]}
    assert list(columns) == [*IMAGE_SETS.schema.names, "datastore_id", "created_date"]
    assert columns["image_set_id"]["primaryKey"]
    assert columns["patient_birth_date"]["transformSourceObjects"] == ["DICOMTags.DICOMPatientBirthDate"]
    assert table["quality"][0]["arguments"] == {"properties": ["image_set_id"]}
    [freshness] = document["slaProperties"]
    assert (freshness["property"], freshness["value"], freshness["unit"]) == ("latency", 90, "minutes")
    assert document["servers"][0]["path"].startswith(str(world.catalog))
    assert run([*told[:-1], "30s", "--json"]) == 0
    [freshness] = json.loads(capsys.readouterr().out)["slaProperties"]
    assert freshness["value"] == 1, "no less than was promised"


@pytest.mark.parametrize(
    ("policy", "classes"),
    [
        ("keep", {"patient_name": "restricted", "patient_id": "restricted", "version": "internal"}),
        ("drop", {"patient_name": "internal", "patient_id": "internal", "series_modality": "confidential"}),
        ("pseudonymize", {"patient_name": "internal", "patient_id": "confidential", "study_date": "confidential"}),
    ],
)
def test_columns_are_classified_as_they_are_in_the_catalog(
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    classes: dict[str, str],
) -> None:
    """What a policy has nulled tells nothing, and a pseudonym less than the name."""
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", "0123456789abcdef" * 4)
    world.fill(10)
    world.sync(phi=policy)
    assert run(["contract", "--catalog", str(world.catalog), "--json"]) == 0
    [table] = json.loads(capsys.readouterr().out)["schema"]
    found = {column["name"]: column["classification"] for column in table["properties"]}
    assert classes.items() <= found.items()
