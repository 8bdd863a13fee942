# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AMD GPUs from what the kernel's amdgpu and KFD drivers show in sysfs; nothing of ROCm is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, GpuProcess
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import (
    SYS,
    SystemMemory,
    read_bytes,
    read_int,
    read_text,
    to_int,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import (
    SourceFacts,
    SourceUnavailable,
)

AMD_VENDOR_ID = 0x1002
DEV = Path("/dev")
_DRM = "class/drm"
_KFD = "class/kfd/kfd"
# /sys/class/kfd/kfd/proc of a busy host; more are not read.
MAXIMUM_PROCESSES = 65536

# Source: kgd_pp_interface.h of Linux 6.12: gpu_metrics of format 1 are of discrete GPUs, 2 and 3 of APUs.
_APU_METRICS_FORMATS = (2, 3)


@dataclass(frozen=True)
class KfdNode:
    """A GPU in KFD's topology, in ROCm's own order; `number` counts the processors' nodes too.

    Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_topology.c, properties of a node and of its memory banks.
    """

    number: int
    gpu_id: int
    bus_id: str
    gfx_target: str | None
    unique_id: int
    cpu_cores: int
    memory_bytes: int


def read(system: SystemMemory, sys: Path) -> SourceFacts:
    """What the amdgpu driver says.

    Raises: SourceUnavailable where it drives no GPU.
    """
    devices = read_amdgpu(system, sys, DEV if sys == SYS else None)
    if not devices:
        raise SourceUnavailable(
            "the device files of the GPUs that amdgpu drives are not in /dev/dri, as in a container that was not given them"
            if _cards(sys)
            else "the amdgpu driver drives no GPU here"
        )
    return SourceFacts("amdgpu in sysfs", devices)


def read_amdgpu(system: SystemMemory, sys: Path = SYS, dev: Path | None = None) -> tuple[GpuDevice, ...]:
    """All AMD GPUs that the amdgpu driver answers for, in KFD's order, then in that of their addresses.

    `dev`: where their device files lie, by which they are used; None not to look. A container sees in sysfs all GPUs of
    its machine, and has the files of those that it was given.
    """
    nodes = {node.bus_id: node for node in (read_kfd(sys) if dev is None or (dev / "kfd").exists() else ())}
    rank = {bus_id: place for place, bus_id in enumerate(nodes)}
    there = [card for card in _cards(sys) if dev is None or _is_given(card[1], dev)]
    cards = sorted(there, key=lambda card: (rank.get(card[0], len(rank)), card[0]))
    return tuple(
        _device(index, bus_id, folder, nodes.get(bus_id), system, sys)
        for index, (bus_id, folder) in enumerate(cards)
    )


def read_kfd(sys: Path = SYS) -> list[KfdNode]:
    """The GPUs of KFD's topology in the order of their nodes; empty where KFD is not there."""
    root = sys / _KFD / "topology/nodes"
    folders = [
        path for path in (root.iterdir() if root.is_dir() else []) if whole_number(path.name) is not None
    ]
    nodes = []
    for folder in sorted(folders, key=lambda path: int(path.name)):
        gpu_id = read_int(folder / "gpu_id")
        if gpu_id:
            nodes.append(_node(gpu_id, folder))
    return nodes


def parse_properties(text: str) -> dict[str, int]:
    """The 'name number' lines of a KFD properties file; lines of any other form are left out."""
    found = {}
    for line in text.splitlines():
        name, _space, value = line.partition(" ")
        number = to_int(value.strip())
        if number is not None:
            found[name] = number
    return found


def gfx_target(version: int) -> str | None:
    """The gfx name of KFD's gfx_target_version, which is 10000 * major + 100 * minor + stepping.

    Source: Linux kfd_device.c (110000 is gfx1100, 90010 is gfx90a); the stepping is written in hexadecimal.
    """
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}" if 0 < major < 100 else None


def _node(gpu_id: int, folder: Path) -> KfdNode:
    properties = parse_properties(read_text(folder / "properties") or "")
    location = properties.get("location_id", 0)
    bus, slot = location >> 8 & 0xFF, location >> 3 & 0x1F
    banks = [
        parse_properties(read_text(path) or "") for path in sorted(folder.glob("mem_banks/*/properties"))
    ]
    return KfdNode(
        number=int(folder.name),
        gpu_id=gpu_id,
        bus_id=f"{properties.get('domain', 0):04x}:{bus:02x}:{slot:02x}.{location & 7}",
        gfx_target=gfx_target(properties.get("gfx_target_version", 0)),
        unique_id=properties.get("unique_id", 0),
        cpu_cores=properties.get("cpu_cores_count", 0),
        memory_bytes=max((bank.get("size_in_bytes", 0) for bank in banks), default=0),
    )


def _cards(sys: Path) -> list[tuple[str, Path]]:
    """PCI address and folder of each AMD card that the amdgpu driver drives."""
    root = sys / _DRM
    found = {}
    for card in sorted(root.iterdir() if root.is_dir() else []):
        folder = card / "device"
        if not re.fullmatch(r"card[0-9]+", card.name) or read_int(folder / "vendor") != AMD_VENDOR_ID:
            continue
        slot = re.search(r"^PCI_SLOT_NAME=(\S+)$", read_text(folder / "uevent") or "", re.MULTILINE)
        if slot and read_int(folder / "mem_info_vram_total") is not None:
            found[slot.group(1).lower()] = folder
    return sorted(found.items())


def _is_given(folder: Path, dev: Path) -> bool:
    """Whether the device file of a card is here; a card that has none needs none."""
    files = [path.name for path in folder.glob("drm/renderD*")]
    return not files or any((dev / "dri" / name).exists() for name in files)


def _device(
    index: int, bus_id: str, folder: Path, node: KfdNode | None, system: SystemMemory, sys: Path
) -> GpuDevice:
    shown_id = read_text(folder / "unique_id")
    unique_id = shown_id or (f"{node.unique_id:016x}" if node and node.unique_id else "")
    integrated = is_integrated(folder, node)
    problems = []
    if node is None:
        problems.append(
            f"GPU {bus_id} is not known to KFD, so that ROCm cannot use it; look for kfd in the kernel log, and for /dev/kfd"
        )
    memory = _shared_memory(folder, node, system) if integrated else _own_memory(folder)
    if memory["memory_free_bytes"] is None:
        problems.append(
            f"GPU {bus_id} does not tell how much of its memory is used, so that none counts as free; look at "
            "the kernel log and update the kernel"
        )
    device_id = read_text(folder / "device") or "unknown"
    target = node.gfx_target if node else None
    return GpuDevice(
        index=index,
        # ROCm names a GPU without an id of its own GPU-XX, which names nothing: then the address stands in.
        uuid=f"GPU-{unique_id}" if re.fullmatch(r"[0-9a-fA-F]{16}", unique_id) else bus_id,
        pci_bus_id=bus_id,
        vendor="amd",
        name=read_text(folder / "product_name") or f"AMD GPU {device_id} ({target or 'gfx unknown'})",
        gfx_target=target,
        rocm_node=node.number if node else None,
        integrated=integrated,
        unified_memory=integrated,
        display_attached=_display_attached(folder),
        problems=tuple(problems),
        processes=_processes(node, sys),
        **memory,
    )


def is_integrated(folder: Path, node: KfdNode | None) -> bool:
    """Whether a GPU is part of an APU, which takes its memory from the system's.

    Source: KFD joins older APUs with their CPU cores in one node; the format of gpu_metrics tells newer ones;
    a memory bank larger than the VRAM is the system's (ROCm/rocm-systems #8475).
    """
    metrics = read_bytes(folder / "gpu_metrics") or b""
    if len(metrics) > 2 and metrics[2] in _APU_METRICS_FORMATS:
        return True
    vram = read_int(folder / "mem_info_vram_total") or 0
    return node is not None and (node.cpu_cores > 0 or node.memory_bytes > 2 * vram)


def _own_memory(folder: Path) -> dict[str, Any]:
    total, used = read_int(folder / "mem_info_vram_total"), read_int(folder / "mem_info_vram_used")
    return {
        "memory_total_bytes": total,
        "memory_used_bytes": used,
        "memory_free_bytes": None if total is None or used is None else max(0, total - used),
    }


def _shared_memory(folder: Path, node: KfdNode | None, system: SystemMemory) -> dict[str, Any]:
    """The memory of an APU: the system memory that it may map (GTT), or its carve-out where that is larger.

    Source: ROCm reports the KFD bank, which is the GTT size on current APUs (ROCm/rocm-systems #8475).
    """
    own = _own_memory(folder)
    gtt, gtt_used = read_int(folder / "mem_info_gtt_total"), read_int(folder / "mem_info_gtt_used")
    reach = max(node.memory_bytes if node else 0, gtt or 0)
    divided = {"memory_own_bytes": own["memory_total_bytes"], "memory_shared_bytes": gtt}
    if gtt is None or reach <= (own["memory_total_bytes"] or 0):
        return {**own, **divided}
    unmapped = None if gtt_used is None else max(0, reach - gtt_used)
    known = [free for free in (unmapped, system.available_bytes) if free is not None]
    return {
        "memory_total_bytes": reach,
        "memory_used_bytes": gtt_used,
        "memory_free_bytes": min([reach, *known]) if known else None,
        **divided,
    }


def _display_attached(folder: Path) -> bool | None:
    states = [read_text(path) for path in folder.glob("drm/card*/card*-*/status")]
    return "connected" in states if states else None


def _processes(node: KfdNode | None, sys: Path) -> tuple[GpuProcess, ...]:
    """The processes that hold memory of a GPU through KFD, which is how ROCm allocates."""
    root = sys / _KFD / "proc"
    if node is None or not root.is_dir():
        return ()
    found = []
    for folder in sorted(root.iterdir(), key=lambda path: path.name)[:MAXIMUM_PROCESSES]:
        used = read_int(folder / f"vram_{node.gpu_id}")
        if whole_number(folder.name) is not None and used:
            found.append(GpuProcess(pid=int(folder.name), used_bytes=used))
    return tuple(sorted(found, key=lambda process: process.pid))
