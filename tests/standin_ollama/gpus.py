# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The simulated machine's GPUs and what processes have announced to hold of them."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_DESCRIPTION = "/etc/simulated-nvml.json"
DEFAULT_ANNOUNCEMENTS = "/run/simulated-nvml"
SYSTEM_MEMORY_FALLBACK_BYTES = 8 << 30


@dataclass(frozen=True)
class Gpu:
    """One device as CUDA sees it: a whole GPU, or the one MIG instance that CUDA takes of it.

    place: what the simulated NVML calls it, ``0`` or ``0:1`` for MIG instance 1 of GPU 0.
    """

    index: int
    place: str
    uuid: str
    name: str
    compute_capability: str
    pci_bus_id: str
    total_bytes: int
    free_bytes: int


def description_path() -> str:
    return os.environ.get("SIMULATED_NVML", DEFAULT_DESCRIPTION)


def announcements_folder() -> Path:
    return Path(os.environ.get("SIMULATED_NVML_PROCESSES", DEFAULT_ANNOUNCEMENTS))


def announce(held: Mapping[str, int]) -> Path:
    """Say what this process holds: bytes per place. Returns the file, to be removed at exit."""
    path = announcements_folder() / str(os.getpid())
    staged = path.with_name(f".{path.name}")
    staged.write_text("".join(f"{place} {size}\n" for place, size in held.items()), encoding="ascii")
    staged.replace(path)
    return path


def _announced() -> Counter[str]:
    folder = announcements_folder()
    used: Counter[str] = Counter()
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.name.isdigit() or not os.path.exists(f"/proc/{path.name}"):
            continue
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="ascii").splitlines():
                place, size = line.split()
                used[place] += int(size)
    return used


def read() -> list[Gpu]:
    """The devices with their free memory now; none where there is no description or no working driver."""
    try:
        with open(description_path(), encoding="utf-8") as file:
            machine = json.load(file)
    except FileNotFoundError:
        return []
    if "nvmlInit" in machine.get("faults", {}):
        return []
    used = _announced()
    devices = enumerate(machine.get("devices", []))
    return [_gpu(index, device, used) for index, device in devices if "*" not in device.get("faults", {})]


def _gpu(index: int, device: Mapping[str, Any], used: Mapping[str, int]) -> Gpu:
    place, part = str(index), device
    instances = device.get("mig", {}).get("instances", []) if device.get("mig", {}).get("enabled") else []
    if instances:
        place, part = f"{index}:0", instances[0]
    total, free = _memory(part)
    return Gpu(
        index=index,
        place=place,
        uuid=str(part.get("uuid", "")),
        name=str(device.get("name", "Simulated GPU")),
        compute_capability=str(device.get("compute_capability", "8.6")),
        pci_bus_id=str(device.get("pci", {}).get("bus_id", ""))[-12:].lower(),
        total_bytes=total,
        free_bytes=max(free - used.get(place, 0), 0),
    )


def _memory(part: Mapping[str, Any]) -> tuple[int, int]:
    """Total and free bytes before announcements; a device without memory of its own has the system's."""
    memory = part.get("memory")
    if memory is None:
        return system_memory()
    total = int(memory["total_bytes"]) - int(memory.get("reserved_bytes", 0))
    others = sum(int(process.get("used_bytes") or 0) for process in part.get("processes", ()))
    return total, total - int(memory.get("used_bytes", 0)) - others


def system_memory() -> tuple[int, int]:
    """Total and available bytes of the machine."""
    values = {}
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _colon, rest = line.partition(":")
            values[name] = int(rest.split()[0]) << 10
    total = values.get("MemTotal", SYSTEM_MEMORY_FALLBACK_BYTES)
    return total, values.get("MemAvailable", total)


def visible(gpus: list[Gpu], wanted: str) -> list[Gpu]:
    """The devices CUDA_VISIBLE_DEVICES leaves, in its order; it ends at the first name that means none."""
    if not wanted:
        return gpus
    chosen: list[Gpu] = []
    for name in (part.strip() for part in wanted.split(",")):
        matches = [
            gpu
            for gpu in gpus
            if name == str(gpu.index) or (name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name))
        ]
        if not matches or matches[0] in chosen:
            break
        chosen.append(matches[0])
    return chosen
