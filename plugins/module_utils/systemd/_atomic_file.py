# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: text files that a reader finds whole, the old one or the new one."""

from __future__ import annotations

import contextlib
import os
from typing import Iterable, Union

# Parts are written one by one: a long text need not be whole in memory.
Text = Union[str, Iterable[str]]


def replace_file(path: str, text: Text, mode: int) -> None:
    """Writes a file under another name in its directory, renames it, and has both reach the disk.

    Raises:
        OSError: The disk is full or read-only, ...; what stood there before is unchanged.
        Exception: Whatever making a part of the text has raised, likewise.
    """
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.new")
    try:
        write_file(temporary, text, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_file(path: str, text: Text, mode: int) -> None:
    """Writes a file, whatever the umask, through no symbolic link.

    Raises:
        OSError: The file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        for part in [text] if isinstance(text, str) else text:
            stream.write(part.encode("utf-8", "surrogateescape"))
        stream.flush()
        os.fsync(stream.fileno())
