"""The command `ahi-catalog`: its group, its settings file, its exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A failure is one line on stderr, which says what
went wrong and what to do; a traceback comes with ``--debug`` only.
"""

import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import click

from connectors.errors import AhiCatalogError, StoppedError, UsageError
from flows.cli.demo import demo
from flows.cli.emulate import emulate
from flows.cli.query import query
from flows.cli.runs import backfill, sync, verify
from flows.cli.serve import serve
from flows.cli.status import status
from flows.signals import INTERRUPTED

_SETTINGS_FILE: Final = "ahi-catalog.toml"
_DONE, _FAILED, _WRONG_USAGE = 0, 1, 2


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
    in the current folder. Credentials, regions and endpoints are boto3's own: AWS_PROFILE, AWS_DEFAULT_REGION,
    AWS_ENDPOINT_URL_MEDICAL_IMAGING, AWS_ENDPOINT_URL_S3.
    """
    context.default_map = _settings_file(cli)
    _log_to_stderr(logging.DEBUG if debug else logging.WARNING)


for _command in (demo, sync, backfill, verify, serve, status, query, emulate):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command.

    Args:
        arguments: Those after the program's name.

    Returns:
        The exit code.
    """
    debug = "--debug" in arguments or bool(os.environ.get("AHI_CATALOG_DEBUG"))
    try:
        code = cli.main(arguments, prog_name="ahi-catalog", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, StoppedError):
        click.echo("Interrupted; the next run resumes.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except AhiCatalogError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        return _WRONG_USAGE if isinstance(error, UsageError) else _FAILED
    except Exception as error:
        if debug:
            raise
        # Its text is not ours and may quote data.
        click.echo(f"Error: unexpected {type(error).__name__}; run again with --debug before reporting it", err=True)
        return _FAILED
    return code if isinstance(code, int) else _DONE


def _log_to_stderr(level: int) -> None:
    """Our own loggers only: the libraries' keep to their own handlers, and botocore's would print bodies."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    for name in ("connectors", "flows"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


def _settings_file(group: click.Group) -> dict[str, Any]:
    """Defaults for every command from the settings file, where there is one.

    Raises:
        UsageError: It does not parse, or sets what no command knows.
    """
    path = Path(_SETTINGS_FILE)
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{_SETTINGS_FILE} cannot be read: {error}") from None
    named = {key.replace("-", "_"): value for key, value in settings.items()}
    known = {parameter.name for command in group.commands.values() for parameter in command.params}
    if unknown := sorted(set(named) - known):
        raise UsageError(f"{_SETTINGS_FILE} sets what no command knows: {', '.join(unknown)}")
    return dict.fromkeys(group.commands, named)
