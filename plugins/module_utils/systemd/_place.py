# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where our drop-in of a unit lies, what stands there, and what is remembered of its last change. `_dropin` changes it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import re
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _former
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._former import Former
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import secret_file
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import (
    MARKER,
    joined,
    refers_to_secret_file,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    UnitNameError,
    check_unit,
    read_text,
)

# The rollout of a benchmark, whose drop-in lies beside ours for a while, and the name that it has had always.
BENCHMARK = "benchmark"
BENCHMARK_DROPIN = "zzz-gpufleet-benchmark.conf"
DROPIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@+-]*\.conf\Z")


class DropinError(Exception):
    """The drop-in was not changed; the sentence names the file, the reason and what to do."""


@dataclass(frozen=True)
class Place:
    """Where a unit's drop-in lies and where its former versions are kept."""

    unit: str
    scope: str
    path: str
    state_directory: str

    @property
    def former_directory(self) -> str:
        return posixpath.join(self.state_directory, "former", posixpath.basename(self.path))

    @property
    def withdrawn_directory(self) -> str:
        return posixpath.join(self.state_directory, "withdrawn", posixpath.basename(self.path))

    @property
    def record_path(self) -> str:
        return posixpath.join(self.state_directory, "written", f"{posixpath.basename(self.path)}.json")

    def named(self, name: str) -> Place:
        """The place of a drop-in of another name beside this one."""
        return replace(self, path=posixpath.join(posixpath.dirname(self.path), name))


@dataclass(frozen=True)
class Record:
    """What is remembered of the last change of a drop-in: its name, empty for one that brought a former version back.

    `digests`: of what stood there before it and since. `proven`: whether the service was seen healthy on it.
    """

    change: str
    digests: tuple[str, ...]
    proven: bool


def check_names(unit: str, name: str) -> None:
    """Refuses names that are no file names of systemd.

    Raises: DropinError when a name is not a service's or not a drop-in's.
    """
    try:
        check_unit(unit)
    except UnitNameError as error:
        raise DropinError(str(error)) from error
    if not DROPIN_NAME.match(name):
        raise DropinError(f"{name!r} is not a drop-in's file name: write it like zz-gpufleet.conf")


def place(unit: str, scope: str, name: str, base_directory: str, state_directory: str) -> Place:
    """Where the drop-in `name` of a unit lies.

    Raises: DropinError when a name is not a service's or not a drop-in's.
    """
    check_names(unit, name)
    return Place(unit, scope, posixpath.join(base_directory, f"{unit}.d", name), state_directory)


def current(where: Place) -> str | None:
    """The text of our drop-in and of its environment file; None when there is none.

    Raises: DropinError when a file is not ours or cannot be read.
    """
    _read_ours(secret_file(where.path))
    text = _read_ours(where.path)
    try:
        return None if text is None else with_secret_file(where.path, text)
    except (OSError, ValueError) as error:
        raise DropinError(f"{secret_file(where.path)} cannot be read: {reason_of(error)}") from error


def _read_ours(path: str) -> str | None:
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DropinError(f"{path} cannot be read: {reason_of(error)}") from error
    if not is_ours(text):
        raise DropinError(
            f"{path} was not written by gpufleet.ollama and is left alone: "
            "move it away, or choose another name for our drop-in"
        )
    return text


def with_secret_file(path: str, dropin: str) -> str:
    """The text of our drop-in as it lies at `path`, with that of its environment file, if it names one.

    Raises: OSError when the environment file cannot be read; one that is missing is as good as none;
    ValueError when it is too large.
    """
    if not refers_to_secret_file(dropin, path):
        return dropin
    with contextlib.suppress(FileNotFoundError):
        return joined(dropin, read_text(secret_file(path)))
    return dropin


def is_exposed(where: Place) -> bool:
    """Whether others than its owner can read the environment file of our drop-in."""
    with contextlib.suppress(OSError):
        return bool(os.lstat(secret_file(where.path)).st_mode & 0o077)
    return False


def is_ours(text: str) -> bool:
    """Whether this collection wrote a drop-in."""
    return MARKER in text.split("\n")


def is_former_name(where: Place, path: str, text: str) -> bool:
    """Whether a file of the unit is a drop-in of ours under another name than now, which the next change removes."""
    name = posixpath.basename(path)
    return (
        path != where.path
        and posixpath.dirname(path) == posixpath.dirname(where.path)
        and bool(DROPIN_NAME.match(name))
        and is_ours(text)
        and not is_benchmarks(where.named(name))
        and not is_benchmarks(where)
    )


def is_benchmarks(where: Place) -> bool:
    """Whether a drop-in is one that a benchmark puts beside ours for a while."""
    made_by = set()
    with contextlib.suppress(PermissionError):  # without root, the name alone tells
        for folder in (where.former_directory, where.withdrawn_directory):
            made_by |= {_former.rollout_of(change) for change in _former.changes(folder)}
    return posixpath.basename(where.path) == BENCHMARK_DROPIN or BENCHMARK in made_by


def listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def newest_former(where: Place) -> Former | None:
    """The version that stood before the present one; None when none is known."""
    return _former.newest(where.former_directory)


def read_record(where: Place) -> Record | None:
    """What is remembered of the last change of a drop-in; None where nothing is, or it may not be read."""
    try:
        found = json.loads(read_text(where.record_path))
        digests = tuple(str(digest) for digest in found["digests"])
        return Record(str(found["change"]), digests, found["proven"] is True)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def is_edited(where: Place, text: str | None) -> bool | None:
    """Whether the drop-in is another one than this collection has put there; None where that is not known."""
    record = read_record(where)
    return None if record is None else digest_of(text) not in record.digests


def unproven_change(where: Place) -> str:
    """The last change, if no run has seen the service healthy on it; else empty."""
    record = read_record(where)
    known = _former.changes(where.former_directory)
    return record.change if record and not record.proven and record.change in known[-1:] else ""


def is_unproven(where: Place) -> bool:
    """Whether no run has seen the service healthy on the drop-in since it was written or brought back."""
    record = read_record(where)
    return record is not None and not record.proven and record.change in ("", unproven_change(where))


def digest_of(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def reason_of(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
