"""How many pages a second the embedded service answers, over real HTTP, with a million image sets in memory.

The server runs in its own process. This one walks disjoint stretches of createdAt over several keep-alive
connections with a request signed beforehand, and does as little as it can with the answers, so that the
server is what is measured. Cores may be shared, so pages per CPU second of the server count most.

    python -m benchmarks.emulator_pages [--rows 1000000] [--connections 4] [--seconds 10]
"""

import argparse
import multiprocessing
import os
import socket
import threading
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson

from ahi_catalog.emulator import Emulator, Service, ServiceOptions
from ahi_catalog.emulator.clock import MICROS
from ahi_catalog.emulator.idc import load_idc

_SIGNED = (
    "x-amz-date: 20260501T000000Z\r\n"
    "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260501/us-east-1/medical-imaging/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}\r\n"
)


def serve(pipe: Connection, rows: int | None, connections: int) -> None:
    """The server process: loads, serves, and tells the other end what it needs."""
    started = time.perf_counter()
    service = Service(ServiceOptions(rate=None))
    store = load_idc(service, rows=rows)
    loaded = time.perf_counter() - started
    created = sorted(record.created for record in service.datastore(store).current.values())
    cuts = [created[len(created) * number // connections] / MICROS for number in range(connections)]
    with Emulator(service) as emulator:
        pipe.send((emulator.url, store, [*cuts, created[-1] / MICROS], len(created), loaded))
        pipe.recv()


def walk(url: str, store: str, window: tuple[float, float], until: float, done: list[tuple[int, int]]) -> None:
    """Page through a window of createdAt, again and again, until the time is up."""
    host = urlsplit(url)
    values = [{"createdAt": bound} for bound in window]
    body = orjson.dumps(
        {
            "filters": [{"operator": "BETWEEN", "values": values}],
            "sort": {"sortField": "createdAt", "sortOrder": "ASC"},
        }
    )
    pages = size = 0
    token = ""
    with socket.create_connection((host.hostname or "", host.port or 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < until:
            more = f"&nextToken={quote(token, safe='')}" if token else ""
            head = (
                f"POST /datastore/{store}/searchImageSets?maxResults=50{more} HTTP/1.1\r\nhost: {host.netloc}\r\n"
                f"{_SIGNED}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
            answer = read(connection)
            mark = answer.rfind(b'"nextToken":"')
            token = "" if mark < 0 else answer[mark + 13 : -2].decode()
            pages += 1
            size += len(answer)
    done.append((pages, size))


def read(connection: socket.socket) -> bytes:
    """The body of one answer."""
    received = bytearray()
    end = length = -1
    while end < 0 or len(received) < end + length:
        chunk = connection.recv(1 << 18)
        if not chunk:
            raise ConnectionError("the server hung up")
        received += chunk
        if end < 0 and (blank := received.find(b"\r\n\r\n")) >= 0:
            end = blank + 4
            head = bytes(received[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                raise ConnectionError(f"the server answered {head[9:12].decode()}")
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return bytes(received[end:])


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> str:
    """Resident memory of a process: now, and at most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return f"{kib['VmRSS'] * 1024 / 1e6:,.0f} MB, at most {kib['VmHWM'] * 1024 / 1e6:,.0f} MB"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=None, help="image sets to load; all of IDC by default")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    settings = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs, settings.rows, settings.connections))
    server.start()
    url, store, cuts, rows, loaded = ours.recv()
    pid = server.pid or 0

    done: list[tuple[int, int]] = []
    before, begin = cpu_seconds(pid), time.perf_counter()
    threads = [
        threading.Thread(target=walk, args=(url, store, window, begin + settings.seconds, done))
        for window in pairwise(cuts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - begin, cpu_seconds(pid) - before
    pages, size = (sum(column) for column in zip(*done, strict=True))

    print(f"image sets in memory     {rows:>12,}   loaded in {loaded:.1f} s")
    print(f"memory of the server     {memory(pid)}")
    print(f"pages of 50              {pages:>12,}   {size / pages / 50:,.0f} bytes a row")
    print(f"pages a second           {pages / wall:>12,.0f}   {settings.connections} connections, {wall:.1f} s")
    print(f"pages a CPU second       {pages / cpu:>12,.0f}   server busy {cpu / wall:.0%} of a core")
    ours.send("stop")
    server.join()


if __name__ == "__main__":
    main()
