# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose GPU memory it is: command and systemd unit of a process, and whether it is of Ollama's service."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, GpuProcess
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._files import PROC, read_bytes, read_text

_UNIT = re.compile(r".+\.(service|scope)")
_USER_MANAGER = re.compile(r"user@([0-9]+)\.service")


@dataclasses.dataclass(frozen=True)
class Owner:
    """The service whose memory counts as ours; `uid` is that of its user manager, None for the system's."""

    unit: str
    uid: int | None = None


def cgroup_path(text: str) -> str | None:
    """The path in systemd's tree, of the text of /proc/<pid>/cgroup (version 1, hybrid or 2); None without one.

    Source: systemd keeps its units in the hierarchy `name=systemd` of version 1 and hybrid, else in `0::`.
    """
    paths = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if path.startswith("/"):
            paths["2" if number == "0" and not controllers else controllers] = path
    return paths.get("name=systemd") or paths.get("2")


def systemd_unit(path: str | None) -> str | None:
    """The innermost service or scope in a cgroup's path; None where there is none."""
    units = [part for part in (path or "").split("/") if _UNIT.fullmatch(part)]
    return units[-1] if units else None


def belongs_to(path: str | None, owner: Owner) -> bool:
    """Whether a cgroup's path lies in the owner's unit, and that unit in the owner's service manager."""
    parts = (path or "").split("/")
    if owner.unit not in parts:
        return False
    above = parts[: parts.index(owner.unit)]
    managers = [found.group(1) for found in map(_USER_MANAGER.fullmatch, above) if found]
    if owner.uid is None:
        return not managers
    return managers[-1:] == [str(owner.uid)]


def command(pid: int, proc: Path = PROC) -> str | None:
    """The program of a process, without its arguments: those may hold secrets. None where /proc hides it."""
    line = read_bytes(proc / str(pid) / "cmdline") or b""
    program = line.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
    return program or read_text(proc / str(pid) / "comm") or None


def identify(process: GpuProcess, owner: Owner, proc: Path = PROC) -> GpuProcess:
    """The process with command, systemd unit and whether it is ours, as far as /proc tells."""
    path = cgroup_path(read_text(proc / str(process.pid) / "cgroup") or "")
    return dataclasses.replace(
        process,
        command=process.command or command(process.pid, proc),
        systemd_unit=systemd_unit(path),
        is_ours=belongs_to(path, owner),
    )


def attribute(devices: Iterable[GpuDevice], owner: Owner, proc: Path = PROC) -> tuple[GpuDevice, ...]:
    """The devices with their processes identified, and the memory that is ours summed up."""
    known: dict[int, GpuProcess] = {}
    result = []
    for device in devices:
        processes = []
        for process in device.processes:
            if process.pid not in known:
                known[process.pid] = identify(process, owner, proc)
            processes.append(dataclasses.replace(known[process.pid], used_bytes=process.used_bytes))
        ours = sum(process.used_bytes or 0 for process in processes if process.is_ours)
        result.append(dataclasses.replace(device, processes=tuple(processes), memory_ours_bytes=ours))
    return tuple(result)
