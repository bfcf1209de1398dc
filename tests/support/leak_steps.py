"""A process that runs commands of ours one after the other with every log at DEBUG, faults and planted leaks.

Reads a JSON list of steps from stdin: ``args`` of a command, ``faults`` for the embedded service, ``break``, a
function of Arrow's that fails while the command runs, and ``plant``, a leak to be found. Prints each exit code.
"""

import importlib
import json
import logging
import os
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def main() -> None:
    """Run the steps."""
    logging.basicConfig(level=logging.DEBUG)
    from ahi_catalog.cli.main import run  # noqa: PLC0415

    # No back-off waits of ours; Prefect's client needs its own while its server is busy.
    retrying: Any = importlib.import_module("ahi_catalog.connectors.retrying")
    retrying.random = SimpleNamespace(uniform=lambda *_: 0.0)
    for step in json.load(sys.stdin):
        for name in list(logging.root.manager.loggerDict):
            logging.getLogger(name).setLevel(logging.DEBUG)
        for fault in step.get("faults", []):
            order(fault)
        with broken(step.get("break")), planted(step.get("plant")):
            code = run(["--debug", *step["args"]])
        order(None)
        sys.stdout.write(f"exit {code}\n")
        sys.stdout.flush()


def order(fault: dict[str, Any] | None) -> None:
    """Order a fault of the embedded service; None: forget those left."""
    url = f"{os.environ['AWS_ENDPOINT_URL_MEDICAL_IMAGING']}/_control/faults"
    body = json.dumps(fault).encode() if fault else None
    request = urllib.request.Request(url, body, method="POST" if fault else "DELETE")  # noqa: S310  # loopback
    urllib.request.urlopen(request).close()  # noqa: S310


@contextmanager
def broken(what: str | None) -> Iterator[None]:
    """Let Arrow fail as it does, quoting values."""

    def fail(values: Any, *_: Any, **__: Any) -> Any:
        raise pa.ArrowTypeError(f"Could not convert {values.to_pylist()}")

    whole = getattr(pc, what) if what else None
    if what:
        setattr(pc, what, fail)
    try:
        yield
    finally:
        if what:
            setattr(pc, what, whole)


@contextmanager
def planted(what: str | None) -> Iterator[None]:
    """Leak rows in one of the ways that the search must find."""
    source: Any = importlib.import_module("ahi_catalog.connectors.healthimaging.source")
    run: Any = importlib.import_module("ahi_catalog.pipeline.run")
    aws: Any = importlib.import_module("ahi_catalog.connectors.aws")
    raw_body, make_scan, silence = source.raw_body, run.make_scan, aws.silence_bodies

    def leak_body(answer: Any) -> bytes:
        body: bytes = raw_body(answer)
        if what == "log":
            logging.getLogger("ahi_catalog.connectors.planted").debug("%r", body)
        elif what == "temp":
            handle, _ = tempfile.mkstemp()
            os.write(handle, body)
        return body

    def leaking(*args: Any) -> Any:
        scan = make_scan(*args)

        def leak_scan(*request: Any) -> Any:
            found = scan(*request)
            if what == "prefect" and len(found.rows):
                from prefect.artifacts import create_markdown_artifact  # noqa: PLC0415

                create_markdown_artifact(str(found.rows["patient_name"][0].as_py()), key="planted")
            return found

        return leak_scan

    source.raw_body = leak_body
    run.make_scan = leaking
    if what == "bodies":
        aws.silence_bodies = lambda: None
    try:
        yield
    finally:
        source.raw_body, run.make_scan, aws.silence_bodies = raw_body, make_scan, silence


if __name__ == "__main__":
    main()
