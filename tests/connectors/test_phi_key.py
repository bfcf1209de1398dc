"""Where the key of pseudonyms comes from, and that it goes nowhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ahi_catalog.connectors.errors import AhiCatalogError, UsageError
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.schemas import PhiKey
from tests.support.secrets_stub import running_secrets_stub

KEY = "0123456789abcdef" * 4
CHECK = PhiKey(KEY.encode()).check


@pytest.fixture
def secrets_manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, bytes]]]:
    """AWS Secrets Manager as it answers GetSecretValue; the list holds the answer to give."""
    with running_secrets_stub() as (endpoint, answers):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
        yield answers


def test_the_same_key_comes_from_every_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets_manager: list[tuple[int, bytes]]
) -> None:
    """A variable, a file with a line end, a secret and another reader hold the same key."""
    monkeypatch.setenv("AHI_CATALOG_PHI_KEY", KEY)
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    secrets_manager.append((200, b'{"SecretString": "%s"}' % KEY.encode()))
    assert load_phi_key("env").check == CHECK
    assert load_phi_key(f"file:{path}").check == CHECK
    assert load_phi_key("aws-secret:hospital/phi").check == CHECK
    assert load_phi_key("other:x", {"other": lambda name: KEY.encode() if name == "x" else b""}).check == CHECK


@pytest.mark.parametrize("place", ["", "env:x", "file", "file:", "vault:x", "prefect-secret:x", KEY])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    """A key given in the place's stead is not repeated either."""
    with pytest.raises(UsageError, match="is kept in") as refused:
        load_phi_key(place)
    assert KEY not in str(refused.value)


def test_a_key_that_is_missing_or_short_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets_manager: list[tuple[int, bytes]]
) -> None:
    """Each failure is one line that says what to do, with no key and no cause that holds one."""
    monkeypatch.delenv("AHI_CATALOG_PHI_KEY", raising=False)
    short = tmp_path / "short"
    short.write_text(KEY[:31])
    denied = b'{"__type": "AccessDeniedException", "Message": "%s"}' % KEY.encode()
    for place, expected in [
        ("env", "set AHI_CATALOG_PHI_KEY"),
        (f"file:{short}", "at least 32 random bytes"),
        (f"file:{tmp_path / 'absent'}", "No such file"),
        ("aws-secret:hospital/phi", "AccessDeniedException"),
    ]:
        secrets_manager.append((400, denied))
        with pytest.raises(AhiCatalogError, match=expected) as refused:
            load_phi_key(place)
        assert "\n" not in str(refused.value)
        assert KEY[:31] not in str(refused.value)
        assert refused.value.__context__ is None
