"""All benchmarks, and one table of all goals at the end.

python -m benchmarks.run [--json goals.json] [--markdown goals.md] [--quick]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Goal, show

QUICK = {
    "quota": ("--rows", "3000", "--raised", "3000", "--runs", "1"),
    "cost": ("--rows", "3000", "--most", "9000"),
    "dense_partitions": ("--day", "2000", "--month", "4000"),
    "incremental": ("--rows", "20000", "--changes", "100"),
    "metadata": ("--rows", "300", "--few", "20", "--runs", "1"),
    "far_store": ("--rows", "1500"),
    "far_queries": ("--rows", "3000"),
    "freshness": ("--rows", "3000", "--seconds", "20"),
}


def main() -> None:
    """Run each in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="sizes that only show that everything runs")
    parser.add_argument("--json", type=Path, help="write the goals there")
    parser.add_argument("--markdown", type=Path, help="write the goals there, as a table")
    given = parser.parse_args()
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in QUICK.items():
            file = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
            subprocess.run([*command, *(sizes if given.quick else ())], check=True)
            goals += [Goal(**goal) for goal in json.loads(file.read_text())]
    columns = ["what", "goal", "measured", "met"]
    lines = [[goal.what, goal.goal, goal.measured, "yes" if goal.met else "NO"] for goal in goals]
    show("All goals", columns, lines)
    if given.json:
        given.json.write_text(json.dumps([dict(zip(columns, line, strict=True)) for line in lines], indent=1) + "\n")
    if given.markdown:
        table = [columns, ["---"] * len(columns), *lines]
        given.markdown.write_text("".join(f"| {' | '.join(line)} |\n" for line in table))


if __name__ == "__main__":
    main()
