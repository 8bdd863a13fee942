# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text files that a reader finds whole, the old one or the new one, and the folders they lie in."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import time
from typing import Iterable, Union

# Parts are written one by one: a long text need not be whole in memory.
Text = Union[str, Iterable[str]]
# How an unfinished file is called, and when whoever wrote it must be gone: no text takes a minute.
_UNFINISHED_PREFIX = ".gpufleet-"
_UNFINISHED_SUFFIX = ".new"
ABANDONED_AFTER_SECONDS = 3600


def replace_file(path: str, text: Text, mode: int) -> None:
    """Writes a file under another name in its directory, renames it, and has both reach the disk.

    Raises: OSError when the disk is full or read-only, ...; what stood there before is unchanged; whatever
    making a part of the text has raised, likewise.
    """
    directory, name = os.path.split(path)
    sweep(directory or ".")
    # Exclusive and of a name that nobody can foresee: nothing that lies there is written through.
    descriptor, temporary = tempfile.mkstemp(
        prefix=f"{_UNFINISHED_PREFIX}{name}.", suffix=_UNFINISHED_SUFFIX, dir=directory or "."
    )
    try:
        _write(descriptor, text, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(directory or ".")


def sweep(directory: str) -> None:
    """Removes the unfinished files that killed runs of this user have left in a folder."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if _is_abandoned(entry):
                    os.unlink(entry.path)


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    if not (entry.name.startswith(_UNFINISHED_PREFIX) and entry.name.endswith(_UNFINISHED_SUFFIX)):
        return False
    found = entry.stat(follow_symlinks=False)
    old = time.time() - found.st_mtime > ABANDONED_AFTER_SECONDS
    return old and stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def write_file(path: str, text: Text, mode: int) -> None:
    """Writes a file that is not there yet, whatever the umask, through no symbolic link.

    Raises: OSError when the file cannot be written, or there is one already, be it a link.
    """
    _write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), text, mode)


def _write(descriptor: int, text: Text, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        for part in [text] if isinstance(text, str) else text:
            stream.write(part.encode("utf-8", "surrogateescape"))
        stream.flush()
        os.fsync(stream.fileno())


def move_file(path: str, target: str) -> None:
    """Renames a file within its folder, and has that reach the disk.

    Raises: OSError when it is not there, or the folder cannot be written.
    """
    os.replace(path, target)
    sync_folder(os.path.dirname(target))


def remove_file(path: str) -> None:
    """Removes a file, if it is there, and what was left unfinished beside it, and has that reach the disk.

    Raises: OSError when it cannot be removed.
    """
    sweep(os.path.dirname(path) or ".")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_folder(os.path.dirname(path))


def make_folder(path: str, mode: int) -> None:
    """Makes a folder, whatever the umask, and those above it likewise; one that is there is left as it is.

    Raises: OSError when it cannot be made, or something else has its name.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path) or "."
    make_folder(above, mode)
    with contextlib.suppress(FileExistsError):  # another run was quicker
        os.mkdir(path, mode)
        os.chmod(path, mode)
        sync_folder(above)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def make_state_folder(path: str) -> None:
    """Makes the folder of a unit's state, and has the one above it, that of the collection, private too.

    Raises: OSError when it cannot be made.
    """
    above = os.path.dirname(path)
    make_folder(above, 0o700)
    if os.stat(above).st_mode & 0o077:  # as an older version has left it
        os.chmod(above, 0o700)
    make_folder(path, 0o700)


def sync_folder(path: str) -> None:
    """Has what was renamed or removed in a folder reach the disk.

    Raises: OSError when the folder cannot be opened, or the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
