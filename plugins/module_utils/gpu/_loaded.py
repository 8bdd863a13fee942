# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ollama holds where no process is shown: its own account of loaded models stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner, belongs_to
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import control_group

# What a driver keeps for itself stays below this; more that no process is known to hold wants an explanation.
UNEXPLAINED_BYTES = 1 << 30
# The server is on this host: one that does not answer soon does not answer.
TIMEOUT_SECONDS = 3.0


def loaded_bytes(environment: Mapping[str, str], owner: Owner) -> int:
    """GPU memory of all models that Ollama has loaded, by its own account; 0 where nobody or another process answers.

    Source: Ollama 0.33 /api/ps: size_vram sums the buffers that were logged, so that it is a lower bound.
    """
    # Brings in an HTTP client, which hosts that show their processes need not load.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _api, _service

    url = _api.url_of_host(environment.get("OLLAMA_HOST", ""))
    holder = _service.holder_of(url)
    if holder is not None and not belongs_to(control_group(holder.pid), owner):
        return 0
    try:
        models = _api.Api(url, TIMEOUT_SECONDS).loaded()
    except (_api.ApiError, ValueError):
        return 0
    return sum(model["size_vram"] or 0 for model in models)


def unexplained_bytes(device: GpuDevice) -> int:
    """Used memory that no process in the list holds; 0 where that would say nothing."""
    if device.unified_memory or device.mig_mode or device.memory_used_bytes is None:
        return 0
    return device.memory_used_bytes - sum(process.used_bytes or 0 for process in device.processes)


def credit(
    devices: Sequence[GpuDevice], seen: Sequence[str], loaded: Callable[[], int]
) -> tuple[tuple[GpuDevice, ...], list[str]]:
    """The devices with what Ollama says it holds where no process shows it, and a note on each such GPU.

    `seen` are the UUIDs that the service sees. With several of them Ollama does not say which GPU holds what,
    so that nothing is credited then: memory that is taken for free by mistake would make a plan unsafe.
    """
    hidden = [device for device in devices if unexplained_bytes(device) > UNEXPLAINED_BYTES]
    notes = [_note(device) for device in hidden]
    ours = [device for device in hidden if device.uuid in seen and not device.memory_ours_bytes]
    held = loaded() if ours else 0
    if not held:
        return tuple(devices), notes
    if len(seen) > 1:
        return tuple(devices), [
            *notes,
            f"Ollama has {held >> 20} MiB loaded on GPUs whose processes are hidden: it counts as taken, because "
            "Ollama does not say on which; plan while nothing is loaded",
        ]
    credited = replace(ours[0], memory_ours_bytes=min(held, unexplained_bytes(ours[0])))
    note = (
        f"GPU {credited.index}: {held >> 20} MiB count as Ollama's own by its /api/ps, which is a lower bound"
    )
    return tuple(credited if device is ours[0] else device for device in devices), [*notes, note]


def _note(device: GpuDevice) -> str:
    return (
        f"GPU {device.index} has {unexplained_bytes(device) >> 20} MiB in use that no process is known to hold; "
        "those of containers may be hidden"
    )
