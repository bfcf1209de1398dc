"""The command `ahi-catalog`: its group, its settings file, its exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A failure is one line on stderr, which says what
went wrong and what to do; a traceback comes with ``--debug`` only.
"""

import gc
import logging
import os
import sys
from typing import Final

import click
from click.core import ParameterSource

from ahi_catalog.cli.changes import changes
from ahi_catalog.cli.check import check
from ahi_catalog.cli.completion import completion
from ahi_catalog.cli.contract import contract
from ahi_catalog.cli.ddl import ddl
from ahi_catalog.cli.demo import demo
from ahi_catalog.cli.doctor import doctor
from ahi_catalog.cli.emulate import emulate
from ahi_catalog.cli.iam_policy import iam_policy
from ahi_catalog.cli.iceberg import iceberg
from ahi_catalog.cli.metadata import metadata
from ahi_catalog.cli.plan import plan
from ahi_catalog.cli.query import query
from ahi_catalog.cli.register import register
from ahi_catalog.cli.report import report
from ahi_catalog.cli.runs import backfill, sync, verify
from ahi_catalog.cli.serve import serve
from ahi_catalog.cli.settings_file import SETTINGS_FILE, check_variables, init, is_setting, read_settings
from ahi_catalog.cli.state import state
from ahi_catalog.cli.status import status
from ahi_catalog.cli.watch import watch
from ahi_catalog.cli.wording import in_shell_words
from ahi_catalog.connectors.errors import AhiCatalogError, StoppedError, UsageError
from ahi_catalog.connectors.redaction import describe, trace
from ahi_catalog.pipeline.signals import INTERRUPTED, INTERRUPTED_TEXT

_DONE, _FAILED, _WRONG_USAGE = 0, 1, 2

_COLLECT_AFTER: Final = 50_000
"""Objects after which Python looks for garbage cycles. Modules and pages are many objects and leave no cycles: at
Python 3.11's default of 700 a first sync of a hundred thousand image sets spends a fifteenth of its time looking."""

LIBRARIES: Final = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables for Arrow and OpenBLAS, which read them as they are loaded, and for glibc, which reads its own as a process
starts: only the processes that this one starts have that (those of `serve`'s runs, Dask's local workers). prefect.yaml
sets all for other workers. Arrow's own allocators keep what many threads freed; glibc's malloc hands blocks back that
are as large as it is told (mallopt(3)). OpenBLAS, which comes with numpy, starts a thread for each core, and each spins
for a tenth of a second."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, envvar="AHI_CATALOG_DEBUG", help="Log more, and show tracebacks.")
@click.version_option(package_name="ahi-catalog")
@click.pass_context
def cli(context: click.Context, *, debug: bool) -> None:
    """Keep a Parquet catalog of an AWS HealthImaging data store: exactly one row an image set.

    \b
    Try it, without an account:
      ahi-catalog demo
    Keep a catalog on S3, and ask it something:
      ahi-catalog sync  --catalog s3://bucket/imaging --datastore-id 0123456789abcdef0123456789abcdef
      ahi-catalog query --catalog s3://bucket/imaging "select series_modality, count(*) from image_sets group by 1"

    Settings come from flags, then AHI_CATALOG_* variables (AHI_CATALOG_RATE for --rate), then ahi-catalog.toml
    in the current folder (`ahi-catalog init` writes one to fill in). Credentials, regions and endpoints are
    boto3's own: AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_MEDICAL_IMAGING, AWS_ENDPOINT_URL_S3.
    """
    _log_to_stderr(logging.DEBUG if debug else logging.WARNING)
    check_variables(cli, os.environ)
    context.default_map = read_settings(cli)


def _set_debug(context: click.Context, parameter: click.Parameter, is_set: bool) -> None:  # noqa: FBT001  # click's
    del context, parameter
    if is_set:
        logging.getLogger("ahi_catalog").setLevel(logging.DEBUG)


def _debug_option() -> click.Option:
    """The same behind a command, where most people write it."""
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Log more, and show tracebacks."
    )


_COMMANDS: Final = (
    demo,
    sync,
    backfill,
    verify,
    watch,
    metadata,
    plan,
    serve,
    status,
    check,
    query,
    changes,
    report,
    ddl,
    contract,
    register,
    iceberg,
    iam_policy,
    doctor,
    init,
    state,
    completion,
    emulate,
)
for _command in _COMMANDS:
    _command.params.append(_debug_option())
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit."""
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(_COLLECT_AFTER)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command.

    Args:
        arguments: Those after the program's name.

    Returns:
        The exit code.
    """
    try:
        code = cli.main(arguments, prog_name="ahi-catalog", standalone_mode=False)
    except click.ClickException as error:
        _with_places(error).show()
        if origin := _origin(error):
            click.echo(f"That is from {origin}.", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, StoppedError):
        click.echo(INTERRUPTED_TEXT, err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except AhiCatalogError as error:
        _say_trace(error)
        click.echo(f"Error: {in_shell_words(str(error), cli)}", err=True)
        return _WRONG_USAGE if isinstance(error, UsageError) else _FAILED
    except Exception as error:  # noqa: BLE001  # the last stop; its type and place are told
        _say_trace(error)
        # Its text is not ours and may quote data.
        click.echo(f"Error: unexpected {describe(error)}; run again with --debug before reporting it", err=True)
        return _FAILED
    return code if isinstance(code, int) else _DONE


def _with_places(error: click.ClickException) -> click.ClickException:
    """The error, which names all places that a missing option may come from."""
    if not (isinstance(error, click.MissingParameter) and error.param and isinstance(error.param.envvar, str)):
        return error
    key = max(error.param.opts, key=len).removeprefix("--")
    in_file = f", or {key} in {SETTINGS_FILE}" if is_setting(key) else ""
    places = f"Or set {error.param.envvar}{in_file}."
    return click.MissingParameter(places, ctx=error.ctx, param=error.param)


def _origin(error: click.ClickException) -> str:
    """Where a wrong value came from, unless from a flag."""
    if isinstance(error, click.BadParameter) and error.ctx and error.param and error.param.name:
        match error.ctx.get_parameter_source(error.param.name):
            case ParameterSource.DEFAULT_MAP:
                return SETTINGS_FILE
            case ParameterSource.ENVIRONMENT:
                return str(error.param.envvar)
    return ""


def _say_trace(error: Exception) -> None:
    if logging.getLogger("ahi_catalog").isEnabledFor(logging.DEBUG):
        for line in trace(error):
            click.echo(line, err=True)


class _InShellWords(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return in_shell_words(super().format(record), cli)


def _log_to_stderr(level: int) -> None:
    """Our own loggers only: the libraries' keep to their own handlers, and botocore's would print bodies."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_InShellWords("%(levelname)s %(message)s"))
    logger = logging.getLogger("ahi_catalog")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
