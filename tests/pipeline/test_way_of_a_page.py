"""One page's way from the service to Parquet: through the files that docs/design.md names, and few calls of ours."""

import re
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import ahi_catalog
from tests.support.world import World

ROOT = Path(ahi_catalog.__file__).parent
HANDS_ON_ROWS = {
    "schemas/decoding/strict.py": {"read", "to_table"},
    "schemas/dicom.py": {"parse_dates"},
    "schemas/phi/protection.py": {"__call__"},
    "connectors/catalog/layout.py": {"partition_rows"},
    "connectors/catalog/merge.py": {"merge"},
    "connectors/catalog/parquet.py": {"encode"},
    "connectors/storage/local.py": {"put"},
}
"""Functions that get the page or rows of it, by their file."""


def listed_files() -> list[str]:
    """The files that docs/design.md lists as the way of a page, in its order."""
    page = (ROOT.parent / "docs/design.md").read_text(encoding="utf-8")
    section = page.partition("## 3. The way of a page")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


class Watch:
    """Notes calls of ours, and the stacks on which a page or its rows are handed on."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.on_the_way: set[str] = set()
        self.stacks_to_boto3: list[list[str]] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if path.endswith("botocore/client.py") and name == "_make_api_call":
            stack = stack_of_ours(frame)
            if "connectors/healthimaging/scan.py" in stack:
                self.stacks_to_boto3.append(stack)
        ours = relative(path)
        if ours is not None:
            self.called.add(ours)
            if name in HANDS_ON_ROWS.get(ours, ()) and (ours != "connectors/storage/local.py" or is_data(frame)):
                self.on_the_way.update(stack_of_ours(frame))


def relative(path: str) -> str | None:
    return str(Path(path).relative_to(ROOT)) if path.startswith(f"{ROOT}/") else None


def is_data(frame: FrameType) -> bool:
    return str(frame.f_locals["key"]).endswith(".parquet")


def stack_of_ours(frame: FrameType) -> list[str]:
    """The files of the frames of ours, innermost first, up to the engine or to the thread's first."""
    files: list[str] = []
    current: FrameType | None = frame
    while current is not None:
        if (ours := relative(current.f_code.co_filename)) is not None:
            files.append(ours)
            if ours == "pipeline/engine.py":
                break
        current = current.f_back
    return files


@pytest.fixture
def watch(world: World) -> Watch:
    """A sync of one page, watched."""
    world.fill(20)
    watch = Watch()
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        world.sync(phi="drop")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return watch


def test_a_page_goes_the_way_that_the_design_lists(watch: Watch) -> None:
    """Each listed file takes part, no other hands the page or its rows on, and they are twenty at most."""
    listed = listed_files()
    assert len(listed) == len(set(listed)) <= 20
    assert set(listed) <= watch.called
    assert watch.on_the_way <= set(listed)


def test_few_calls_of_ours_lie_between_the_engine_and_boto3(watch: Watch) -> None:
    """A request is made within eight calls."""
    assert watch.stacks_to_boto3
    assert max(map(len, watch.stacks_to_boto3)) <= 8
