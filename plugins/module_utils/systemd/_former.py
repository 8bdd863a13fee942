# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions of a unit's drop-ins that stood there before, one file for each change that replaced one.

A change has a number that counts up, whatever the host's clock says, and behind a `+` the rollout that made it, where
one did. Its file holds what the change replaced, so the file of the lowest number is the oldest version. Before there
were numbers, changes were named for their moment; these are older than all that have one.

Of a change that was taken back, the file in the other folder, `withdrawn`, holds what it had written.
"""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    make_folder,
    move_file,
    remove_file,
    replace_file,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import read_text

_ABSENT_SUFFIX = ".absent"
_PRESENT_SUFFIX = ".conf"
_ROLLOUT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")
_CHANGE = re.compile(r"(?:[0-9]{8}T[0-9]{6}\.[0-9]{6}Z|change-([0-9]{6,12})(?:\+([A-Za-z0-9-]{1,64}))?)\Z")


@dataclass(frozen=True)
class Former:
    """What a change replaced: `text` None means that there was no drop-in."""

    path: str
    text: str | None

    @property
    def change(self) -> str:
        return _change_of(self.path)


def is_rollout(name: str) -> bool:
    """Whether a rollout may have this name, which becomes part of a file's."""
    return _ROLLOUT.match(name) is not None


def is_change(name: str) -> bool:
    """Whether a name is one of a change, and not that of a rollout."""
    return _CHANGE.match(name) is not None


def number_of(change: str) -> int:
    """A change's number; 0 for one that was named for its moment, and for what names none."""
    found = _CHANGE.match(change)
    return int(found.group(1)) if found and found.group(1) else 0


def rollout_of(change: str) -> str:
    """The rollout that made a change; the change itself where none did."""
    found = _CHANGE.match(change)
    return (found.group(2) if found else None) or change


def change_name(number: int, rollout: str) -> str:
    """How a change is named."""
    return f"change-{number:08d}" + (f"+{rollout}" if rollout else "")


def in_order(changes: set[str]) -> list[str]:
    """Changes, oldest first."""
    return sorted(changes, key=lambda change: (number_of(change), change))


def changes(directory: str) -> list[str]:
    """The names of the changes whose version is kept in a folder, oldest first."""
    return in_order({_change_of(name) for name in _names(directory)})


def former(directory: str, change: str) -> Former | None:
    """What a change replaced; None when it is not kept.

    Raises: OSError when the file cannot be read; ValueError when the file is too large.
    """
    for name in _names(directory):
        if _change_of(name) == change:
            path = os.path.join(directory, name)
            return Former(path, None if name.endswith(_ABSENT_SUFFIX) else read_text(path))
    return None


def newest(directory: str) -> Former | None:
    """What the last change replaced; None when none is kept.

    Raises: OSError when the file cannot be read; ValueError when the file is too large.
    """
    known = changes(directory)
    return former(directory, known[-1]) if known else None


def keep(directory: str, change: str, text: str | None, most: int) -> None:
    """Keeps a version under the name of a change, and no more than `most` of them; the newest always stays.

    Raises: OSError when the disk is full or read-only, ...
    """
    make_folder(directory, 0o700)
    replace_file(os.path.join(directory, change + _suffix(text)), text or "", 0o600)
    for old in changes(directory)[: -max(most, 1)]:
        if old != change:
            forget(directory, old)


def forget(directory: str, change: str) -> None:
    """Removes a kept version, if it is there.

    Raises: OSError when it cannot be removed.
    """
    for suffix in (_ABSENT_SUFFIX, _PRESENT_SUFFIX):
        remove_file(os.path.join(directory, change + suffix))


def hand_over(mine: Former, next_change: Former) -> None:
    """Has the change that came after ours replace what ours replaced, as if ours had never been.

    Raises: OSError when the disk is full or read-only, ...
    """
    directory = os.path.dirname(mine.path)
    target = os.path.join(directory, next_change.change + _suffix(mine.text))
    move_file(mine.path, target)
    if target != next_change.path:
        remove_file(next_change.path)


def _names(directory: str) -> list[str]:
    """The files of changes in a folder; whatever else somebody put there is not ours."""
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if _is_kept(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_kept(entry: os.DirEntry[str]) -> bool:
    stem, suffix = os.path.splitext(entry.name)
    if suffix not in (_ABSENT_SUFFIX, _PRESENT_SUFFIX) or not _CHANGE.match(stem):
        return False
    return stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)


def _change_of(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]


def _suffix(text: str | None) -> str:
    return _ABSENT_SUFFIX if text is None else _PRESENT_SUFFIX
