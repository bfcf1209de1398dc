"""What scanning on a Dask cluster costs: CPU seconds of a whole sync, on threads and on a local cluster of processes.

The embedded service runs in this process, without a quota, and is not counted. Everything of the command is: start,
imports, workers, publishing. Cores may be shared, so only CPU seconds are compared, of one run of this script.

    python -m benchmarks.cluster_cost [--rows 100000]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ahi_catalog.emulator import Emulator, Service, ServiceOptions
from ahi_catalog.emulator.idc import load_idc


def cost(command: list[str]) -> float:
    """CPU seconds of a command and of the processes that it has waited for."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Sync the same data store twice and print what each way took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    service = Service(ServiceOptions(rate=None))
    datastore_id = load_idc(service, rows=rows)
    os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    with Emulator(service) as emulator, tempfile.TemporaryDirectory() as folder:
        os.environ["AWS_ENDPOINT_URL_MEDICAL_IMAGING"] = emulator.url
        for name, more in (("threads", []), ("--dask local", ["--dask", "local"])):
            service.reset_counters()
            program = str(Path(sys.executable).with_name("ahi-catalog"))
            given = ["--catalog", f"{folder}/{len(more)}", "--datastore-id", datastore_id, "--partition", "month"]
            fast = ["--rate", "100000", "--burst", "100000", "--concurrency", "8", "--no-prefect", "--json"]
            seconds = cost([program, "sync", *given, *fast, *more])
            requests = sum(service.counters.requests.values())
            print(
                f"{name:14} {seconds:6.1f} s CPU, {requests:,} requests, {1000 * seconds / requests:.1f} ms a request"
            )


if __name__ == "__main__":
    main()
