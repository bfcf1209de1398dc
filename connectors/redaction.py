"""Errors that leave a run: ours alone, with nothing attached that could quote a row.

An exception keeps the one that it was raised in place of (``__context__``, also after ``raise … from None``), and
Prefect, like every logger, may write the whole chain down. Arrow's, botocore's and Python's own errors quote
values; so where rows end and orchestration begins, they are told by their type and place only.
"""

import functools
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from ahi_catalog.connectors.errors import AhiCatalogError, UnexpectedError

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PACKAGE: Final = "ahi_catalog"
_ROOT: Final = Path(__file__).parents[2]


def redact_errors(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, whose errors are ours, without a cause or context.

    Raises:
        AhiCatalogError: As the function raises it.
        UnexpectedError: In place of any other exception; says its type and where it came from.
    """

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        failure: AhiCatalogError
        try:
            return function(*args, **kwargs)
        except AhiCatalogError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  # told without its text, which is not ours
            failure = UnexpectedError(f"unexpected {describe(error)}; please report that line")
        failure.__cause__ = failure.__context__ = None
        raise failure

    return run


def describe(error: BaseException) -> str:
    """An error's type, and the innermost line of ours that it came from; never its text."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [(Path(frame.filename), frame.lineno) for frame in frames]
    ours = [(path.relative_to(_ROOT), line) for path, line in files if path.is_relative_to(_ROOT)]
    places = [f"{path}, line {line}" for path, line in ours if path.parts[0] == _PACKAGE]
    return f"{type(error).__name__} in {places[-1]}" if places else type(error).__name__


def trace(error: BaseException) -> Iterator[str]:
    """The lines of code that an error and those before it came through, for who debugs; texts of ours only."""
    before = error.__cause__ or error.__context__
    if before is not None:
        yield from trace(before)
    yield from (line.rstrip("\n") for line in traceback.format_tb(error.__traceback__))
    yield f"{type(error).__name__}: {error}" if isinstance(error, AhiCatalogError) else type(error).__name__
