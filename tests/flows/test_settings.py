"""What Prefect's settings say, read without Prefect."""

import os
from pathlib import Path

import pytest
from prefect.settings import Settings

from ahi_catalog.flows.settings import is_server_named

URL = "http://127.0.0.1:4200/api"
PROFILES = f'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "{URL}"\n[profiles.other]\n'


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, an empty home of Prefect's, and none of its variables."""
    for name in [name for name in os.environ if name.upper().startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()


@pytest.mark.parametrize(
    ("files", "variables", "is_named"),
    [
        ({}, {}, False),
        ({}, {"PREFECT_API_URL": URL}, True),
        ({}, {"prefect_api_url": URL}, True),
        ({"home/profiles.toml": PROFILES}, {"PREFECT_API_URL": ""}, False),
        ({".env": f"# ours\nexport PREFECT_API_URL='{URL}'\n"}, {}, True),
        ({".env": f"#PREFECT_API_URL={URL}\nOTHER=1\n"}, {}, False),
        ({".env": "PREFECT_API_URL=\n", "home/profiles.toml": PROFILES}, {}, False),
        ({"prefect.toml": f'[api]\nurl = "{URL}"\n'}, {}, True),
        ({"prefect.toml": '[api]\nkey = "k"\n'}, {}, False),
        ({"pyproject.toml": f'[tool.prefect.api]\nurl = "{URL}"\n'}, {}, True),
        ({"pyproject.toml": "[tool.ruff]\nline-length = 120\n"}, {}, False),
        ({"home/profiles.toml": PROFILES}, {}, True),
        ({"home/profiles.toml": PROFILES}, {"PREFECT_PROFILE": "other"}, False),
        ({"home/profiles.toml": PROFILES}, {"PREFECT_PROFILE": "nobody's"}, False),
        ({"mine.toml": PROFILES}, {"PREFECT_PROFILES_PATH": "mine.toml"}, True),
        ({"home/profiles.toml": 'active = "ephemeral"\n'}, {}, False),
    ],
)
def test_a_server_is_named_where_prefect_says_so(
    files: dict[str, str],
    variables: dict[str, str],
    is_named: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In each place of its settings and in its order, as Prefect's own reading has it."""
    for name, text in files.items():
        Path(name).write_text(text)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_server_named() is is_named
    assert bool(Settings().api.url) is is_named


def test_what_cannot_be_read_names_no_server() -> None:
    """A broken file, one that is no text, a folder in its place: a plain run needs none of them."""
    Path("prefect.toml").write_text("[api")
    Path("pyproject.toml").write_bytes(b"\xff\xfe\x00")
    Path(".env").mkdir()
    Path("home/profiles.toml").write_text("profiles = 3")
    assert not is_server_named()
