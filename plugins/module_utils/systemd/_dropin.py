# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our drop-in of a unit: verified beforehand, replaced atomically, its former versions kept.

A unit has one drop-in of ours, besides that of a benchmark. One that was written under another name is removed by the
change that writes the new one, and comes back when that is taken back: a change may be about several files.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import posixpath
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _former
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    is_well_formed,
    parse_assignments,
    parse_environment_file,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    make_folder,
    remove_file,
    replace_file,
    sync_folder,
    write_file,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._former import Former
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._lock import locked
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import (
    BENCHMARK,
    DROPIN_NAME,
    DropinError,
    Place,
    Record,
    current,
    digest_of,
    is_benchmarks,
    is_exposed,
    listed,
    place,
    read_record,
    reason_of,
    unproven_change,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import secret_file
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import (
    BOUNDARY,
    MARKER,
    halves,
    parted,
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
    dropin_base_directory,
    state_directory,
    unit_state,
)

# systemd-analyze verify --recursive-errors= came with systemd 250 (its NEWS).
RECURSIVE_ERRORS_SINCE = 250
# A shorter one would hide ordinary text wherever it stands.
SHORTEST_SECRET = 4
PRESENT = "present"
RESTORED = "restored"
PROVEN = "proven"
# Of what a rollback tells, and of the rollouts that it names.
_MOST_SHOWN = 400
_MOST_ROLLOUTS = 20


@dataclass(frozen=True)
class DropinRequest:
    """What is asked of a unit's drop-in: to be `present` with the content, `absent`, or `restored`; or to be noted as `proven`.

    `taken_back`: the change that `restored` takes back, or that is proven.
    `runtime`: the drop-in lies where the next boot removes it.
    `rollout`: the one that makes the change; with `restored` the one before which to return, empty for the last one.
    `keep`: how many former versions stay. `only_foretold`: what would be done is told, and nothing is.
    """

    unit: str
    name: str
    state: str
    keep: int
    only_foretold: bool
    content: str | None = None
    taken_back: str = ""
    runtime: bool = False
    rollout: str = ""


@dataclass(frozen=True)
class FileChange:
    """One file of a change: what stands there, and what is to stand there; None for no drop-in."""

    where: Place
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Outcome:
    """What a change did, or in check mode would do.

    `change`: the change to take back if the service does not run on it, made now or by a run that ended before it had
    seen the service healthy; else empty. `superseded`: what was to be taken back is no longer what stands there, so
    that it was left alone. `told`: what became of a rollback, in one sentence. `rollouts`: those that are known.
    """

    place: Place
    changed: bool
    existed: bool
    exists: bool
    formers: int
    change: str
    unproven: bool
    rollouts: tuple[str, ...]
    complaints: tuple[str, ...]
    diff: str
    restored: bool = False
    superseded: bool = False
    told: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "changed": self.changed,
            "path": self.place.path,
            "existed": self.existed,
            "exists": self.exists,
            "formers": self.formers,
            "change": self.change,
            "restored": self.restored,
            "superseded": self.superseded,
            "unproven": self.unproven,
            "told": self.told,
            "rollouts": list(self.rollouts),
            "complaints": list(self.complaints),
        }


def change(run: Run, manager: Manager, asked: DropinRequest) -> Outcome:
    """Brings a unit's drop-in to the state that is asked for.

    Raises: DropinError, and nothing was changed; the sentence says why; LockError when another run is
    changing the unit; SystemdError when systemctl failed.
    """
    scope = manager.scope
    base = dropin_base_directory(scope, asked.runtime)
    where = place(asked.unit, scope, asked.name, base, state_directory(scope, asked.unit))
    with contextlib.nullcontext() if asked.only_foretold else locked(asked.unit, where.state_directory):
        if asked.state == PROVEN:
            return _proven(where, asked)
        before = current(where)
        if asked.state == RESTORED:
            if asked.taken_back:
                return _taken_back(run, manager, where, before, asked)
            return _returned(run, manager, where, asked)
        after = _parted(where, with_marker(asked.content or "")) if asked.state == PRESENT else None
        complaints = _complaints_about(run, manager, where, before, after)
        steps = [FileChange(where, before, after)]
        if asked.rollout != BENCHMARK:
            steps += [FileChange(old, text, None) for old, text in _under_other_names(where)]
        changed = before != after or not _secrets_as_written(where, after) or len(steps) > 1
        made = ""
        if changed and not asked.only_foretold:
            made = put(steps, asked.keep, asked.rollout)
        return _outcome(steps, changed, complaints, made or unproven_change(where))


def _proven(where: Place, asked: DropinRequest) -> Outcome:
    """Notes that the service was seen healthy on a change, unless another one came after it."""
    record = read_record(where)
    if record and record.change == asked.taken_back and not record.proven and not asked.only_foretold:
        _write_record(where, replace(record, proven=True))
    text = current(where)
    return _outcome([FileChange(where, text, text)], False, [], unproven_change(where))


def _taken_back(run: Run, manager: Manager, where: Place, before: str | None, asked: DropinRequest) -> Outcome:
    """Takes one change back, that of this run."""
    taken_back = asked.taken_back
    known = _former.changes(where.former_directory)
    if taken_back not in known[-1:]:
        # Another run has changed the drop-in since: what it wrote stays, and when that is taken back, ours is not
        # to return.
        if taken_back in known and not asked.only_foretold:
            mine = _former.former(where.former_directory, taken_back)
            if mine:
                withdraw(where, mine, known[known.index(taken_back) + 1], asked.keep)
        told = f"Another run has changed {where.path} since: what that one wrote was left in place."
        return replace(_outcome([FileChange(where, before, before)], False, []), superseded=True, told=told)
    return _restored(run, manager, where, [taken_back], asked)


def _returned(run: Run, manager: Manager, where: Place, asked: DropinRequest) -> Outcome:
    """Returns to what stood there before a rollout; where that is how it stands, or is not known, nothing is done."""
    places = _places(where)
    known = _former.in_order({c for one in places for c in _former.changes(one.former_directory)})
    gone = [
        c for one in places for c in _former.changes(one.withdrawn_directory) if _former.number_of(c)
    ]  # before changes had numbers, what was withdrawn was named for the moment of that
    latest = _former.in_order({*known, *gone})[-1:]
    wanted = asked.rollout or (_former.rollout_of(latest[0]) if latest else "")
    first = next((c for c in known if wanted in (c, _former.rollout_of(c))), None)
    if first is not None:
        return _restored(run, manager, where, known[known.index(first) :], asked)
    if not latest:
        told = f"no former drop-in of {where.unit} is known in {where.former_directory}"
    elif wanted in map(_former.rollout_of, gone):
        told = f"{_named(wanted)} was taken back before"
        older = _rollouts(where, known)
        if older and not asked.rollout:
            told += f"; to go on, name an older one as gpufleet_rollout ({', '.join(older[::-1])})"
    else:
        told = f"{_named(wanted)} has changed nothing of {where.unit} of which a former version is kept"
    before = current(where)
    told = f"{where.unit} stays as it is: {told}."
    return replace(_outcome([FileChange(where, before, before)], False, []), told=told)


def _restored(run: Run, manager: Manager, where: Place, taken: Sequence[str], asked: DropinRequest) -> Outcome:
    """Takes changes back, oldest first, each in all its files."""
    steps = []
    complaints: list[str] = []
    for one in _places(where):
        mine = [c for c in _former.changes(one.former_directory) if c in taken]
        if mine:
            before, after = current(one), _former_text(one, mine[0])
            complaints += _complaints_about(run, manager, one, before, after)
            steps.append(FileChange(one, before, after))
    if not asked.only_foretold:
        restore(steps, taken, asked.keep)
    rollout = _former.rollout_of(taken[0])
    shown = "; ".join(_summary(step) for step in steps)
    verb = "would be" if asked.only_foretold else "is"
    told = f"{where.unit} {verb} back on what it had before {_named(rollout)}: {shown}."
    return replace(_outcome(steps, True, complaints), restored=True, told=told)


def _named(rollout: str) -> str:
    return f"{'change' if _former.is_change(rollout) else 'rollout'} {rollout}"


def _summary(step: FileChange) -> str:
    """A drop-in in a few words, its secrets masked."""
    name = posixpath.basename(step.where.path)
    if step.after is None:
        return f"no {name}"
    shown = ", ".join(
        f"{key}={masked(key, value)}" for key, value in sorted(variables_of(step.after).items())
    )
    return f"{name} with {shown[:_MOST_SHOWN] or 'no variable'}"


def _former_text(where: Place, change: str) -> str | None:
    try:
        version = _former.former(where.former_directory, change)
    except (OSError, ValueError) as error:
        raise DropinError(
            f"the former drop-in {change} in {where.former_directory} cannot be read: {reason_of(error)}"
        ) from error
    # A version that was kept before there were environment files has its secrets in the drop-in itself.
    return None if version is None or version.text is None else _parted(where, version.text)


def _places(where: Place) -> list[Place]:
    """This drop-in, and those of ours that the unit had under other names and of which something is kept."""
    if is_benchmarks(where):
        return [where]
    names = {
        name
        for folder in ("former", "withdrawn")
        for name in listed(posixpath.join(where.state_directory, folder))
        if DROPIN_NAME.match(name)
    }
    others = [where.named(name) for name in sorted(names) if name != posixpath.basename(where.path)]
    return [where, *(other for other in others if not is_benchmarks(other))]


def _under_other_names(where: Place) -> list[tuple[Place, str]]:
    """Our drop-ins of this unit under other names, with their texts."""
    directory = posixpath.dirname(where.path)
    found = []
    for name in listed(directory):
        other = where.named(name)
        if other.path == where.path or not DROPIN_NAME.match(name) or is_benchmarks(other):
            continue
        try:
            text = current(other)
        except DropinError:  # somebody else's
            continue
        if text is not None:
            found.append((other, text))
    return found


def _complaints_about(
    run: Run, manager: Manager, where: Place, before: str | None, after: str | None
) -> list[str]:
    if after is None or after == before:
        return []
    if unit_state(run, manager.scope, where.unit).exists:
        return verify(run, where, after, manager.version)
    return [f"there is no {where.unit} yet, so that systemd could not verify the drop-in"]


def _outcome(
    steps: Sequence[FileChange], changed: bool, complaints: Sequence[str], change: str = ""
) -> Outcome:
    mine = steps[0]
    where = mine.where
    known = {c for one in _places(where) for c in _former.changes(one.former_directory)}
    record = read_record(where)
    return Outcome(
        place=where,
        changed=changed,
        existed=mine.before is not None,
        exists=mine.after is not None,
        formers=len(_former.changes(where.former_directory)),
        change=change,
        # A change that no run has proven is told by its name; this is a way back that was killed before its restart.
        unproven=bool(record and not record.proven and not record.change),
        rollouts=tuple(_rollouts(where, _former.in_order(known), with_gone=True)),
        complaints=tuple(complaints),
        diff="".join(difference(step.where.path, step.before, step.after) for step in steps),
    )


def _rollouts(where: Place, known: Sequence[str], *, with_gone: bool = False) -> list[str]:
    """The rollouts of changes, oldest first; `with_gone`: those that were taken back, too."""
    gone = {c for one in _places(where) for c in _former.changes(one.withdrawn_directory) if with_gone}
    numbered = {c for c in gone if _former.number_of(c)}
    names = [_former.rollout_of(c) for c in _former.in_order({*known, *numbered})]
    return list(dict.fromkeys(names))[-_MOST_ROLLOUTS:]


def _write_record(where: Place, record: Record) -> None:
    text = json.dumps({"change": record.change, "digests": record.digests, "proven": record.proven})
    try:
        make_folder(posixpath.dirname(where.record_path), 0o700)
        replace_file(where.record_path, f"{text}\n", 0o600)
    except OSError as error:
        raise DropinError(
            f"{where.record_path} cannot be written: {reason_of(error)}; nothing was changed"
        ) from error


def _parted(where: Place, text: str) -> str:
    try:
        return parted(text, where.path)
    except ValueError as error:
        raise DropinError(f"{error}; nothing was changed") from error


def _secrets_as_written(where: Place, text: str | None) -> bool:
    """Whether our environment file is there just when the drop-in needs it, and for its owner alone."""
    needed = text is not None and halves(text)[1] is not None
    return os.path.lexists(secret_file(where.path)) == needed and not is_exposed(where)


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

    `before`: what was set before; a secret with another value than that is said to have one.
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
    verified alone and `systemd-analyze verify` accepts broken ones unless it is asked for them.

    Raises: DropinError when systemd would ignore a part of the drop-in, or cannot be asked.
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


def put(steps: Sequence[FileChange], keep: int, rollout: str) -> str:
    """Makes a change, and keeps what it replaces; returns its name.

    Raises: DropinError when the disk is full or read-only, ...; the versions before are still in place.
    """
    change = _former.change_name(_next_number(steps[0].where), rollout)
    try:
        for step in steps:
            _keep(step.where, step.where.former_directory, change, step.before, keep)
        for step in steps:
            _note(step, change)
        _replace_all(steps)
    except DropinError:
        with contextlib.suppress(OSError):
            for step in steps:
                _former.forget(step.where.former_directory, change)
        raise
    return change


def restore(steps: Sequence[FileChange], taken: Sequence[str], keep: int) -> None:
    """Puts former versions back; what the changes `taken` back had written is kept aside.

    Raises: DropinError when the disk is full or read-only, ...; the versions before are still in place.
    """
    number = _next_number(steps[0].where)
    for step in steps:
        mine = [c for c in _former.changes(step.where.former_directory) if c in taken]
        for change, following in zip(mine, [*mine[1:], None]):
            wrote = step.before if following is None else _former_text(step.where, following)
            name = change if _former.number_of(change) else _former.change_name(number, "")
            _keep(step.where, step.where.withdrawn_directory, name, wrote, keep)
        _note(step, "")
    _replace_all(steps)
    with contextlib.suppress(OSError):  # they are restored again by the next, which changes nothing
        for step in steps:
            for change in taken:
                _former.forget(step.where.former_directory, change)


def _note(step: FileChange, change: str) -> None:
    _write_record(step.where, Record(change, (digest_of(step.before), digest_of(step.after)), proven=False))


def _next_number(where: Place) -> int:
    """Above the numbers of all changes that are known of the unit, whatever else lies there."""
    numbers = [
        _former.number_of(name.rpartition(".")[0])
        for folder in ("former", "withdrawn")
        for dropin in listed(posixpath.join(where.state_directory, folder))
        for name in listed(posixpath.join(where.state_directory, folder, dropin))
    ]
    return max(numbers, default=0) + 1


def withdraw(where: Place, mine: Former, next_change: str, keep: int) -> None:
    """Takes back a change that another one came after: its version is kept aside and is never restored.

    Raises: DropinError when the disk is full or read-only, ...; everything is as it was.
    """
    replaced = _former.former(where.former_directory, next_change)
    if replaced is None:
        return
    _keep(where, where.withdrawn_directory, mine.change, replaced.text, keep)
    try:
        _former.hand_over(mine, replaced)
    except OSError as error:
        raise DropinError(f"{mine.path} cannot be moved: {reason_of(error)}; nothing was changed") from error


def _keep(where: Place, directory: str, change: str, text: str | None, keep: int) -> None:
    try:
        make_folder(posixpath.dirname(directory), 0o700)
        _former.keep(directory, change, text, keep)
    except OSError as error:
        raise DropinError(
            f"{where.path} cannot be kept in {directory}: {reason_of(error)}; nothing was changed"
        ) from error


def _replace_all(steps: Sequence[FileChange]) -> None:
    """Writes what is to be there before it removes what is not, so that no setting is missing in between."""
    done: list[FileChange] = []
    for step in sorted(steps, key=lambda one: one.after is None):
        try:
            _replace(step.where.path, step.before, step.after)
        except DropinError:
            for other in done[::-1]:
                with contextlib.suppress(DropinError):
                    _replace(other.where.path, other.after, other.before)
            raise
        done.append(step)


def _replace(path: str, before: str | None, after: str | None) -> None:
    """Writes both files, or removes them. The drop-in never names an environment file that is not there."""
    secrets = None if after is None else halves(after)[1]
    directory = os.path.dirname(path)
    try:
        if after is not None:
            # Others than root read it: their systemctl cat, their drift.
            make_folder(directory, 0o755)
        if secrets is not None:
            replace_file(secret_file(path), secrets, 0o600)
        if after is None:
            remove_file(path)
        else:
            replace_file(path, halves(after)[0], 0o644)
        if secrets is None:
            remove_file(secret_file(path))
        if after is None:
            with contextlib.suppress(OSError):  # others' drop-ins keep the directory
                os.rmdir(directory)
                sync_folder(posixpath.dirname(directory))
    except OSError as error:
        _put_back_secrets(path, before)
        raise DropinError(
            f"{path} cannot be changed: {reason_of(error)}; what stood there is unchanged"
        ) from error


def _put_back_secrets(path: str, before: str | None) -> None:
    secrets = None if before is None else halves(before)[1]
    with contextlib.suppress(OSError):
        if secrets is None:
            os.unlink(secret_file(path))
        else:
            replace_file(secret_file(path), secrets, 0o600)
