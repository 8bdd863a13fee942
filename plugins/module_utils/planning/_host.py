# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host a plan is made for: the GPUs that Ollama will use, as facts or a description of a host tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._admission import (
    VULKAN,
    Admission,
    admission,
    counted_free_bytes,
    counted_note,
    is_integrated,
    unmeasured_note,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import (
    MAX_DEVICES,
    GpuDevice,
    HostGpus,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import (
    VENDORS,
    vendor_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._visibility import (
    hiding,
    restricting,
    visible,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import (
    DroppedGpu,
    Said,
    dropped_of,
    uncounted_words,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import VersionRules

# Of so many descriptions the GPUs to be planned are chosen; more are no host's.
_MOST_DESCRIBED = 1024
# An exbibyte; no host has as much.
_MOST_BYTES = 1 << 60


@dataclass(frozen=True)
class Host:
    """A host as Ollama will see it after a restart; sizes in bytes, GPUs in Ollama's order.

    `environment`: variables that the plan must set so that Ollama sees these GPUs and no others. `libraries`: by UUID,
    where Ollama does not use a GPU by its vendor's own library. `estimated`: why the memory on some of them is not known
    exactly. `remedies`: what would give models more of these GPUs. `dropped`: those that the running server does not take
    although it could see them.
    """

    gpus: tuple[GpuDevice, ...]
    system_memory_total_bytes: int
    system_memory_available_bytes: int
    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    libraries: Mapping[str, str] = field(default_factory=dict)
    estimated: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    dropped: tuple[DroppedGpu, ...] = ()

    def library_of(self, gpu: GpuDevice) -> str:
        """By which library Ollama computes on one of the GPUs."""
        return self.libraries.get(gpu.uuid) or vendor_of(gpu.vendor).library

    def with_memory_changed(self, by_bytes: int, position: int | None = None) -> Host:
        """The same host with so much more or less available, on every GPU and of system memory or on one GPU alone.

        Nothing has less than none available, or more than it has in all.
        """

        def changed(gpu: GpuDevice) -> GpuDevice:
            free = min(max(0, available_bytes(gpu) + by_bytes), total_bytes(gpu))
            return replace(gpu, memory_free_bytes=free, memory_ours_bytes=0)

        if position is not None:
            one = changed(self.gpus[position])
            return replace(self, gpus=(*self.gpus[:position], one, *self.gpus[position + 1 :]))
        return replace(
            self,
            gpus=tuple(map(changed, self.gpus)),
            system_memory_available_bytes=min(
                max(0, self.system_memory_available_bytes + by_bytes),
                max(self.system_memory_total_bytes, self.system_memory_available_bytes),
            ),
        )


def total_bytes(gpu: GpuDevice) -> int:
    """What the GPU has; 0 where that could not be read."""
    return gpu.memory_total_bytes or 0


def available_bytes(gpu: GpuDevice) -> int:
    """What a plan may count on: free memory and what Ollama gives back, never more than the GPU has."""
    return min(gpu.memory_available_bytes or 0, total_bytes(gpu))


def usable_bytes(gpu: GpuDevice) -> int:
    """What programs can use of a GPU in all, as CUDA tells it: all but what the driver keeps for itself.

    Source: ollama discover/llama_server.go (TotalMemory); issue 18201: 94.97 of an RTX PRO 6000's 95.59 GiB.
    """
    return max(0, total_bytes(gpu) - (gpu.memory_reserved_bytes or 0))


def host_from_facts(
    facts: Any,
    *,
    on_gpu_fault: str,
    environment: Mapping[str, str],
    managed_environment: Mapping[str, str],
    rules: VersionRules,
    said: Said | None = None,
) -> Host:
    """The host that GPU facts, or a description of GPUs in the same form with fewer keys, stand for.

    `environment` is the service's as the operator wants it, `managed_environment` what an earlier plan set, `rules` those
    of the version that is planned for, which takes some GPUs and leaves others. `said`: what the running server said of its
    GPUs, as far as it holds for what is planned; it goes before the rules.

    Raises: ValueError for malformed facts, and for a GPU with a fault where the policy is to fail.
    """
    told = _completed(facts)
    described, host = "visible_devices" not in told, HostGpus.from_dict(told)
    # What an earlier plan hid is looked at again; what the operator hides stays hidden.
    ours = any(name in managed_environment and name not in environment for vendor in VENDORS for name in vendor.shown_by)
    restriction = {} if ours else environment if described else host.visibility
    seen, seen_notes = _seen(host, restriction, described=described, everything=ours)
    said = said or Said()
    dropped = dropped_of(said, [gpu for gpu in seen if not _fault(gpu)])
    gone = {gpu.uuid for gpu in dropped}
    seen = [gpu for gpu in seen if gpu.uuid not in gone]
    answers = [
        (gpu, _as_said(said, gpu, admission(gpu, rules, environment, host.driver_version))) for gpu in seen
    ]
    in_use = [gpu for gpu, answer in answers if answer.library]
    failing = [gpu for gpu, answer in answers if answer.fails]
    left = _by_reason((gpu, answer.reason) for gpu, answer in answers if not answer.library)
    warnings = [*seen_notes, *(f"{gpu.message}; it is not planned with" for gpu in dropped)]
    warnings += [f"{gpus} {verb} not planned for: {reason}" for gpus, verb, reason in left]
    uncertain = [(gpu, answer.reason) for gpu, answer in answers if answer.library and not _fault(gpu)]
    estimated = [
        f"{gpus}: {reason}; the plan is an estimate" for gpus, _verb, reason in _by_reason(uncertain)
    ]
    estimated += [f"{one}; the plan is an estimate" for one in uncounted_words(said, host.devices)]
    if said.log.devices is None:
        estimated += [
            f"GPU {gpu.pci_bus_id} ({gpu.vendor}): {note}; the plan is an estimate"
            for gpu in host.unmeasured
            for note in [unmeasured_note(gpu, rules, environment)]
            if note
        ]
    remedies = [f"{gpus}: {reason}" for gpus, _verb, reason in left]
    healthy = [gpu for gpu in in_use if not _fault(gpu)]
    unseen = [gpu for gpu in host.devices if gpu not in seen and gpu.problems and not gpu.is_usable]
    excluded = [gpu for gpu in (*in_use, *unseen) if _fault(gpu)]
    healthy, too_many = healthy[:MAX_DEVICES], healthy[MAX_DEVICES:]
    # Which ones the host did not tell is not known, only that Ollama must not use them.
    untold = [gpu for gpu in healthy if host.devices_left_out]
    faults = [f"GPU {_label(gpu)}: {_fault(gpu)}" for gpu in excluded]
    faults += [_without_full_stop(problem) for problem in host.problems]
    if faults and on_gpu_fault == "fail":
        raise ValueError(
            f"the host's GPUs cannot be planned for: {faults[0]}; "
            "repair it, or set ollama_plan_on_gpu_fault to exclude to plan without it"
        )
    warnings += [f"left out of the plan: {fault}" for fault in faults]
    warnings += [
        f"GPU {gpu.pci_bus_id} ({gpu.vendor}) could not be measured and is not planned with: {gpu.message}"
        for gpu in host.unmeasured
    ]
    left_out = len(too_many) + host.devices_left_out
    if left_out:
        warnings.append(
            f"{left_out} GPUs are left out of the plan and hidden from Ollama: at most {MAX_DEVICES} are planned"
        )
    total = host.system_memory_total_bytes or 0
    available = host.system_memory_available_bytes
    limit = host.system_memory_limit_bytes
    counted = [
        f"{gpus}: {note}"
        for gpus, _verb, note in _by_reason((gpu, counted_note(gpu, rules, environment, available)) for gpu in healthy)
    ]
    if limit is not None and not healthy:
        warnings.append(
            f"the service may take {gib(limit)} of system memory, by MemoryMax= or MemoryHigh= of its unit: raise it to use more"
        )
    return Host(
        gpus=tuple(
            replace(
                gpu,
                integrated=is_integrated(gpu),
                memory_free_bytes=counted_free_bytes(gpu, rules, environment, available),
            )
            for gpu in healthy
        ),
        system_memory_total_bytes=total,
        system_memory_available_bytes=min(total if available is None else available, _MOST_BYTES if limit is None else limit),
        environment=_visibility(healthy, [*excluded, *too_many, *untold, *failing]),
        warnings=(*warnings, *estimated, *counted),
        libraries={gpu.uuid: answer.library for gpu, answer in answers if answer.library},
        estimated=tuple(estimated),
        remedies=(*counted, *remedies),
        dropped=dropped,
    )


def _as_said(said: Said, gpu: GpuDevice, by_rules: Admission) -> Admission:
    """A GPU that the running server took is in use, whatever the rules say of it; by Vulkan the plan stays an estimate."""
    if by_rules.library == VULKAN or by_rules.fails or not said.takes(gpu):
        return by_rules
    return Admission(vendor_of(gpu.vendor).library)


def _completed(facts: Any) -> dict[str, Any]:
    """GPU facts with what a short description leaves out: identities by position, all memory free."""
    if not isinstance(facts, Mapping):
        raise ValueError(f"GPU facts must be a mapping with a list 'devices', found {facts!r:.80}")
    devices = facts.get("devices", [])
    if not isinstance(devices, Sequence) or isinstance(devices, str):
        raise ValueError(f"GPU facts has {devices!r:.80} as 'devices', expected a list")
    completed = [_completed_device(index, device) for index, device in enumerate(devices[:_MOST_DESCRIBED])]
    untold = facts.get("devices_left_out", 0)
    if not isinstance(untold, int):
        raise ValueError(f"GPU facts has {untold!r:.80} as 'devices_left_out', expected a number of GPUs")
    untold = max(0, untold) + len(devices) - len(completed)
    for name in ("system_memory_total_bytes", "system_memory_available_bytes", "system_memory_limit_bytes"):
        _check_size("GPU facts", name, facts.get(name))
    return {"gathered_at": "", **facts, "devices": completed, "devices_left_out": untold}


def _completed_device(index: int, device: Any) -> dict[str, Any]:
    if not isinstance(device, Mapping):
        raise ValueError(f"GPU {index} must be a mapping, found {device!r:.80}")
    for name in ("memory_total_bytes", "memory_free_bytes", "memory_used_bytes", "memory_ours_bytes"):
        _check_size(f"GPU {index}", name, device.get(name))
    defaults = {
        "index": index,
        "uuid": f"GPU-{index}",
        "pci_bus_id": "",
        "vendor": "nvidia",
        "name": f"GPU {index}",
        "memory_free_bytes": device.get("memory_total_bytes"),
    }
    return {**defaults, **device}


def _check_size(what: str, name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"{what} has {value!r:.80} as '{name}', expected a size in bytes")
    if value is not None and value > _MOST_BYTES:
        raise ValueError(f"{what} has more than {_MOST_BYTES} as '{name}', expected a size in bytes")


def _seen(
    host: HostGpus, restriction: Mapping[str, str], *, described: bool, everything: bool
) -> tuple[list[GpuDevice], list[str]]:
    """The devices that Ollama sees, in its order, and what to say of it; cards cut into MIG instances are none of them.

    A host that is only described has been asked by nobody: its GPUs are seen as it names them, as far as nothing hides them.
    """
    usable = {gpu.uuid: gpu for gpu in host.devices if not gpu.mig_mode}
    if everything:
        return list(usable.values()), []
    found = visible(host.devices, restriction)
    uuids = found.uuids if described else host.visible_devices
    if described and not restricting(restriction) and not any(gpu.mig_parent_uuid for gpu in usable.values()):
        return list(usable.values()), []
    seen = [usable[uuid] for uuid in uuids if uuid in usable]
    return seen, _hidden_words(list(usable.values()), seen, restriction) or list(found.notes)


def _hidden_words(
    usable: Sequence[GpuDevice], seen: Sequence[GpuDevice], restriction: Mapping[str, str]
) -> list[str]:
    """That a service sees none of a vendor's GPUs, and which variable hides them; part of them may be what is wanted."""
    words = []
    for vendor in VENDORS:
        hidden = [gpu for gpu in usable if gpu.vendor == vendor.name]
        by = hiding(vendor, restriction)
        if by and hidden and not any(gpu.vendor == vendor.name for gpu in seen):
            [(gpus, verb, why)] = _by_reason((gpu, by) for gpu in hidden)
            words.append(f"{gpus} {verb} not seen by the service: {why} names none of them; unset it, or name them by UUID")
    return words


def _fault(gpu: GpuDevice) -> str:
    if gpu.problems:
        return _without_full_stop(gpu.problems[0])
    if gpu.memory_total_bytes is None or gpu.memory_free_bytes is None:
        return "its memory could not be read"
    return ""


def _without_full_stop(sentence: str) -> str:
    return re.sub(r"[.;\s]+$", "", sentence)


def _visibility(healthy: Sequence[GpuDevice], excluded: Sequence[GpuDevice]) -> dict[str, str]:
    """The variables that hide the excluded GPUs; an index that no GPU has hides all of a vendor."""
    return {
        vendor.hidden_by: ",".join(_named(gpu) for gpu in healthy if gpu.vendor == vendor.name) or "-1"
        for vendor in VENDORS
        if vendor.hidden_by and any(gpu.vendor == vendor.name for gpu in excluded)
    }


def _named(gpu: GpuDevice) -> str:
    """A GPU as its vendor's variable names it: an AMD card without an id of its own has its number alone."""
    return str(gpu.index) if gpu.uuid == gpu.pci_bus_id else gpu.uuid


def _by_reason(reasons: Iterable[tuple[GpuDevice, str]]) -> list[tuple[str, str, str]]:
    """The GPUs that share a reason, 'is' or 'are', and the reason; GPUs without one are left out."""
    sharing: dict[str, list[GpuDevice]] = {}
    for gpu, reason in reasons:
        if reason:
            sharing.setdefault(reason, []).append(gpu)
    return [
        (f"GPU {', '.join(map(_label, gpus))}", "is" if len(gpus) == 1 else "are", reason)
        for reason, gpus in sharing.items()
    ]


def _label(gpu: GpuDevice) -> str:
    return f"{gpu.index} ({gpu.name}, {gpu.uuid})"
