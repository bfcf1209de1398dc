"""Files and folders that are their user's alone (0700, 0600), and on the disk when they are written.

Where a share keeps no permissions, or does not confirm what is on the disk, that is said once, and the write goes on.
"""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BufferedWriter
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_FOR_OTHERS: Final = 0o077
UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""How file systems answer what they do not know."""


class PrivateFiles:
    """What writes them.

    Args:
        place: What they are, for who is told of a share.
        remedy: What mends it where a power cut lost some.
    """

    def __init__(self, place: str, remedy: str) -> None:
        self._place = place
        self._remedy = remedy

    def write(self, path: Path, body: bytes, unfinished: Path) -> None:
        """Make or replace a file by an atomic rename.

        Args:
            path: Of the file.
            body: Its bytes.
            unfinished: Where they are written first, on the same file system; nobody else's.

        Raises:
            OSError: It cannot be written.
        """
        self.make_folder(path.parent)
        try:
            with self.open(unfinished) as file:
                file.write(body)
                file.flush()
                self._sync(file.fileno())
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        self._sync_folder(path.parent)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above, where there is none.

        Raises:
            OSError: It cannot be made.
        """
        if not folder.is_dir():
            self.make_folder(folder.parent)
            with suppress(FileExistsError):
                folder.mkdir(_FOLDER_MODE)
                self._make_private(folder, _FOLDER_MODE)
            self._sync_folder(folder.parent)

    def open(self, path: Path) -> BufferedWriter:
        """An empty file to write, made where there is none.

        Raises:
            OSError: It cannot be opened.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        self._make_private(descriptor, _FILE_MODE)
        return os.fdopen(descriptor, "wb")

    def _make_private(self, made: int | Path, mode: int) -> None:
        """What was made is its user's alone, whatever the umask takes away, where the file system keeps modes."""
        with suppress(PermissionError):
            _unless_unsupported(os.chmod, made, mode)
        if os.stat(made).st_mode & _FOR_OTHERS:  # noqa: PTH116  # a descriptor too
            _say_once(
                f"{self._place}: the file system keeps no permissions of its own; who else may read there, the mount "
                "says (file_mode=0600, dir_mode=0700)"
            )

    def _sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def _sync(self, descriptor: int) -> None:
        if not _unless_unsupported(os.fsync, descriptor):
            _say_once(
                f"{self._place}: the file system does not confirm what is on the disk, so a power cut may lose the "
                f"last writes; after one, {self._remedy}"
            )


def _unless_unsupported(call: Callable[..., object], *arguments: object) -> bool:
    """Make a system call, and whether the file system knows it."""
    try:
        call(*arguments)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


@cache
def _say_once(text: str) -> None:
    _log.warning(text)
