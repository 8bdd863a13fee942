# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which programs may be run: those that nobody can change but root, and the user that we are."""

from __future__ import annotations

import errno
import os
import posixpath
import stat

# Where Linux itself gives up. Source: linux include/linux/namei.h, MAXSYMLINKS.
MOST_LINKS = 40
_DEFAULT_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def changeable_part(path: str) -> str | None:
    """The first file, folder or link on the way to `path` that another user can change; None where there is none.

    Links are followed one by one, because who can change a link or its folder chooses where it leads. A folder in
    which everybody may write is no such part if it is sticky, as /tmp is: what is ours in it nobody else can replace.

    Raises: OSError when there is no such file, or it cannot be looked at.
    """
    at = "/"
    parts = path.split("/")
    links = 0
    while True:
        status = os.lstat(at)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if _changeable(status):
            return at
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(at)
            parts = [*target.split("/"), *parts]
            at = "/" if target.startswith("/") else posixpath.dirname(at)
        while parts and parts[0] in ("", "."):
            parts.pop(0)
        if not parts:
            return None
        part = parts.pop(0)
        # What stands in `at` is no link: its parent is the folder that it lies in.
        at = posixpath.dirname(at) if part == ".." else posixpath.join(at, part)


def _changeable(status: os.stat_result) -> bool:
    if status.st_uid not in (0, os.geteuid()):
        return True
    if stat.S_ISLNK(status.st_mode):  # its own mode says nothing
        return False
    sticky_folder = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return bool(status.st_mode & 0o022) and not sticky_folder


def program(name: str) -> str:
    """The path of a program, looked for in PATH, that nobody else can change.

    Raises: FileNotFoundError when there is none.
    """
    folders = [""] if "/" in name else os.environ.get("PATH", _DEFAULT_PATH).split(":")
    passed_over = ""
    for folder in folders:
        path = posixpath.join(folder, name)
        if not posixpath.isabs(path) or not os.access(path, os.X_OK) or not os.path.isfile(path):
            continue
        part = changeable_part(path)
        if part is None:
            return path
        passed_over = passed_over or f"; {path} is not run, because others than root can change {part}"
    raise FileNotFoundError(errno.ENOENT, f"there is no program {name} in PATH{passed_over}")
