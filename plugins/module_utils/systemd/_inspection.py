# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that one look at a unit tells about its environment, gathered once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _exec_start
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import (
    Difference,
    added_settings,
    dropped_variables,
    file_differences,
    process_differences,
    readable_secrets,
    under_other_names,
    unit_differences,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._elsewhere import missing, refusal
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import (
    DropinError,
    Place,
    current,
    is_edited,
    is_exposed,
    is_former_name,
    is_ours,
    is_unproven,
    newest_former,
    place,
    with_secret_file,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    ENVIRONMENT_FILE,
    Conflict,
    Origin,
    UnitFile,
    Variable,
    conflicts,
    overrides,
    secret_file,
    secret_file_setting,
    unit_environment,
    variables,
    with_dropin,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import (
    Process,
    server_environment,
    tcp_sockets,
    unit_processes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import (
    MARKER,
    halves,
    parted,
    variables_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import (
    masked,
    masked_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Manager,
    Run,
    UnitState,
    dropin_base_directory,
    environment_files,
    script_texts,
    service_id,
    state_directory,
    unit_files,
    unit_state,
)

# A main process that ends while it is looked at is looked for again so often.
_LOOKS = 3
_BETWEEN_LOOKS_S = 0.2


@dataclass(frozen=True)
class Wanted:
    """The drop-in as it should be, without its secrets (None for none); its environment file; the variables of both."""

    text: str | None
    secret_file: str | None
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Inspection:
    """What one look at a unit found; `wanted` is None where nobody said what should be.

    `notes`: what nobody has to repair now. `stopped`: that somebody stopped and disabled the service, else empty.
    `file_edited`: whether our drop-in is another one than was put there; None where that is not known.
    `unproven`: whether no run has seen the service healthy on it.
    """

    manager: Manager
    state: UnitState
    place: Place
    files: tuple[UnitFile, ...]
    environment_file_paths: tuple[str, ...]
    variables: Mapping[str, Variable]
    process: Mapping[str, str] | None
    processes: tuple[Process, ...]
    wanted: Wanted | None
    conflicts: tuple[Conflict, ...]
    overrides: tuple[str, ...]
    differences: tuple[Difference, ...]
    refusals: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    stopped: str
    file_edited: bool | None
    unproven: bool
    service_id: str

    @property
    def shown(self) -> dict[str, str]:
        return dict(self.state.environment)

    @property
    def process_differs(self) -> list[str]:
        """The variables of systemd's `Environment` property that the process has otherwise or not at all."""
        if self.process is None:
            return []
        decided_elsewhere = {
            name for name, variable in self.variables.items() if variable.origin.kind == ENVIRONMENT_FILE
        }
        return sorted(
            name
            for name, value in self.shown.items()
            if name not in decided_elsewhere and self.process.get(name) != value
        )

    def to_dict(self, show_secrets: bool = False) -> dict[str, Any]:
        """Everything as plain data, secret values masked unless asked for."""
        state = self.state
        show = dict if show_secrets else masked_environment
        told = {
            "unit": state.unit,
            "scope": self.manager.scope,
            "service_id": self.service_id,
            "systemd_version": self.manager.version,
            "exists": state.exists,
            "load_state": state.load_state,
            "load_error": state.load_error,
            "active_state": state.active_state,
            "sub_state": state.sub_state,
            "result": state.result,
            "unit_file_state": state.unit_file_state,
            "need_daemon_reload": state.need_daemon_reload,
            "main_pid": state.main_pid or None,
            "started_at": state.started_at,
            "restarts": state.restarts,
            "user": state.user,
            "dropin_path": self.place.path,
            "fragment_path": state.fragment_path,
            "files": [{"path": file.path, "kind": file.kind} for file in self.files],
            "environment_files": list(self.environment_file_paths),
            "variables": {
                name: self._variable(variable, show_secrets)
                for name, variable in sorted(self.variables.items())
            },
            "environment": show(self.shown),
            "process_environment": None if self.process is None else show(dict(self.process)),
            "process_differs": self.process_differs,
            "children": [process.to_dict() for process in self.processes if process.pid != state.main_pid],
            "wanted": None if self.wanted is None else show(dict(self.wanted.environment)),
            "conflicts": [
                {"variable": c.name, "file": c.file, "line": c.line, "message": c.message}
                for c in self.conflicts
            ],
            "overrides": list(self.overrides),
            "differences": [difference.to_dict() for difference in self.differences],
            "refusals": list(self.refusals),
            "unseen": list(self.problems),
            "problems": list(self.problems),
            # What was not seen may be anything.
            "in_sync": not (self.differences or self.problems),
            "notes": list(self.notes),
            "stopped": self.stopped,
            "file_edited": self.file_edited,
            "unproven": self.unproven,
        }
        return {**told, "as_planned": as_planned(told)}

    def _variable(self, variable: Variable, show_secrets: bool) -> dict[str, Any]:
        origin = variable.origin
        # systemd has expanded the specifiers that we leave as they are written.
        expanded = "%" in origin.value and origin.kind != ENVIRONMENT_FILE
        value = self.shown.get(variable.name, origin.value) if expanded else origin.value
        return {
            "value": value if show_secrets else masked(variable.name, value),
            "file": origin.file,
            "line": origin.line,
            "kind": origin.kind,
            "overridden": [_origin(variable.name, place, show_secrets) for place in variable.overridden],
        }


def as_planned(told: Mapping[str, Any]) -> bool:
    """Whether there is nothing to apply, by what was told of an inspection."""
    return bool(told["in_sync"] and not (told["conflicts"] or told["refusals"]))


@dataclass(frozen=True)
class UnitSight:
    """What lies and runs there now; `own`: our drop-in with its environment file, `own_text` without.

    `problems`: what of it could not be seen.
    """

    manager: Manager
    where: Place
    state: UnitState
    process: dict[str, str] | None
    processes: tuple[Process, ...]
    files: tuple[UnitFile, ...]
    own_text: str
    own: str
    # What our drop-in sets is known only where all of it could be read.
    own_is_known: bool
    problems: tuple[str, ...]

    @property
    def started(self) -> list[_exec_start.Command]:
        """The commands that start the service."""
        return _exec_start.commands(self.files)

    @property
    def own_environment(self) -> dict[str, str] | None:
        """The variables that our drop-in sets; None where there is none, or where it is not known."""
        return variables_of(self.own) if self.own and self.own_is_known else None


def _origin(name: str, origin: Origin, show_secrets: bool) -> dict[str, Any]:
    return {
        "file": origin.file,
        "line": origin.line,
        "kind": origin.kind,
        "value": origin.value if show_secrets else masked(name, origin.value),
    }


def inspect(
    run: Run,
    service_manager: Manager,
    unit: str,
    dropin_name: str,
    content: str | None,
    runtime: bool = False,
    foreseen: Mapping[str, bool] | None = None,
) -> Inspection:
    """Looks at a unit once; with `content` also compares it with what our drop-in should make of it.

    See `look` and `inspection`.

    Raises: DropinError when a name is not a service's or a drop-in's; SystemdError when systemctl failed.
    """
    return inspection(look(run, service_manager, unit, dropin_name, runtime), content, foreseen)


def look(run: Run, service_manager: Manager, unit: str, dropin_name: str, runtime: bool = False) -> UnitSight:
    """Looks at a unit once.

    `runtime`: our drop-in lies where the next boot removes it.

    Raises: DropinError when a name is not a service's or a drop-in's; SystemdError when systemctl failed.
    """
    scope = service_manager.scope
    base = dropin_base_directory(scope, runtime)
    where = place(unit, scope, dropin_name, base, state_directory(scope, unit))
    problems: list[str] = []
    state, process = _state_and_process(run, scope, unit, problems)
    unread_of_the_process = len(problems)
    files = _files(state, service_manager, base, problems)
    own_text = next((file.text for file in files if file.path == where.path), "")
    own = _with_secret_file(where, own_text, problems)
    return UnitSight(
        service_manager,
        where,
        state,
        process,
        tuple(unit_processes(state.main_pid)) if state.main_pid else (),
        tuple(files),
        own_text,
        own,
        own_is_known=len(problems) == unread_of_the_process,
        problems=tuple(problems),
    )


def inspection(
    sight: UnitSight, content: str | None = None, foreseen: Mapping[str, bool] | None = None
) -> Inspection:
    """What was seen tells of the unit's environment; with `content` also compared with what our drop-in should make of it.

    `content`: the drop-in's text, an empty one for no drop-in, None to compare nothing.
    `foreseen`: where nothing is compared, the variables of which the conflicts are told that there would be, each with
    whether it would be kept secret.

    Raises: DropinError when the content cannot be a drop-in of ours.
    """
    where, state, files = sight.where, sight.state, sight.files
    problems = list(sight.problems)
    own_secrets = halves(sight.own)[1]
    wanted = None if content is None else _wanted(content, where)
    asked = _foreseen(foreseen, where) if wanted is None and foreseen is not None else wanted
    old = [file for file in files if is_former_name(where, file.path, file.text)] if asked else []
    remaining = [file for file in files if file not in old]
    planned = with_dropin(remaining, where.path, asked.text) if asked else list(files)
    environment = unit_environment(planned, where.unit)
    external = _environment_files(
        environment.environment_files, where, asked.secret_file if asked else own_secrets, problems
    )
    resolved = variables(environment, external)
    found_conflicts: tuple[Conflict, ...] = ()
    if asked:
        decided = _exec_start.decisions(sight.started, _texts(sight.started))
        found_conflicts = (
            *conflicts(environment, resolved, where.path, asked.environment, _of_other_runs(remaining, where)),
            *_exec_start.conflicts(decided, asked.environment),
        )
    # Who is to foresee what our drop-in would make of the unit counts those of ours that go with it as gone.
    on_disk = unit_environment(files if wanted else remaining, where.unit)
    if asked:
        external = _environment_files(on_disk.environment_files, where, own_secrets, problems)
    now = variables(on_disk, external)
    return Inspection(
        manager=sight.manager,
        state=state,
        place=where,
        files=files,
        environment_file_paths=tuple(path for path, _text in external),
        variables=now,
        process=sight.process,
        processes=sight.processes,
        wanted=wanted,
        conflicts=found_conflicts,
        overrides=tuple(overrides(resolved, where.path)) if wanted else (),
        differences=(
            tuple(_differences(sight, wanted, old, resolved, found_conflicts))
            if wanted and state.exists
            else ()
        ),
        refusals=tuple(_refusals(sight)),
        problems=tuple(problems),
        notes=tuple(_notes(state)),
        stopped=_stopped(state),
        file_edited=is_edited(where, sight.own or None),
        unproven=is_unproven(where),
        service_id=service_id(sight.manager.scope, state),
    )


def _differences(
    sight: UnitSight,
    wanted: Wanted,
    old: Sequence[UnitFile],
    resolved: Mapping[str, Variable],
    found_conflicts: Sequence[Conflict],
) -> list[Difference]:
    """How file, unit and process differ from the wanted drop-in; `old`: our drop-ins under former names."""
    where, state, own = sight.where, sight.state, variables_of(sight.own)
    differences: list[Difference] = []
    if sight.own_is_known:
        differences += file_differences(where.path, own, wanted.environment)
    differences += under_other_names(where.path, [file.path for file in old])
    differences += added_settings(where.path, sight.own_text)
    differences += readable_secrets(where.path, sight.own_text, exposed=is_exposed(where))
    # What an environment file sets is none of systemd's properties.
    of_unit = unit_differences(
        where.unit,
        dict(state.environment),
        variables_of(wanted.text),
        state.need_daemon_reload,
        found_conflicts,
    )
    since = "" if differences or of_unit else _started_since(state, where, sight.started)
    differences += of_unit
    if sight.process is not None:
        replaced = [variables_of(_with_secret_file(where.named(_name(file)), file.text, [])) for file in old]
        dropped = dropped_variables(
            [own, _former_environment(where), *replaced],
            wanted.environment,
            resolved,
            dict(sight.manager.environment),
        )
        differences += process_differences(
            where.unit, sight.process, wanted.environment, dropped, found_conflicts, since
        )
    return differences


def _of_other_runs(files: Sequence[UnitFile], where: Place) -> list[str]:
    """The files of drop-ins of ours that lie beside this one for a while, as a benchmark's does."""
    others = [file.path for file in files if file.path != where.path and is_ours(file.text)]
    return [path for other in others for path in (other, secret_file(other))]


def _name(file: UnitFile) -> str:
    return os.path.basename(file.path)


def _foreseen(foreseen: Mapping[str, bool], where: Place) -> Wanted:
    """A drop-in of ours that sets these variables to anything."""
    lines = [
        MARKER,
        "[Service]",
        *(f'Environment="{name}=x"' for name, secret in foreseen.items() if not secret),
    ]
    secrets = [f'{name}="x"' for name, secret in foreseen.items() if secret]
    if secrets:
        lines.append(secret_file_setting(where.path))
    text = "\n".join([*secrets, ""]) if secrets else None
    return Wanted("\n".join([*lines, ""]), text, dict.fromkeys(foreseen, "x"))


# The kernel gives files the time of its last tick (at most 1/100 s ago), which is behind the clock of processes.
_TICK_S = 0.05


def _started_since(state: UnitState, where: Place, started: Sequence[_exec_start.Command]) -> str:
    """By what the process was started, if it was since our drop-in was written; else empty."""
    written_s = 0.0
    for path in (where.path, secret_file(where.path)):
        try:
            status = os.stat(path)
            # The latter also when it was moved there.
            written_s = max(written_s, status.st_mtime, status.st_ctime)
        except FileNotFoundError:
            continue
        except OSError:
            return ""
    if not written_s or state.started_at_s is None or state.started_at_s < written_s + _TICK_S:
        return ""
    places = [f"ExecStart in {command.file}:{command.line}" for command in started[-1:]]
    return places[0] if places else "its ExecStart"


def _notes(state: UnitState) -> list[str]:
    if state.unit_file_state == "disabled" and state.active_state == "active":
        return [
            f"{state.unit} is disabled: it runs and will not start at boot; systemctl enable {state.unit} has it started"
        ]
    return []


def _stopped(state: UnitState) -> str:
    """That somebody has stopped and disabled the service, in one sentence; empty where nobody has."""
    if state.exists and state.active_state == "inactive" and state.unit_file_state == "disabled":
        return (
            f"{state.unit} is stopped and disabled, so that somebody wants it not to run: leave the host out, start it "
            "there (systemctl enable --now), or set ollama_override_start_stopped to true"
        )
    return ""


def _wanted(content: str, where: Place) -> Wanted:
    try:
        whole = parted(content, where.path)
    except ValueError as error:
        raise DropinError(str(error)) from error
    dropin, secrets = halves(whole)
    return Wanted(dropin if content.strip() else None, secrets, variables_of(whole))


def _with_secret_file(where: Place, own_text: str, problems: list[str]) -> str:
    try:
        return with_secret_file(where.path, own_text)
    except (OSError, ValueError) as error:
        problems.append(f"the secret values of our drop-in cannot be read: {error}; run as root (become)")
        return own_text


def _files(state: UnitState, service_manager: Manager, base: str, problems: list[str]) -> list[UnitFile]:
    try:
        return unit_files(state, service_manager.unit_path, base)
    except (OSError, ValueError) as error:
        problems.append(f"a file of {state.unit} cannot be read: {error}; run as root (become)")
        return []


def _environment_files(
    references: Any, where: Place, own: str | None, problems: list[str]
) -> list[tuple[str, str]]:
    try:
        return environment_files(references, where.path, own)
    except (OSError, ValueError) as error:
        problem = f"an environment file cannot be read: {error}; run as root (become)"
        problems += [] if problem in problems else [problem]
        return []


def _former_environment(where: Place) -> dict[str, str]:
    try:
        former = newest_former(where)
    except (OSError, ValueError):
        return {}
    return variables_of(former.text if former else None)


def _state_and_process(
    run: Run, scope: str, unit: str, problems: list[str]
) -> tuple[UnitState, dict[str, str] | None]:
    """The unit's state and the environment of its main process; None when there is none or it cannot be read."""
    for looks_left in reversed(range(_LOOKS)):
        state = unit_state(run, scope, unit)
        if not state.main_pid:
            break
        try:
            return state, server_environment(state.main_pid)
        except PermissionError:
            problems.append(
                f"the environment of process {state.main_pid} of {unit} may not be read: "
                "run as root (become) or as the unit's user"
            )
            break
        except OSError as error:
            # It has ended since systemd named it, as it does when another run restarts the service.
            if not looks_left:
                problems.append(f"process {state.main_pid} of {unit} cannot be read: {error.strerror}")
            else:
                time.sleep(_BETWEEN_LOOKS_S)
    return state, None


def _texts(started: Sequence[_exec_start.Command]) -> dict[str, str]:
    """The scripts by which a unit is started, and what these read in, by path."""
    texts = script_texts(_exec_start.scripts(started))
    return {**script_texts(_exec_start.sourced(started, texts), are_sourced=True), **texts}


def _refusals(sight: UnitSight) -> list[str]:
    """The reasons for which this collection does not manage the unit."""
    state, where = sight.state, sight.where
    refusals = []
    if not state.exists:
        refusals.append(missing(where.unit, where.scope))
    elif state.load_state != "loaded":
        detail = f" ({state.load_error})" if state.load_error else ""
        refusals.append(
            f"systemd does not load {state.unit}, its state is {state.load_state}{detail}: repair the unit first"
        )
    texts = _texts(sight.started)
    elsewhere = refusal(where.unit, state.main_pid, sight.files, texts) if state.exists else ""
    refusals += [elsewhere] if elsewhere else []
    try:
        current(where)
    except DropinError as error:
        refusals.append(str(error))
    return refusals


def listening(inspection: Inspection) -> list[dict[str, Any]]:
    """The TCP ports that the unit's processes listen on."""
    owners = [process.pid for process in inspection.processes]
    return [
        {"address": socket.address, "port": socket.port, "pid": socket.pid}
        for socket in tcp_sockets(owners)
        if socket.listening and socket.pid is not None
    ]
