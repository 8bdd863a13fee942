# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose GPU memory it is: command and systemd unit of a process, and whether it is of Ollama's service."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, GpuProcess
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import (
    PROC,
    read_bytes,
    read_text,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import control_groups, unit_in

_USER_MANAGER = re.compile(r"user@([0-9]+)\.service")


@dataclass(frozen=True)
class Owner:
    """The service whose memory counts as ours; `uid` is that of its user manager, None for the system's."""

    unit: str
    uid: int | None = None


def belongs_to(group: str, owner: Owner) -> bool:
    """Whether a control group lies in the owner's unit, and that unit under the owner's service manager."""
    parts = group.split("/")
    if owner.unit not in parts:
        return False
    above = parts[: parts.index(owner.unit)]
    managers = [found.group(1) for found in map(_USER_MANAGER.fullmatch, above) if found]
    return managers[-1:] == ([] if owner.uid is None else [str(owner.uid)])


def command(pid: int, proc: Path = PROC) -> str | None:
    """The program of a process, without its arguments: those may hold secrets. None where /proc hides it."""
    line = read_bytes(proc / str(pid) / "cmdline") or b""
    program = line.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
    return program or read_text(proc / str(pid) / "comm") or None


def identify(process: GpuProcess, group: str, owner: Owner, proc: Path = PROC) -> GpuProcess:
    """The process of a control group with command, systemd unit and whether it is ours, as far as /proc tells."""
    return dataclasses.replace(
        process,
        command=command(process.pid, proc),
        systemd_unit=unit_in(group),
        is_ours=belongs_to(group, owner),
    )


def attribute(devices: Iterable[GpuDevice], owner: Owner, proc: Path = PROC) -> tuple[GpuDevice, ...]:
    """The devices with their processes identified, and the memory that is ours summed up."""
    devices = tuple(devices)
    some = {process.pid: process for device in devices for process in device.processes}
    groups = control_groups(some, str(proc))
    known = {pid: identify(process, groups[pid], owner, proc) for pid, process in some.items()}
    result = []
    for device in devices:
        processes = tuple(
            dataclasses.replace(known[process.pid], used_bytes=process.used_bytes)
            for process in device.processes
        )
        ours = sum(process.used_bytes or 0 for process in processes if process.is_ours)
        result.append(dataclasses.replace(device, processes=processes, memory_ours_bytes=ours))
    return tuple(result)
