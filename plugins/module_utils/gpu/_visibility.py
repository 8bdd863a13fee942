# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which GPUs a service sees, and in what order, by the variables of CUDA, ROCm and Vulkan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import VENDORS, Vendor
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._capability import capability_of

# Variables that decide what Ollama sees.
VARIABLES = (
    *(name for vendor in VENDORS for name in (*vendor.shown_by, *vendor.counted_by)),
    "OLLAMA_IGPU_ENABLE",
    "OLLAMA_VULKAN",
)


@dataclass(frozen=True)
class Visible:
    """UUIDs of the GPUs in the order the service sees them, and what is uncertain about it."""

    uuids: tuple[str, ...]
    notes: tuple[str, ...] = ()


def restricting(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that decide which GPUs are seen."""
    return {name: environment[name] for name in VARIABLES if name in environment}


def hiding(vendor: Vendor, environment: Mapping[str, str]) -> str:
    """The variables by which an environment chooses among a vendor's GPUs, with their values."""
    chosen = [f"{name}={environment[name]!r:.60}" for name in (*vendor.shown_by, *vendor.counted_by) if name in environment]
    return " and ".join(chosen)


def visible(devices: Sequence[GpuDevice], environment: Mapping[str, str]) -> Visible:
    """The usable GPUs that a service with this environment sees, vendor by vendor: NVIDIA's first, then AMD's.

    Which of them Ollama takes depends on its version: gpu/_admission.py.
    """
    by_vendor = [_seen(vendor, devices, environment) for vendor in VENDORS]
    seen = [uuid for one in by_vendor for uuid in one.uuids]
    notes = [note for one in by_vendor for note in one.notes]
    if environment.get("GGML_VK_VISIBLE_DEVICES"):
        notes.append(
            "GGML_VK_VISIBLE_DEVICES counts in Vulkan's order, which is not known here: it is taken for no "
            "restriction"
        )
    return Visible(tuple(seen), tuple(notes))


def _seen(vendor: Vendor, devices: Sequence[GpuDevice], environment: Mapping[str, str]) -> Visible:
    """A vendor's GPUs in the order of its library; that of Vulkan is not known, and they stay as measured."""
    usable = [device for device in devices if device.is_usable and device.vendor == vendor.name]
    if vendor.library == "CUDA":
        return _cuda(devices, usable, environment)
    if vendor.library == "ROCm":
        return _rocm(usable, environment)
    return Visible(tuple(device.uuid for device in usable))


def cuda_order(
    devices: Sequence[GpuDevice], environment: Mapping[str, str]
) -> tuple[list[GpuDevice], str | None]:
    """GPUs as CUDA counts them, and a note where its order is a guess.

    Source: CUDA programming guide: CUDA_DEVICE_ORDER is FASTEST_FIRST by default, a simple heuristic that is
    not published; equal GPUs keep the order of their PCI addresses.
    """
    by_address = sorted(devices, key=lambda device: device.pci_bus_id)
    if environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({device.name for device in devices}) < 2:
        return by_address, None
    fastest = sorted(by_address, key=_capability, reverse=True)
    return fastest, (
        "CUDA counts GPUs of different models fastest first, by a rule that is not published: set "
        "CUDA_DEVICE_ORDER=PCI_BUS_ID or name them by UUID where the order matters"
    )


def _is_counted(device: GpuDevice) -> bool:
    """Whether CUDA gives an index to a device: no MIG instance, and not lost."""
    whole = device.vendor == "nvidia" and device.mig_parent_uuid is None
    return whole and (device.is_usable or bool(device.mig_mode))


def _capability(device: GpuDevice) -> tuple[int, int]:
    return capability_of(device.compute_capability) or (0, 0)


def _cuda(
    all_devices: Sequence[GpuDevice], usable: Sequence[GpuDevice], environment: Mapping[str, str]
) -> Visible:
    whole, note = cuda_order([device for device in usable if device.mig_parent_uuid is None], environment)
    instances = [device for device in usable if device.mig_parent_uuid is not None]
    value = environment.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        chosen, notes = [*instances, *whole], [note] if note else []
    else:
        physical = [device for device in all_devices if _is_counted(device)]
        counted, note = cuda_order(physical, environment)
        chosen, notes = _select(value, counted, [*whole, *instances], instances)
        by_index = any(re.fullmatch(r"[0-9]+", item.strip()) for item in value.split(","))
        notes += [note] if note and by_index else []
    # Source: NVIDIA MIG user guide, CUDA device enumeration: one compute instance at most, and no whole GPU
    # beside it.
    first_instance = next((device for device in chosen if device.mig_parent_uuid), None)
    if first_instance and len(chosen) > 1:
        notes.append(
            f"CUDA shows a process one MIG instance at most: only {first_instance.uuid} is seen of "
            f"{len(chosen)} devices"
        )
    if first_instance:
        chosen = [first_instance]
    return Visible(tuple(device.uuid for device in chosen), tuple(notes))


def _select(
    value: str, counted: Sequence[GpuDevice], usable: Sequence[GpuDevice], instances: Sequence[GpuDevice]
) -> tuple[list[GpuDevice], list[str]]:
    """What CUDA_VISIBLE_DEVICES selects: up to the first entry that names nothing.

    Source: CUDA programming guide, CUDA_VISIBLE_DEVICES: devices after an invalid entry are not seen; a UUID
    may be shortened as long as it is unique.
    """
    chosen: list[GpuDevice] = []
    for item in (part.strip() for part in value.split(",")):
        found = _named(item, counted, usable, instances)
        if found is None:
            if item not in ("", "-1"):
                note = f"CUDA_VISIBLE_DEVICES names {item!r:.60}, no usable GPU here, which ends the list"
                return chosen, [note]
            return chosen, []
        if found in chosen:
            return chosen, [f"CUDA_VISIBLE_DEVICES names {item!r:.60} twice, which CUDA does not define"]
        chosen.append(found)
    return chosen, []


def _named(
    item: str, counted: Sequence[GpuDevice], usable: Sequence[GpuDevice], instances: Sequence[GpuDevice]
) -> GpuDevice | None:
    if re.fullmatch(r"[0-9]{1,4}", item):
        gpu = counted[int(item)] if int(item) < len(counted) else None
        if gpu is not None and gpu.mig_mode:
            return next((device for device in instances if device.mig_parent_uuid == gpu.uuid), None)
        return gpu if gpu in usable else None
    if not item.startswith(("GPU-", "MIG-")):
        return None
    matches = [device for device in usable if device.uuid.lower().startswith(item.lower())]
    return matches[0] if len(matches) == 1 else None


def _rocm(usable: Sequence[GpuDevice], environment: Mapping[str, str]) -> Visible:
    """AMD GPUs: ROCR_VISIBLE_DEVICES selects, then HIP_VISIBLE_DEVICES counts among those.

    Source: ROCm documentation, GPU isolation techniques.
    """
    chosen = list(usable)
    notes: list[str] = []
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"):
        if name in environment:
            chosen, unknown = _select_amd(environment[name], chosen)
            notes += [f"{name} names {item!r:.60}, which is no usable GPU here" for item in unknown]
    return Visible(tuple(device.uuid for device in chosen), tuple(notes))


def _select_amd(value: str, devices: Sequence[GpuDevice]) -> tuple[list[GpuDevice], list[str]]:
    chosen: list[GpuDevice] = []
    unknown = []
    for item in (part.strip() for part in value.split(",")):
        if re.fullmatch(r"[0-9]{1,4}", item):
            found = devices[int(item)] if int(item) < len(devices) else None
        else:
            found = next((device for device in devices if item and device.uuid.lower() == item.lower()), None)
        if found is None:
            if item not in ("", "-1"):
                unknown.append(item)
            break
        if found not in chosen:
            chosen.append(found)
    return chosen, unknown
