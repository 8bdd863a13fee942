# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a unit's variables are not what decides about Ollama: it runs in a container, in a snap, or by another unit or none."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _exec_start
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import UnitFile
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import (
    container_in,
    control_group,
    is_server,
    pids,
    process_command,
    process_name,
    serving_pid,
    unit_in,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import USER

# Programs that run a service's real process elsewhere: their environment is not Ollama's.
_CONTAINER_PROGRAMS = frozenset(
    (
        *("conmon", "podman", "podman-compose", "docker", "docker-compose", "containerd-shim", "nerdctl"),
        *("lxc-start", "lxc", "incus", "systemd-nspawn", "distrobox", "toolbox", "kubectl"),
    )
)
# The kernel keeps fifteen characters of a process's name.
_NAME_CHARACTERS = 15
_IN_A_LINE = re.compile(
    r"(?:^|[\s;&|({\"'/])(?P<program>docker|podman|nerdctl|docker-compose|podman-compose)\s+"
    r"(?:compose\s|container\s)?.{0,200}?\b(?:run|start|up|exec|create)\b"
)
# Source: snapd, wrappers/internal (GenerateSnapServiceFile): snap.NAME.APP.service.
_SNAP = re.compile(r"snap\.(?P<snap>[a-z0-9-]+)(?:_[a-z0-9]+)?\.")
# Source: systemd.generator(7), podman-systemd.unit(5).
_SOURCE = re.compile(r"^SourcePath=(?P<path>/\S+)$", re.MULTILINE)
_USER_MANAGER = re.compile(r"/user@(?P<uid>[0-9]{1,10})\.service/")
# More processes of that name are no servers of a host.
_MOST_SERVERS = 64


@dataclass(frozen=True)
class ServingProcess:
    """A process that serves Ollama's API, and its control group."""

    pid: int
    group: str


def refusal(
    unit: str, main_pid: int, files: Sequence[UnitFile], texts: Mapping[str, str]
) -> str:
    """Why a unit that is there is not managed, in one sentence; empty where it is.

    `texts`: the scripts among what it starts, by path.
    """
    snap = _SNAP.match(unit)
    if snap:
        return f"{unit} is a snap's service: {_SNAPS_OWN.format(snap=snap['snap'])}"
    program = _container_program(main_pid, _exec_start.commands(files), texts)
    if not program:
        return ""
    where = f"{program}, pid {main_pid}" if main_pid else program
    source = next((match["path"] for file in files for match in [_SOURCE.search(file.text)] if match), "")
    remedy = f"set its environment in {source}" if source else "set its environment where the container is defined"
    return (
        f"{unit} runs its program in a container ({where}): its environment is the container's, which gpufleet.ollama does "
        f"not manage: {remedy}"
    )


def missing(unit: str, scope: str) -> str:
    """That there is no such unit, and where Ollama runs in its place, in one sentence."""
    there_is_none = f"there is no {unit} on this host"
    found = next(iter(_servers()), None)
    if found is None:
        return f"{there_is_none}: install Ollama with its systemd unit, or name the unit that runs it"
    named, who = unit_in(found.group), f"pid {found.pid}"
    if container_in(found.group):
        return (
            f"{there_is_none}, Ollama runs in a container ({who}, {found.group}), which gpufleet.ollama does not manage: "
            "set its environment where the container is defined"
        )
    snap = _SNAP.search(found.group)
    if snap:
        return f"{there_is_none}, Ollama runs as a snap ({who}): {_SNAPS_OWN.format(snap=snap['snap'])}"
    owner = _USER_MANAGER.search(found.group)
    if named is None or not named.endswith(".service") or named.startswith("user@"):
        return (
            f"{there_is_none}, and Ollama runs by no service ({who}, {found.group or 'started by hand'}), so that nothing "
            "keeps its environment: end it, and install Ollama with its systemd unit"
        )
    if owner and scope != USER:
        return (
            f"{there_is_none}, Ollama runs as {named} of the user {owner['uid']} ({who}): set ollama_override_scope to user, "
            "and become that user"
        )
    if not owner and scope == USER:
        return (
            f"this user has no {unit}, Ollama runs as {named} of the system ({who}): set ollama_override_scope to system"
        )
    return f"{there_is_none}, Ollama runs as {named} ({who}): name that in ollama_override_unit"


# Source: snapcraft's ollama (snap/local/snap_launcher.sh): it sets host, models and context length itself, by snapctl.
_SNAPS_OWN = (
    "a snap has settings of its own (snap get {snap}), which its launcher puts before those of systemd, so gpufleet.ollama does "
    "not manage it: set them there, or install Ollama with its systemd unit in its place"
)


def _container_program(
    main_pid: int, started: Sequence[_exec_start.Command], texts: Mapping[str, str]
) -> str:
    """The program by which a unit runs its own in a container; empty where it does not."""
    if main_pid:
        name = process_name(main_pid)
        if name in {one[:_NAME_CHARACTERS] for one in _CONTAINER_PROGRAMS}:
            return name
        if is_server(process_command(serving_pid(main_pid))):
            return ""
    for command in started:
        program = _exec_start.program_of(command)
        if posixpath.basename(program) in _CONTAINER_PROGRAMS:
            return posixpath.basename(program)
        for line in _exec_start.lines_of(command, texts):
            match = None if line.lstrip().startswith("#") else _IN_A_LINE.search(line)
            if match:
                return match["program"]
    return ""


def _servers() -> Iterable[ServingProcess]:
    """The processes of this host that serve Ollama's API."""
    found = 0
    for pid in pids():
        if "ollama" in process_name(pid) and is_server(process_command(pid)):
            found += 1
            yield ServingProcess(pid, control_group(pid))
            if found >= _MOST_SERVERS:
                return
