# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running server said of itself, as far as it holds for what is planned, and the GPUs that it does not use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._admission import WITHOUT_VULKAN
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._taken import (
    VULKAN,
    NamedGpu,
    dropped_words,
    is_taken,
    library_of,
    uncounted,
    why_not,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    ServerLog,
    server_log_from_dict,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import as_printed

# What changes which GPUs Ollama takes, besides the variables that show and hide them.
_DECIDING = ("OLLAMA_LLM_LIBRARY", "OLLAMA_IGPU_ENABLE", "OLLAMA_VULKAN", "HSA_OVERRIDE_GFX_VERSION")
# Of these Ollama prints a default where nothing sets them.
_PRINTED_ANYWAY = frozenset(("OLLAMA_VULKAN",))
_LEAVING = {VULKAN: WITHOUT_VULKAN}


@dataclass(frozen=True)
class Said:
    """What the server said; without a log it has said nothing.

    `at_least`: lines are missing, so that every count is the least that it can be.
    """

    log: ServerLog = field(default_factory=ServerLog)
    at_least: bool = False

    def takes(self, gpu: GpuDevice) -> bool | None:
        """Whether the server took the GPU when it was started; None where that is not known."""
        return is_taken(self.log, _named(gpu))

    def library(self, gpu: GpuDevice) -> str:
        """By which library the server computes on the GPU; empty where that is not known."""
        return library_of(self.log, _named(gpu))


@dataclass(frozen=True)
class DroppedGpu:
    """A GPU of the host that the running server does not use; `reason` is its own, `message` a clause with it."""

    index: int
    uuid: str
    name: str
    reason: str
    message: str


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


def dropped_of(said: Said, gpus: Sequence[GpuDevice]) -> tuple[DroppedGpu, ...]:
    """The GPUs that the server, as far as is known, does not take."""
    dropped = []
    for gpu in gpus:
        if said.takes(gpu) is False:
            named = _named(gpu)
            reason = why_not(said.log, named)
            dropped.append(DroppedGpu(gpu.index, gpu.uuid, gpu.name, reason, dropped_words(named, reason)))
    return tuple(dropped)


def uncounted_words(said: Said, gpus: Sequence[GpuDevice]) -> list[str]:
    """One clause for each device that the server computes on and that is none of the GPUs of the host."""
    return [
        f"Ollama also computes on {device.description or device.name} by {device.library}, of which no free memory is known, "
        f"and may put models there: {_LEAVING.get(device.library, 'hide it from the service')} has it left"
        for device in uncounted(said.log, map(_named, gpus))
    ]


def _named(gpu: GpuDevice) -> NamedGpu:
    return NamedGpu(gpu.uuid, gpu.name, gpu.pci_bus_id)


def _is_kept(name: str, then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether a variable will be what it was when the server was started."""
    before = then.get(name, "")
    if name not in now:
        return name in _PRINTED_ANYWAY or not before
    return before == as_printed(name, now[name])
