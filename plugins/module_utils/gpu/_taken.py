# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server took a GPU when it was started, by its own list of devices; and what it said where it did not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import VENDORS
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    CPU,
    ComputeDevice,
    ServerLog,
)

# As the drift of a host names it.
GPU_DROPPED = "gpu dropped"
_SHOWING = tuple(name for vendor in VENDORS for name in (*vendor.shown_by, *vendor.counted_by))
_PCI_ID = re.compile(
    r"(?:(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})(?:\.[0-7])?\Z",
    re.IGNORECASE,
)
_IDS = ("GPU-", "MIG-")
VULKAN = "Vulkan"
_INTEL = "Intel"
# The domain has four digits or eight.
_END_OF_A_PCI_ID = len("0000:01:00.0")
_MOST_REASONS = 2


@dataclass(frozen=True)
class NamedGpu:
    """A GPU by what is the same wherever it is named."""

    uuid: str
    name: str
    pci_bus_id: str

    @property
    def is_told_from_others(self) -> bool:
        return place_of(self.pci_bus_id) is not None or self.uuid.startswith(_IDS)


def named_gpus(described: Iterable[Mapping[str, Any]]) -> list[NamedGpu]:
    """The GPUs of a plan."""
    return [
        NamedGpu(*(str(one.get(key) or "") for key in ("uuid", "name", "pci_bus_id"))) for one in described
    ]


def is_taken(log: ServerLog, gpu: NamedGpu) -> bool | None:
    """Whether the server took the GPU; None where that is not known.

    It is not where the GPU may have been hidden from the server, and where what it said cannot be told from other GPUs.
    """
    if log.devices is None:
        return None
    shown = [log.settings.get(name, "") for name in _SHOWING]
    if any(value and gpu.uuid not in value.split(",") for value in shown):
        return None
    if any(_is_same(device.id, device.pci_id, gpu) for device in log.devices):
        return True
    named = [device for device in log.devices if device.library != CPU]
    if any(place_of(device.pci_id) is None and not device.id.startswith(_IDS) for device in named):
        return None
    return None if named and not gpu.is_told_from_others else False


def uncounted(log: ServerLog, gpus: Iterable[NamedGpu]) -> list[ComputeDevice]:
    """The devices on which the server computes that are surely none of these GPUs.

    Vulkan names an Intel GPU so, and it may have no place; of those no plan knows the memory.
    """
    known = list(gpus)
    others = []
    for device in log.devices or ():
        if device.library == CPU or any(_is_same(device.id, device.pci_id, gpu) for gpu in known):
            continue
        is_placed = place_of(device.pci_id) is not None and all(place_of(gpu.pci_bus_id) for gpu in known)
        is_named = device.library == VULKAN and _INTEL in device.description
        others += [device] if is_placed or is_named else []
    return others


def why_not(log: ServerLog, gpu: NamedGpu) -> str:
    """What the server said about a GPU that it did not take; empty where it said nothing."""
    place = gpu.pci_bus_id[-_END_OF_A_PCI_ID:].lower()
    own = [drop for drop in log.drops if gpu.name in drop or (place and place in drop.lower())]
    return "; ".join((own or list(log.drops))[:_MOST_REASONS])


def dropped_words(gpu: NamedGpu, reason: str) -> str:
    """That the running server does not use a GPU, in a clause."""
    why = (
        f": it says: {reason}"
        if reason
        else " and does not say why: look at the driver, and whether it answers nvidia-smi"
    )
    return f"GPU {gpu.name} ({gpu.uuid}) is not used by the Ollama that runs{why}"


def place_of(pci_id: str) -> tuple[int, int, int] | None:
    """Domain, bus and device of a PCI id in any of its spellings, such as `00000000:01:00.0` or `0000:01:00`."""
    match = _PCI_ID.match(pci_id)
    return (
        (int(match["domain"] or "0", 16), int(match["bus"], 16), int(match["device"], 16)) if match else None
    )


def _is_same(device_id: str, pci_id: str, gpu: NamedGpu) -> bool:
    """Whether a device is the GPU, by UUID, else by its place; the instances of a card share its place."""
    if device_id.lower() == gpu.uuid.lower():
        return True
    place = place_of(pci_id)
    return place is not None and place == place_of(gpu.pci_bus_id)
