# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: our drop-in of a unit: verified beforehand, replaced atomically, its former versions kept."""

from __future__ import annotations

import contextlib
import difflib
import os
import posixpath
import re
import tempfile
from dataclasses import dataclass
from typing import Any, Iterator, Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _former
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    replace_file,
    write_file,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._environment import (
    is_well_formed,
    parse_assignments,
    parse_environment_file,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._former import Former
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._lock import locked
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import (
    BOUNDARY,
    MARKER,
    halves,
    joined,
    parted,
    refers_to_secret_file,
    variables_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import (
    MASK,
    cut_at_secret,
    masked,
    masked_text,
    redacted,
    secret_values,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    USER,
    Completed,
    Manager,
    Run,
    UnitNameError,
    check_unit,
    dropin_base_directory,
    read_text,
    state_directory,
    unit_state,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._unit_files import secret_file

# systemd-analyze verify --recursive-errors= came with systemd 250 (its NEWS).
RECURSIVE_ERRORS_SINCE = 250
# A shorter one would hide ordinary text wherever it stands.
SHORTEST_SECRET = 4
PRESENT = "present"
RESTORED = "restored"
_DROPIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@+-]*\.conf\Z")


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


@dataclass(frozen=True)
class Outcome:
    """What a change did, or in check mode would do.

    C(change): the change that led to the drop-in as it is now; empty when none is known. C(superseded): what was
    to be taken back is no longer what stands there, so that it was left alone.
    """

    place: Place
    changed: bool
    existed: bool
    exists: bool
    formers: int
    change: str = ""
    superseded: bool = False
    complaints: tuple[str, ...] = ()
    diff: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "changed": self.changed,
            "path": self.place.path,
            "existed": self.existed,
            "exists": self.exists,
            "formers": self.formers,
            "change": self.change,
            "superseded": self.superseded,
            "complaints": list(self.complaints),
        }


def change(
    run: Run,
    manager: Manager,
    unit: str,
    name: str,
    state: str,
    content: str | None,
    keep: int,
    check_mode: bool,
    taken_back: str = "",
    runtime: bool = False,
) -> Outcome:
    """Brings a unit's drop-in to a state: C(present) with the content, C(absent), or C(restored).

    C(taken_back): the change that C(restored) takes back; empty: the last one, whoever made it.
    C(runtime): the drop-in lies where the next boot removes it.

    Raises:
        DropinError: Nothing was changed; the sentence says why.
        LockError: Another run is changing the unit.
        SystemdError: systemctl failed.
    """
    scope = manager.scope
    base = dropin_base_directory(scope, runtime)
    where = place(unit, scope, name, base, state_directory(scope, unit))
    with contextlib.nullcontext() if check_mode else locked(unit, where.state_directory):
        before = current(where)
        if state == RESTORED:
            return _restored(run, manager, where, before, taken_back, keep, check_mode)
        after = _parted(where, with_marker(content or "")) if state == PRESENT else None
        complaints = _complaints_about(run, manager, where, before, after)
        changed = before != after or not _secrets_as_written(where, after)
        if changed and not check_mode:
            put(where, before, after, keep)
        return _outcome(where, before, after, changed, complaints)


def _restored(
    run: Run,
    manager: Manager,
    where: Place,
    before: str | None,
    taken_back: str,
    keep: int,
    check_mode: bool,
) -> Outcome:
    known = _former.changes(where.former_directory)
    if not known and not taken_back:
        raise DropinError(
            f"no former drop-in of {where.unit} is known in {where.former_directory}: there is nothing to restore"
        )
    version = _former.former(where.former_directory, taken_back or known[-1])
    if version is None or version.change != known[-1]:
        # Another run has changed the drop-in since: what it wrote stays, and when that is taken back, ours is not
        # to return.
        if version is not None and not check_mode:
            withdraw(where, version, known[known.index(version.change) + 1], keep)
        return _outcome(where, before, before, False, [], superseded=True)
    complaints = _complaints_about(run, manager, where, before, version.text)
    if not check_mode:
        restore(where, before, version, keep)
    # A version that equals the present one is still used up: the next restore goes on behind it.
    return _outcome(where, before, version.text, True, complaints)


def _complaints_about(
    run: Run, manager: Manager, where: Place, before: str | None, after: str | None
) -> list[str]:
    if after is None or after == before:
        return []
    if unit_state(run, manager.scope, where.unit).exists:
        return verify(run, where, after, manager.version)
    return [f"there is no {where.unit} yet, so that systemd could not verify the drop-in"]


def _outcome(
    where: Place,
    before: str | None,
    after: str | None,
    changed: bool,
    complaints: list[str],
    superseded: bool = False,
) -> Outcome:
    known = _former.changes(where.former_directory)
    return Outcome(
        place=where,
        changed=changed,
        existed=before is not None,
        exists=after is not None,
        formers=len(known),
        change=known[-1] if known else "",
        superseded=superseded,
        complaints=tuple(complaints),
        diff=difference(where.path, before, after),
    )


def _parted(where: Place, text: str) -> str:
    try:
        return parted(text, where.path)
    except ValueError as error:
        raise DropinError(f"{error}; nothing was changed") from error


def check_names(unit: str, name: str) -> None:
    """Refuses names that are no file names of systemd.

    Raises:
        DropinError: A name is not a service's or not a drop-in's.
    """
    try:
        check_unit(unit)
    except UnitNameError as error:
        raise DropinError(str(error)) from error
    if not _DROPIN_NAME.match(name):
        raise DropinError(f"{name!r} is not a drop-in's file name: write it like zz-gpufleet.conf")


def place(unit: str, scope: str, name: str, base_directory: str, state_directory: str) -> Place:
    """Where the drop-in C(name) of a unit lies.

    Raises:
        DropinError: A name is not a service's or not a drop-in's.
    """
    check_names(unit, name)
    return Place(unit, scope, posixpath.join(base_directory, f"{unit}.d", name), state_directory)


def current(where: Place) -> str | None:
    """The text of our drop-in and of its environment file; None when there is none.

    Raises:
        DropinError: A file is not ours or cannot be read.
    """
    _read_ours(secret_file(where.path))
    text = _read_ours(where.path)
    try:
        return None if text is None else with_secret_file(where.path, text)
    except (OSError, ValueError) as error:
        raise DropinError(f"{secret_file(where.path)} cannot be read: {_reason(error)}") from error


def _read_ours(path: str) -> str | None:
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DropinError(f"{path} cannot be read: {_reason(error)}") from error
    if not is_ours(text):
        raise DropinError(
            f"{path} was not written by gpufleet.ollama and is left alone: "
            "move it away, or choose another name for our drop-in"
        )
    return text


def with_secret_file(path: str, dropin: str) -> str:
    """The text of our drop-in as it lies at C(path), with that of its environment file, if it names one.

    Raises:
        OSError: The environment file cannot be read; one that is missing is as good as none.
        ValueError: It is too large.
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


def _secrets_as_written(where: Place, text: str | None) -> bool:
    """Whether our environment file is there just when the drop-in needs it, and for its owner alone."""
    needed = text is not None and halves(text)[1] is not None
    return os.path.lexists(secret_file(where.path)) == needed and not is_exposed(where)


def is_ours(text: str) -> bool:
    """Whether this collection wrote a drop-in."""
    return MARKER in text.split("\n")


def with_marker(content: str) -> str:
    """The drop-in's text with the line by which we know it as ours."""
    lines = content.rstrip("\n").split("\n")
    return "\n".join(lines if MARKER in lines else [MARKER, *lines]) + "\n"


def difference(path: str, before: str | None, after: str | None) -> str:
    """A unified diff of the drop-in's two versions with secret values masked; empty when they are equal."""
    if before == after:
        return ""
    return "".join(
        difflib.unified_diff(
            _masked_lines(before, {}),
            _masked_lines(after, variables_of(before)),
            fromfile=path if before is not None else "/dev/null",
            tofile=path if after is not None else "/dev/null",
        )
    )


def _masked_lines(text: str | None, before: Mapping[str, str]) -> list[str]:
    """The lines of both files as they may be shown: what is not understood is cut where a secret may begin.

    C(before): what was set before; a secret with another value than that is said to have one.
    """
    if text is None:
        return []
    dropin, secret_file_text = halves(text)
    secrets = [value for value in secret_values(variables_of(text)) if len(value) >= SHORTEST_SECRET]
    lines = dropin.rstrip("\n").split("\n")
    shown = [redacted(_masked_entry(entry), secrets) for entry in _entries(lines)]
    if secret_file_text is not None:
        shown.append(BOUNDARY)
        for _line, (name, value) in parse_environment_file(secret_file_text):
            other = "  # another value than before" if before.get(name, value) != value else ""
            shown.append(f'{name}="{masked(name, value)}"{other}')
    return [f"{line}\n" for entry in shown for line in entry.split("\n")]


def _entries(lines: list[str]) -> Iterator[str]:
    """The lines, those that are continued together with what continues them, comments among them too."""
    entry: list[str] = []
    for line in lines:
        entry.append(line)
        is_comment = line.lstrip(" \t")[:1] in ("#", ";")
        if line.endswith("\\") or (is_comment and len(entry) > 1):
            continue
        yield "\n".join(entry)
        entry = []
    if entry:
        yield "\n".join(entry)


def _masked_entry(entry: str) -> str:
    key, separator, value = entry.partition("=")
    key = key.strip(" \t")
    if not separator or key in ("PassEnvironment", "EnvironmentFile"):  # names of variables, and of files
        return entry if separator else cut_at_secret(entry)
    if key != "Environment":
        return cut_at_secret(entry)
    if "\n" in entry or not is_well_formed(value):
        return f"Environment={MASK}"
    assignments = parse_assignments(value)
    if all(masked(name, text) == text for name, text in assignments):
        return entry
    return "Environment=" + " ".join(f'"{name}={masked(name, text)}"' for name, text in assignments)


def verify(run: Run, where: Place, text: str, systemd_version: int) -> list[str]:
    """Has systemd read the drop-in before it is put in place; returns what it says of the unit's other files.

    Only our drop-in is staged, in a directory searched before all others, because a drop-in cannot be
    verified alone and C(systemd-analyze verify) accepts broken ones unless it is asked for them.

    Raises:
        DropinError: systemd would ignore a part of the drop-in, or cannot be asked.
    """
    with tempfile.TemporaryDirectory(prefix="gpufleet-verify-") as staging:
        directory = os.path.join(staging, f"{where.unit}.d")
        os.mkdir(directory)
        staged = os.path.join(directory, posixpath.basename(where.path))
        write_file(staged, halves(text)[0], 0o600)
        command = ["env", f"SYSTEMD_UNIT_PATH={staging}:", "systemd-analyze"]
        command += ["--user"] if where.scope == USER else []
        command += ["verify"]
        command += ["--recursive-errors=no"] if systemd_version >= RECURSIVE_ERRORS_SINCE else []
        answer = run([*command, where.unit])
        return _complaints(where, text, staged, answer)


def _complaints(where: Place, text: str, staged: str, answer: Completed) -> list[str]:
    lines = [line for line in answer.stderr.split("\n") if line.strip()]
    secrets = secret_values(variables_of(text))
    ours = [
        redacted(masked_text(line.replace(staged, where.path)), secrets) for line in lines if staged in line
    ]
    if ours:
        raise DropinError(
            f"systemd would ignore a part of our drop-in, nothing was changed: {'; '.join(ours)}"
        )
    if answer.return_code in (126, 127):  # env(1): found but not runnable, not found
        raise DropinError("our drop-in cannot be verified without systemd-analyze: install systemd's tools")
    return [line for line in lines if "ignoring" in line.lower()]


def put(where: Place, before: str | None, after: str | None, keep: int) -> None:
    """Puts a new version (None: no drop-in) in place and keeps the one before it.

    Raises:
        DropinError: The disk is full or read-only, ...; the version before is still in place.
    """
    _keep(where, where.former_directory, before, keep)
    try:
        _replace(where.path, before, after)
    except DropinError:
        unneeded = _former.newest(where.former_directory)
        if unneeded:
            _former.forget(unneeded)
        raise


def restore(where: Place, before: str | None, former: Former, keep: int) -> None:
    """Puts a former version back; the version it replaces is kept aside and is no former version any more.

    Raises:
        DropinError: The disk is full or read-only, ...; the version before is still in place.
    """
    # A version that was kept before there were environment files has its secrets in the drop-in itself.
    after = None if former.text is None else _parted(where, former.text)
    _keep(where, where.withdrawn_directory, before, keep)
    _replace(where.path, before, after)
    _former.forget(former)


def withdraw(where: Place, mine: Former, next_change: str, keep: int) -> None:
    """Takes back a change that another one came after: its version is kept aside and is never restored.

    Raises:
        DropinError: The disk is full or read-only, ...; everything is as it was.
    """
    replaced = _former.former(where.former_directory, next_change)
    if replaced is None:
        return
    _keep(where, where.withdrawn_directory, replaced.text, keep)
    try:
        _former.hand_over(mine, replaced)
    except OSError as error:
        raise DropinError(f"{mine.path} cannot be moved: {_reason(error)}; nothing was changed") from error


def newest_former(where: Place) -> Former | None:
    """The version that stood before the present one; None when none is known."""
    return _former.newest(where.former_directory)


def _keep(where: Place, directory: str, text: str | None, keep: int) -> None:
    try:
        _former.keep(directory, text, keep)
    except OSError as error:
        raise DropinError(
            f"{where.path} cannot be kept in {directory}: {_reason(error)}; nothing was changed"
        ) from error


def _replace(path: str, before: str | None, after: str | None) -> None:
    """Writes both files, or removes them. The drop-in never names an environment file that is not there."""
    secrets = None if after is None else halves(after)[1]
    directory = os.path.dirname(path)
    try:
        if secrets is not None:
            os.makedirs(directory, mode=0o755, exist_ok=True)
            replace_file(secret_file(path), secrets, 0o600)
        _replace_dropin(path, after)
        if secrets is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(secret_file(path))
        if after is None:
            with contextlib.suppress(OSError):  # others' drop-ins keep the directory
                os.rmdir(directory)
    except OSError as error:
        _put_back_secrets(path, before)
        raise DropinError(
            f"{path} cannot be changed: {_reason(error)}; what stood there is unchanged"
        ) from error


def _replace_dropin(path: str, text: str | None) -> None:
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    else:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        replace_file(path, halves(text)[0], 0o644)


def _put_back_secrets(path: str, before: str | None) -> None:
    secrets = None if before is None else halves(before)[1]
    with contextlib.suppress(OSError):
        if secrets is None:
            os.unlink(secret_file(path))
        else:
            replace_file(secret_file(path), secrets, 0o600)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
