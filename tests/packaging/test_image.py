"""The Dockerfile: its steps are carried out without a daemon, and what they make runs read-only, for any user."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.packaging.test_locks import pins
from tests.support.installation import ROOT, clean_environment, dependencies, run
from tests.support.reference import expected_rows, read_folder
from tests.support.world import World

DEPENDENCIES = "--require-hashes -r /src/requirements-image.lock"
READ_ONLY = """
mount --bind "$TMPDIR" "$TMPDIR" && mount -o remount,bind,ro / && cd "$TMPDIR" || exit 99
exec unshare --user --map-user 12345 --map-group 12345 "$@"
"""
"""Everything read-only but one folder, and a user of whom nobody knows."""


@dataclass
class Image:
    """What the steps of the Dockerfile make.

    Attributes:
        root: In which the image's places lie.
        settings: Its variables.
        command: What it runs.
        user: As whom.
    """

    root: Path
    settings: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    user: str = "root"

    def here(self, text: str) -> str:
        """With the image's places where they are on this machine."""
        return re.sub(r"(?<![\w/])(?=/(?:src|opt|tmp)\b)", str(self.root), text)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each with what is said to it."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, said) for word, said in lines]


def copy_context(folder: Path) -> None:
    """What .dockerignore lets in, with its links as they are."""
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    for name in let_in:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image, but that its dependencies are this environment's: the same versions, which a test compares."""
    root = Path(tempfile.mkdtemp(prefix="image-"))
    root.chmod(0o755)
    (root / "src").mkdir()
    made = Image(root)
    for word, said in instructions():
        match word:
            case "RUN" if DEPENDENCIES in said:
                [packages] = (root / "opt/ahi-catalog/lib").glob("python*/site-packages")
                (packages / "dependencies.pth").write_text("\n".join(dependencies()), encoding="utf-8")
            case "RUN":
                run(["sh", "-ec", re.sub(r"^python ", f"{sys.executable} ", made.here(said))])
            case "COPY" if said == ". /src/":
                copy_context(root / "src")
            case "COPY" if not said.startswith("--from=build"):
                source, target = said.split()
                shutil.copy(ROOT / source, made.here(target))
            case "ENV":
                made.settings |= dict(each.split("=", 1) for each in made.here(said).split())
            case "USER":
                made.user = said
            case "CMD":
                made.command = re.findall(r'"([^"]*)"', said)
    yield made
    shutil.rmtree(root)


def test_the_steps_make_an_image_with_the_command(image: Image) -> None:
    """What the image runs by itself is the command's help, by a user who is not root, from files that pip installed."""
    assert image.user.isdecimal()
    assert ("VOLUME", '["/tmp"]') in instructions()
    environment = {**clean_environment(), **image.settings, "PATH": f"{image.root}/opt/ahi-catalog/bin"}
    done = subprocess.run(
        image.command, env=environment, cwd=image.root, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.startswith("Usage: ahi-catalog")
    [installed] = image.root.glob("opt/ahi-catalog/lib/python*/site-packages/ahi_catalog/__init__.py")
    assert not installed.parent.is_symlink()


def test_the_packages_of_the_image_are_those_that_are_tested() -> None:
    """Each of its pins is one of the lock of the tests, what AWS credentials in blocks need is there, and no test."""
    held = pins("requirements-image.lock")
    assert held < pins("requirements.lock")
    names = {pin.split("==")[0] for pin in held}
    assert {"prefect", "prefect-aws", "boto3", "hatchling"} <= names
    assert not names & {"pytest", "mypy", "idc-index-data"}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="to mount takes root on Linux")
@pytest.mark.parametrize("prefect", ["--no-prefect", pytest.param("--prefect", marks=pytest.mark.prefect)])
def test_a_sync_runs_read_only_for_anyone(image: Image, world: World, prefect: str) -> None:
    """Where one folder alone can be written and the user has no name, a sync makes the catalog, as a flow too."""
    world.service.clock.unfreeze()
    world.fill(60)
    writable = image.root / "tmp" / prefect
    writable.mkdir(parents=True)
    writable.chmod(0o777)
    catalog = writable / "catalog"
    places = {name: str(writable) for name in ("TMPDIR", "HOME")} | {"PREFECT_HOME": str(writable / "prefect")}
    assert {image.here("/tmp"), image.here("/tmp/prefect")} == {  # noqa: S108  # the same places in the image
        image.settings["HOME"],
        image.settings["PREFECT_HOME"],
    }
    command = [str(image.root / "opt/ahi-catalog/bin/ahi-catalog"), "sync", prefect, "--catalog", str(catalog)]
    done = subprocess.run(
        [
            str(shutil.which("unshare")),
            "--mount",
            "sh",
            "-c",
            READ_ONLY,
            "sh",
            *command,
            "--datastore-id",
            world.datastore_id,
        ],
        env={**clean_environment(), **image.settings, "PATH": os.environ["PATH"], **places},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert prefect == "--prefect" or [each.name for each in writable.iterdir()] == ["catalog"]
    assert read_folder(catalog) == expected_rows(world.service.rows(world.datastore_id))
