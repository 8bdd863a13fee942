# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How files are opened that others may have put in our way."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class NotRegular(OSError):
    """What a path names is no regular file: a pipe, a device, a folder or, where none is followed, a link."""


def open_regular(path: str, *, follow_link: bool = False, folder: int | None = None) -> BinaryIO:
    """A regular file, open for reading; everything else is refused instead of waited for.

    What was opened is what is looked at, so that nothing can be exchanged in between. A link is refused unless
    it may be followed. folder: the descriptor of the folder that a relative path begins in.

    Raises: NotRegular; OSError where it cannot be opened.
    """
    flags = _FLAGS if follow_link else _FLAGS | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, dir_fd=folder)
    except ValueError as error:
        raise OSError(errno.EINVAL, "no file can have this name") from error
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_link:
            raise NotRegular(errno.ELOOP, "it is a link, which is not followed here", path) from error
        if error.errno == errno.ENXIO:
            raise NotRegular(errno.EINVAL, "not a regular file", path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(errno.EINVAL, "not a regular file", path)
    return os.fdopen(descriptor, "rb")


def open_folder(path: str, *, follow_link: bool = False, folder: int | None = None) -> int:
    """The descriptor of a folder, for `os.scandir` and to open what lies in it; to be closed by the caller.

    Raises: OSError; NotADirectoryError for a link that is not to be followed.
    """
    flags = _FLAGS | os.O_DIRECTORY
    return os.open(path, flags if follow_link else flags | os.O_NOFOLLOW, dir_fd=folder)


def open_below(root: str, parts: Sequence[str]) -> BinaryIO:
    """The regular file at the path `parts` below a folder; the folder may be a link, nothing below it may.

    Raises: NotRegular; OSError where it cannot be opened.
    """
    folder = open_folder(root, follow_link=True)
    try:
        for name in parts[:-1]:
            inner = open_folder(name, folder=folder)
            os.close(folder)
            folder = inner
        return open_regular(parts[-1], folder=folder)
    finally:
        os.close(folder)
