"""Completion in real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(sys.executable).parent
SCRIPT = 'eval "$(ahi-catalog completion bash)"; COMP_WORDS=({words}); COMP_CWORD={at}; {ask}; echo "${{COMPREPLY[@]}}"'


def shell(name: str, script: str) -> str:
    """What a shell prints, with the command on its path."""
    program = shutil.which(name)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {name}: apt-get install {name}")
        pytest.skip(f"no {name} here: apt-get install {name}")
    environment = {**os.environ, "PATH": f"{FOLDER}:{os.environ['PATH']}"}
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    done = subprocess.run([program, *flags, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["statu"], {"status"}),
        (["status", "--ru"], {"--runs"}),
        (["query", "--format", ""], {"table", "csv", "json", "parquet"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_commands_options_and_values(words: list[str], expected: set[str]) -> None:
    """The function that the script defines gives bash the words that fit."""
    quoted = " ".join(["ahi-catalog", *(f"'{word}'" for word in words)])
    asked = "_ahi_catalog_completion ahi-catalog"
    answer = shell("bash", SCRIPT.format(words=quoted, at=len(words), ask=asked))
    assert set(answer.split()) == expected


def test_bash_uses_the_script_for_the_command() -> None:
    """After it is evaluated, bash knows what to call for ahi-catalog."""
    answer = shell("bash", 'eval "$(ahi-catalog completion bash)"; complete -p ahi-catalog')
    assert "_ahi_catalog_completion" in answer


def test_fish_completes() -> None:
    """fish's own completion, asked for one."""
    answer = shell("fish", "ahi-catalog completion fish | source; complete -C 'ahi-catalog statu'")
    assert answer.split()[0] == "status"


def test_zsh_takes_the_script() -> None:
    """zsh reads it without complaint and has it for ahi-catalog."""
    script = 'autoload -U compinit; compinit -D; eval "$(ahi-catalog completion zsh)"; print $_comps[ahi-catalog]'
    assert shell("zsh", script).strip() == "_ahi_catalog_completion"
