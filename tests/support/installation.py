"""Fresh environments with ahi-catalog installed, whose other packages are those of the running one.

No network is used: pip builds with the installed hatchling, and the dependencies come by a .pth file.
"""

import importlib.metadata
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("cli", "connectors", "doctor", "emulator", "flows", "pipeline", "report", "schemas")
"""The folders at the top of the repository that are installed as ahi_catalog.<room>."""
_SECONDS = 300
_OURS = ("ahi-catalog", "ahi_catalog")


@dataclass(frozen=True, slots=True)
class Installation:
    """An environment, and the folder of a user's project in which its programs run.

    Attributes:
        folder: The environment's.
        project: The folder of the user's own packages.
    """

    folder: Path
    project: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin/python")

    @property
    def command(self) -> str:
        """The installed `ahi-catalog`."""
        return str(self.folder / "bin/ahi-catalog")

    @property
    def packages(self) -> Path:
        """Where pip installs."""
        [found] = (self.folder / "lib").glob("python*/site-packages")
        return found

    def pip_install(self, what: str | Path, *options: str) -> None:
        """Install from a file or folder, without an index."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python]
        run(
            [
                *pip,
                "install",
                "--quiet",
                "--ignore-installed",
                "--no-index",
                "--no-deps",
                "--no-build-isolation",
                *options,
                str(what),
            ]
        )

    def run(self, *command: str) -> str:
        """What a program prints that runs in the user's project."""
        return run([*command], cwd=self.project)


def make_installation(folder: Path) -> Installation:
    """An environment without ahi-catalog, and a project with `flows/`, `connectors/` and `schemas/` of its own.

    The environment finds the packages that the running one has. What a .pth file of the running one adds to its
    path, as an editable installation of ahi-catalog does, is not found: Python reads .pth files only in the folders
    that it takes for an environment's own.
    """
    made = Installation(folder / "environment", folder / "project")
    venv.create(made.folder, symlinks=True)
    (made.packages / "dependencies.pth").write_text("\n".join(dependencies()), encoding="utf-8")
    for name in ("flows", "connectors", "schemas"):
        package = made.project / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text('raise ImportError("is the user\'s")\n', encoding="utf-8")
    return made


def dependencies() -> list[str]:
    """The folders in which the running environment has other packages than ahi-catalog."""
    others = (each for each in importlib.metadata.distributions() if each.metadata["Name"] not in _OURS)
    return sorted({str(each.locate_file("")) for each in others})


def run(command: list[str], cwd: Path | None = None) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        command,
        cwd=cwd or ROOT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clean_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables without those by which Python finds modules elsewhere."""
    return {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
