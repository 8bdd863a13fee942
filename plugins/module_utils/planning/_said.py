# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running server said of itself, as planning holds it against the host: which GPUs it took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import vendor_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    CPU,
    ServerLog,
    server_log_from_dict,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import as_printed

# What changes which GPUs Ollama takes, besides the variables that show and hide them.
_DECIDING = ("OLLAMA_LLM_LIBRARY", "OLLAMA_IGPU_ENABLE", "OLLAMA_VULKAN", "HSA_OVERRIDE_GFX_VERSION")
# Of these Ollama prints a default where nothing sets them.
_PRINTED_ANYWAY = frozenset(("OLLAMA_VULKAN",))
_PCI_ID = re.compile(
    r"(?:(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})(?:\.[0-7])?\Z", re.I
)


@dataclass(frozen=True)
class Said:
    """What the server said, and whether that holds for what is planned; without a log it has said nothing.

    `at_least`: lines are missing, so that every count is the least that it can be.
    """

    log: ServerLog = field(default_factory=ServerLog)
    at_least: bool = False

    def takes(self, gpu: GpuDevice) -> bool | None:
        """Whether the server took the GPU when it was started; None where that is not known.

        It is not where the GPU was hidden from it, or where what it said names no GPU that can be told from others.
        """
        devices = self.log.devices
        if devices is None or not self._saw(gpu):
            return None
        if any(_is_same(device.id, device.pci_id, gpu) for device in devices):
            return True
        named = [device for device in devices if device.library != CPU]
        if any(
            not place_of(device.pci_id) and not device.id.startswith(("GPU-", "MIG-")) for device in named
        ):
            return None
        return None if named and not _has_place(gpu) else False

    def why_not(self, gpu: GpuDevice) -> str:
        """What the server said of a GPU that it did not take; empty where it said nothing."""
        drops = self.log.drops
        own = [
            drop for drop in drops if gpu.name in drop or (gpu.pci_bus_id and gpu.pci_bus_id[-12:] in drop)
        ]
        return "; ".join((own or list(drops))[:2])

    def _saw(self, gpu: GpuDevice) -> bool:
        vendor = vendor_of(gpu.vendor)
        values = [self.log.settings.get(name, "") for name in (*vendor.shown_by, *vendor.counted_by)]
        return all(not value or gpu.uuid in value.split(",") for value in values)


@dataclass(frozen=True)
class DroppedGpu:
    """A GPU of the host that the running server does not use, and why."""

    index: int
    uuid: str
    name: str
    reason: str


def said_from_info(info: Any) -> Said:
    """What `ollama_host_info` returned as `server`; an empty mapping is a server that has said nothing.

    Raises: ValueError where it is of another form.
    """
    if not isinstance(info, Mapping):
        raise ValueError(f"server must be what ollama_host_info returned, a mapping, found {info!r:.80}")
    return Said(server_log_from_dict(info), bool(info.get("at_least")))


def holding_for(said: Said, version: str, environment: Mapping[str, str]) -> Said:
    """What was said, without the GPUs where another version or other settings are planned, which may take others."""
    log = said.log
    same = log.version == version and all(_is_kept(name, log.settings, environment) for name in _DECIDING)
    return said if same else replace(said, log=replace(log, devices=None))


def dropped(said: Said, gpus: Sequence[GpuDevice]) -> tuple[DroppedGpu, ...]:
    """The GPUs that the server, as far as is known, does not take."""
    return tuple(
        DroppedGpu(gpu.index, gpu.uuid, gpu.name, said.why_not(gpu))
        for gpu in gpus
        if said.takes(gpu) is False
    )


def _is_kept(name: str, then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether a variable will be what it was when the server was started."""
    before = then.get(name, "")
    if name not in now:
        return name in _PRINTED_ANYWAY or not before
    return before == as_printed(name, now[name])


def place_of(pci_id: str) -> tuple[int, int, int] | None:
    """Domain, bus and device of a PCI id in any of its spellings, such as `00000000:01:00.0` or `0000:01:00`."""
    match = _PCI_ID.match(pci_id)
    return (
        (int(match["domain"] or "0", 16), int(match["bus"], 16), int(match["device"], 16)) if match else None
    )


def _has_place(gpu: GpuDevice) -> bool:
    return place_of(gpu.pci_bus_id) is not None or gpu.uuid.startswith(("GPU-", "MIG-"))


def _is_same(device_id: str, pci_id: str, gpu: GpuDevice) -> bool:
    """Whether a device is the GPU, by UUID, else by its place; the instances of a card share its place."""
    if device_id.lower() == gpu.uuid.lower():
        return True
    place = place_of(pci_id)
    return place is not None and place == place_of(gpu.pci_bus_id)
