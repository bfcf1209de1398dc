"""What the wheel and the source distribution hold, and what an installation lets anyone import."""

import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.installation import ROOMS, ROOT, make_installation

PACKAGE = ROOT / "ahi_catalog"
NAMES = "import pkgutil; print(*(module.name for module in pkgutil.iter_modules()))"
FOUND = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"


def package_files() -> set[str]:
    """The package's files, with its links to the rooms followed."""
    return {
        str((Path(folder) / name).relative_to(ROOT))
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Each file of the rooms is a plain file under ahi_catalog; beside it there is the wheel's own description."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        links = [entry.filename for entry in archive.infolist() if stat.S_ISLNK(entry.external_attr >> 16)]
        described = {name.split("/")[0] for name in set(archive.namelist()) - held}
    assert held == package_files()
    assert {f"ahi_catalog/{name}" for name in ("py.typed", "report/page/templates/page.css")} <= held
    assert not links
    assert described == {f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}


def test_the_source_distribution_makes_the_same_wheel(sdist: Path, wheel: Path, wheel_of_sdist: Path) -> None:
    """Built from the source distribution, which holds the tests and no link, the wheel has the same files."""
    assert contents(wheel_of_sdist) == contents(wheel)
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    tops = {member.name.split("/")[1] for member in members}
    assert {"ahi_catalog", "tests", "pyproject.toml"} <= tops
    assert tops.isdisjoint(ROOMS)


@pytest.mark.parametrize("options", [(), ("--editable",)], ids=["install", "editable"])
def test_an_installation_adds_one_import_name(options: tuple[str, ...], tmp_path: Path) -> None:
    """`pip install .`, editable or not, makes ahi_catalog importable, and none of the folders beside it."""
    others = [*ROOMS, "tests", "benchmarks"]
    made = make_installation(tmp_path)
    before = set(made.run(made.python, "-P", "-c", NAMES).split())
    assert made.run(made.python, "-P", "-c", FOUND, "ahi_catalog", *others) == "[]\n"
    made.pip_install(ROOT, *options)
    after = set(made.run(made.python, "-P", "-c", NAMES).split())
    assert {name for name in after - before if not name.startswith("_editable_impl_")} <= {"ahi_catalog"}
    assert made.run(made.python, "-P", "-c", FOUND, "ahi_catalog", *others) == "['ahi_catalog']\n"
    where = Path(made.run(made.python, "-P", "-c", "import ahi_catalog; print(ahi_catalog.__file__)").strip())
    assert where.parent == (PACKAGE if options else made.packages / "ahi_catalog")
