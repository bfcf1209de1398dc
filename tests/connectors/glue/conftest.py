"""Glue as moto plays it, over real HTTP."""

from typing import Any

import pytest

from ahi_catalog.connectors.glue import open_glue


@pytest.fixture
def glue(glue_endpoint: str) -> Any:
    """Our client, in an account without databases."""
    del glue_endpoint
    return open_glue()


@pytest.fixture
def calls(glue: Any) -> list[str]:
    """The operations that the client calls, in order, those to come too."""
    found: list[str] = []
    glue.meta.events.register("before-call.glue", lambda model, **_: found.append(model.name))
    return found
