# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What NVML tells of a host's GPUs: one walk over it, the same for every binding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, GpuProcess
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    LIB_RM_VERSION_MISMATCH,
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    Nvml,
    NvmlError,
    RunningProcess,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import SourceFacts, SourceRefused

T = TypeVar("T")

# Source: NVML_DEVICE_ARCH_* in nvml.h, as nvidia-ml-py 13 declares it.
ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}

# No GPU has more instances. Source: NVIDIA MIG user guide, supported profiles.
MAXIMUM_MIG_INSTANCES = 7
# More than any host has; a library that claims more is not believed.
MAXIMUM_DEVICES = 256

_HOST_FAILURES = {
    DRIVER_NOT_LOADED: (
        "the NVIDIA kernel driver is not loaded; load it with 'modprobe nvidia' or finish its installation, "
        "and look at the kernel log for why"
    ),
    LIB_RM_VERSION_MISMATCH: (
        "the NVML library and the loaded NVIDIA kernel driver are of different versions, as after an upgrade "
        "of the driver; reboot the host"
    ),
    NO_PERMISSION: (
        "this user may not use the NVIDIA device files; run the module with become, or look at the "
        "permissions of /dev/nvidia*"
    ),
}


def read_through(binding: Callable[[], Nvml], system: SystemMemory) -> SourceFacts:
    """What NVML says through a binding.

    Raises: SourceUnavailable where there is no such binding, SourceRefused where NVML does not answer it.
    """
    try:
        return read_nvml(binding(), system)
    except NvmlError as error:
        raise SourceRefused(explain(error)) from None


def read_nvml(nvml: Nvml, system: SystemMemory) -> SourceFacts:
    """All GPUs and MIG instances that NVML knows; `system` stands in where a GPU has no memory of its own.

    Raises: NvmlError where the library as a whole does not answer. A GPU that fails is reported as it is.
    """
    nvml.start()
    try:
        devices: list[GpuDevice] = []
        for index in range(min(nvml.device_count(), MAXIMUM_DEVICES)):
            devices += _read_device(nvml, index, system)
        version = _known(nvml.cuda_driver_version)
        return SourceFacts(
            description=nvml.description,
            driver_version=_known(nvml.driver_version),
            nvml_version=_known(nvml.nvml_version),
            cuda_driver_version=None if version is None else cuda_version(version),
            devices=tuple(devices),
        )
    finally:
        _known(nvml.stop)


def explain(error: NvmlError) -> str:
    """Why NVML as a whole does not answer, and what to do, in one sentence."""
    return _HOST_FAILURES.get(error.code, f"NVML does not answer: {error} (nvmlReturn_t {error.code})")


def cuda_version(number: int) -> str:
    """The CUDA version that NVML gives as 1000 * major + 10 * minor."""
    return f"{number // 1000}.{number % 1000 // 10}"


def sysfs_bus_id(bus_id: str) -> str:
    """A PCI bus id as sysfs and Ollama write it ('0000:01:00.0'); NVML writes eight digits of domain."""
    found = re.fullmatch(r"([0-9a-f]+):([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", bus_id.strip().lower())
    return f"{int(found.group(1), 16):04x}:{found.group(2)}" if found else bus_id.strip().lower()


def merge_processes(lists: Iterable[Iterable[RunningProcess]]) -> tuple[GpuProcess, ...]:
    """Compute and graphics processes as one list; a process that is in both holds its memory once."""
    used: dict[int, int | None] = {}
    for process in (process for entries in lists for process in entries):
        before = used.get(process.pid)
        known = [value for value in (before, process.used_bytes) if value is not None]
        used[process.pid] = max(known) if known else None
    return tuple(GpuProcess(pid=pid, used_bytes=used[pid]) for pid in sorted(used))


class _Questions:
    """Asks one GPU, keeps each complaint once, and asks no more once the GPU is lost."""

    def __init__(self, label: str, reset: str) -> None:
        self._label = label
        self._reset = reset
        self.lost = False
        self.problems: list[str] = []

    def ask(self, topic: str, call: Callable[..., T], *arguments: Any) -> T | None:
        if self.lost:
            return None
        try:
            return call(*arguments)
        except NvmlError as error:
            self.lost = error.code == GPU_IS_LOST
            if error.code not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND):
                self.complain(self._explain(topic, error))
            return None

    def complain(self, problem: str) -> None:
        sentence = f"{self._label} {problem}"
        if sentence not in self.problems:
            self.problems.append(sentence)

    def _explain(self, topic: str, error: NvmlError) -> str:
        if error.code == GPU_IS_LOST:
            return (
                "is lost: it has fallen off the bus or does not answer its driver; look for Xid in the "
                "kernel log, then power-cycle the host"
            )
        if error.code == RESET_REQUIRED:
            return f"needs a reset; stop its users and run 'nvidia-smi -r -i {self._reset}', or reboot"
        if error.code == NO_PERMISSION and topic == "processes":
            return (
                "does not show its processes to this user, so that memory held by Ollama counts as taken; "
                "run the module with become and outside of containers"
            )
        return f"does not tell its {topic}: {error}"


def _read_device(nvml: Nvml, index: int, system: SystemMemory) -> list[GpuDevice]:
    """One GPU, followed by its MIG instances."""
    questions = _Questions(f"GPU {index}", str(index))
    handle = questions.ask("handle", nvml.device, index)
    if handle is None:
        if not questions.problems:
            questions.complain("gives no handle, so that nothing is known of it")
        return [_device(index, "", "", "", questions)]
    uuid = questions.ask("UUID", nvml.uuid, handle) or ""
    bus_id = sysfs_bus_id(questions.ask("PCI address", nvml.pci_bus_id, handle) or "")
    name = questions.ask("name", nvml.name, handle) or ""
    mig_mode = questions.ask("MIG mode", nvml.mig_mode, handle)
    architecture = questions.ask("architecture", nvml.architecture, handle)
    capability = questions.ask("compute capability", nvml.compute_capability, handle)
    shared = {
        "architecture": ARCHITECTURES.get(-1 if architecture is None else architecture),
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "ecc_enabled": questions.ask("ECC mode", nvml.ecc_enabled, handle),
    }
    processes = _processes(nvml, handle, questions)
    memory = _memory(nvml, handle, questions, system, may_be_unified=not mig_mode)
    display = questions.ask("display", nvml.display_active, handle)
    _check_health(nvml, handle, questions)
    instances = _read_instances(nvml, index, handle, questions, bus_id, uuid, shared) if mig_mode else []
    if questions.lost:
        memory = {}
    gpu = _device(
        index,
        uuid,
        bus_id,
        name,
        questions,
        processes=processes,
        mig_mode=mig_mode,
        display_attached=display,
        **memory,
        **shared,
    )
    return [gpu, *instances]


def _read_instances(
    nvml: Nvml, gpu: int, handle: Any, questions: _Questions, bus_id: str, parent: str, shared: dict[str, Any]
) -> list[GpuDevice]:
    """The MIG instances of a GPU; `index` counts within it, as NVML does."""
    limit = questions.ask("number of MIG instances", nvml.mig_instance_limit, handle)
    instances = []
    for index in range(min(limit or MAXIMUM_MIG_INSTANCES, MAXIMUM_MIG_INSTANCES)):
        try:
            instance = nvml.mig_instance(handle, index)
        except NvmlError as error:
            if error.code != NOT_FOUND:
                questions.complain(f"does not give its MIG instance {index}: {error}")
            continue
        inner = _Questions(f"MIG instance {gpu}:{index}", str(gpu))
        name = inner.ask("name", nvml.name, instance) or ""
        instances.append(
            _device(
                index,
                inner.ask("UUID", nvml.uuid, instance) or "",
                bus_id,
                name,
                inner,
                processes=_processes(nvml, instance, inner),
                mig_parent_uuid=parent,
                mig_profile=name.partition(" MIG ")[2] or None,
                **_memory(nvml, instance, inner, SystemMemory(), may_be_unified=False),
                **shared,
            )
        )
    if not instances:
        questions.complain(
            f"is in MIG mode without an instance, so that nothing can run on it; create instances or switch "
            f"the mode off with 'nvidia-smi -i {gpu} -mig 0'"
        )
    return instances


def _device(index: int, uuid: str, bus_id: str, name: str, questions: _Questions, **facts: Any) -> GpuDevice:
    return GpuDevice(
        index=index,
        uuid=uuid,
        pci_bus_id=bus_id,
        vendor="nvidia",
        name=name,
        problems=tuple(questions.problems),
        **facts,
    )


def _processes(nvml: Nvml, handle: Any, questions: _Questions) -> tuple[GpuProcess, ...]:
    calls = (nvml.compute_processes, nvml.graphics_processes)
    return merge_processes(questions.ask("processes", call, handle) or [] for call in calls)


def _memory(
    nvml: Nvml, handle: Any, questions: _Questions, system: SystemMemory, may_be_unified: bool
) -> dict[str, Any]:
    """The memory fields of a device; a GPU without memory of its own (GB10, Jetson) uses the system's.

    Source: NVML answers NOT_SUPPORTED there, and nvidia-smi 'Not Supported', as owners of GB10 report
    (XuehaiPan/nvitop #208, kubernetes-sigs/dra-driver-nvidia-gpu #1073).
    """
    complaints = len(questions.problems)
    memory = questions.ask("memory", nvml.memory, handle)
    if questions.lost or len(questions.problems) > complaints:
        return {}
    if memory is not None and memory.total_bytes:
        return {
            "memory_total_bytes": memory.total_bytes,
            "memory_free_bytes": memory.free_bytes,
            "memory_used_bytes": memory.used_bytes,
            "memory_reserved_bytes": memory.reserved_bytes,
        }
    if may_be_unified and system.total_bytes is not None:
        return unified_memory(system)
    questions.complain("does not tell its memory")
    return {}


def unified_memory(system: SystemMemory) -> dict[str, Any]:
    """The memory fields of a GPU that shares the system's memory, marked as such."""
    known = system.total_bytes is not None and system.available_bytes is not None
    return {
        "memory_total_bytes": system.total_bytes,
        "memory_free_bytes": system.available_bytes,
        "memory_used_bytes": (system.total_bytes or 0) - (system.available_bytes or 0) if known else None,
        "unified_memory": True,
        "integrated": True,
    }


def _check_health(nvml: Nvml, handle: Any, questions: _Questions) -> None:
    """Complain of memory errors that want a reset of the GPU or its replacement.

    Source: NVIDIA's guides to GPU memory error management (row remapping) and dynamic page retirement.
    """
    after = "after ECC errors"
    rows = questions.ask("remapped rows", nvml.remapped_rows, handle)
    if rows is not None and rows.failed:
        questions.complain(f"could not replace rows of its memory {after}; have the card exchanged")
    if rows is not None and rows.pending:
        questions.complain(f"waits for a reset to replace rows of its memory {after}; reset it or reboot")
    if questions.ask("retired pages", nvml.retired_pages_pending, handle):
        questions.complain(f"waits for a reboot to retire pages of its memory {after}; reboot the host")
    errors = questions.ask("ECC errors", nvml.uncorrected_ecc_errors, handle)
    if errors:
        questions.complain(f"has {errors} uncorrected ECC errors since its driver was loaded; reset it")


def _known(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except NvmlError:
        return None
