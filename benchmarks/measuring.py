"""Runs a command and writes down what the system says that it cost.

In a small process of its own: a command's peak of memory begins with that of the process that starts it, which Linux
keeps over exec (getrusage(2), ru_maxrss), and a benchmark that has asked DuckDB something holds more than what it
measures.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Run it; the first argument is the file for the figures, the second the cores that it may use, as JSON."""
    figures, cores, *command = sys.argv[1:]
    if allowed := json.loads(cores):
        os.sched_setaffinity(0, allowed)  # which the command inherits
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    cost = {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "peak": usage.ru_maxrss * 1024}
    Path(figures).write_text(json.dumps(cost), "utf-8")
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
