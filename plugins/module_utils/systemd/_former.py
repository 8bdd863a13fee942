# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the versions of a drop-in that stood there before, one file for each change that replaced one.

A change is named for its moment. Its file holds what the change replaced, so the oldest file is the oldest version.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import replace_file
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import read_text

_ABSENT_SUFFIX = ".absent"
_PRESENT_SUFFIX = ".conf"


@dataclass(frozen=True)
class Former:
    """What a change replaced: C(text) None means that there was no drop-in."""

    path: str
    text: str | None

    @property
    def change(self) -> str:
        return _change_of(self.path)


def changes(directory: str) -> list[str]:
    """The names of the changes whose former version is kept, oldest first."""
    return [_change_of(name) for name in _names(directory)]


def former(directory: str, change: str) -> Former | None:
    """What a change replaced; None when it is not kept.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is too large.
    """
    for name in _names(directory):
        if _change_of(name) == change:
            path = os.path.join(directory, name)
            return Former(path, None if name.endswith(_ABSENT_SUFFIX) else read_text(path))
    return None


def newest(directory: str) -> Former | None:
    """What the last change replaced; None when none is kept.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is too large.
    """
    known = changes(directory)
    return former(directory, known[-1]) if known else None


def keep(directory: str, text: str | None, most: int) -> None:
    """Keeps a version that is about to be replaced, and no more than C(most) of them.

    Raises:
        OSError: The disk is full or read-only, ...
    """
    change = datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    replace_file(os.path.join(directory, change + _suffix(text)), text or "", 0o600)
    for name in _names(directory)[:-most]:
        os.unlink(os.path.join(directory, name))


def forget(version: Former) -> None:
    """Removes a kept version.

    Raises:
        OSError: It cannot be removed.
    """
    os.unlink(version.path)


def hand_over(mine: Former, next_change: Former) -> None:
    """Has the change that came after ours replace what ours replaced, as if ours had never been.

    Raises:
        OSError: The disk is full or read-only, ...
    """
    directory = os.path.dirname(mine.path)
    target = os.path.join(directory, next_change.change + _suffix(mine.text))
    os.replace(mine.path, target)
    if target != next_change.path:
        os.unlink(next_change.path)


def _names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith((_ABSENT_SUFFIX, _PRESENT_SUFFIX)))


def _change_of(name: str) -> str:
    return os.path.basename(name).rsplit(".", 1)[0]


def _suffix(text: str | None) -> str:
    return _ABSENT_SUFFIX if text is None else _PRESENT_SUFFIX
