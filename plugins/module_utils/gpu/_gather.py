# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All sources of GPU facts, in their order, as one answer about the host."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import (
    _amdgpu,
    _deadline,
    _nvidia_smi,
    _nvml,
    _pci,
    _tegra,
    _visibility,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, HostGpus, Source
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._files import (
    PROC,
    SYS,
    SystemMemory,
    system_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._loaded import credit, loaded_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    BindingUnavailable,
    Nvml,
    NvmlError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_ctypes import CtypesNvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_pynvml import PynvmlNvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._process import Owner, attribute

PYNVML, CTYPES, NVIDIA_SMI, AMDGPU = "pynvml", "ctypes", "nvidia-smi", "amdgpu"
SOURCES = (PYNVML, CTYPES, NVIDIA_SMI, AMDGPU)
_NVIDIA_SOURCES = (PYNVML, CTYPES, NVIDIA_SMI)
_NO_GPU = "no GPU was found: no source reports one, and none is on the PCI bus"


@dataclass(frozen=True)
class Request:
    """What is to be gathered: whose memory is ours, with which environment, from which sources."""

    owner: Owner
    environment: Mapping[str, str] = field(default_factory=dict)
    deadline_seconds: float = 30.0
    sources: Collection[str] = SOURCES
    notes: tuple[str, ...] = ()
    proc: Path = PROC
    sys: Path = SYS


@dataclass(frozen=True)
class _Answers:
    """What the sources of one vendor gave."""

    sources: tuple[Source, ...]
    spoke: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[GpuDevice, ...]:
        return tuple(map(GpuDevice.from_dict, self.facts.get("devices", ())))


def gather(request: Request) -> HostGpus:
    """Everything known of this host's GPUs now; a source that fails is part of the answer."""
    system = system_memory(request.proc)
    nvidia = _ask_nvidia(request, system)
    amd = _ask_amd(request, system)
    devices = nvidia.devices + amd.devices
    present = _pci.present(request.sys)
    of_chip = _tegra.unmeasured(devices, request.sys)
    unmeasured = (*_pci.unmeasured(present, {device.pci_bus_id for device in devices}), *of_chip)
    seen = _visibility.visible(devices, request.environment)
    devices, hidden = credit(devices, seen.uuids, lambda: loaded_bytes(request.environment, request.owner))
    missing = (*_missing(present, devices), *(gpu.message for gpu in of_chip))
    problems = (*nvidia.problems, *amd.problems, *missing)
    nothing_there = not devices and not problems and not any(map(_pci.is_compute, present))
    return HostGpus(
        gathered_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        source=_speaker(nvidia, amd),
        sources=nvidia.sources + amd.sources,
        driver_version=nvidia.facts.get("driver_version"),
        nvml_version=nvidia.facts.get("nvml_version"),
        cuda_driver_version=nvidia.facts.get("cuda_driver_version"),
        system_memory_total_bytes=system.total_bytes,
        system_memory_available_bytes=system.available_bytes,
        visibility=_visibility.restricting(request.environment),
        devices=devices,
        visible_devices=seen.uuids,
        unmeasured=unmeasured,
        problems=problems,
        notes=(*request.notes, *seen.notes, *hidden, *((_NO_GPU,) if nothing_there else ())),
    )


def read_by(binding: Callable[[], Nvml], system: SystemMemory, request: Request) -> dict[str, Any]:
    """What NVML says through a binding: the facts, or why it is 'unavailable', or why it is 'refused'."""
    try:
        nvml = binding()
        facts = _nvml.read_nvml(nvml, system)
    except BindingUnavailable as error:
        return {"unavailable": str(error)}
    except NvmlError as error:
        return {"refused": _nvml.explain(error)}
    return _facts(facts, nvml.description, request)


def read_by_nvidia_smi(system: SystemMemory, request: Request) -> dict[str, Any]:
    """What nvidia-smi says: the facts, or why it is 'unavailable'."""
    try:
        facts = _nvidia_smi.read_nvidia_smi(system)
    except _nvidia_smi.NvidiaSmiFailed as error:
        return {"unavailable": str(error)}
    return _facts(facts, "nvidia-smi", request)


def read_by_amdgpu(system: SystemMemory, request: Request) -> dict[str, Any]:
    """What the amdgpu driver says: the facts, or that it is 'unavailable'."""
    devices = _amdgpu.read_amdgpu(system, request.sys)
    if not devices:
        return {"unavailable": "the amdgpu driver drives no GPU here"}
    return {"description": "amdgpu in sysfs", "devices": _owned(devices, request)}


def _facts(facts: _nvml.NvmlFacts, description: str, request: Request) -> dict[str, Any]:
    return {
        "description": description,
        "driver_version": facts.driver_version,
        "nvml_version": facts.nvml_version,
        "cuda_driver_version": facts.cuda_driver_version,
        "devices": _owned(facts.devices, request),
    }


def _owned(devices: Sequence[GpuDevice], request: Request) -> list[dict[str, Any]]:
    return [device.to_dict() for device in attribute(devices, request.owner, request.proc)]


def _ask_nvidia(request: Request, system: SystemMemory) -> _Answers:
    """The first source that speaks for NVIDIA GPUs; a driver that refuses has spoken for the others too."""
    work = {
        PYNVML: lambda: read_by(PynvmlNvml, system, request),
        CTYPES: lambda: read_by(CtypesNvml, system, request),
        NVIDIA_SMI: lambda: read_by_nvidia_smi(system, request),
    }
    wanted = [name for name in _NVIDIA_SOURCES if name in request.sources]
    answers = _Answers(())
    for place, name in enumerate(wanted):
        answer, ends = _ask(name, work[name], request.deadline_seconds)
        # Where one source speaks, what went wrong with those before it is no fault of the host's GPUs.
        problems = () if answer.spoke else answers.problems + answer.problems
        answers = replace(answer, sources=answers.sources + answer.sources, problems=problems)
        if ends:
            rest = wanted[place + 1 :]
            skipped = tuple(Source(other, False, f"not asked, because {name} spoke") for other in rest)
            return replace(answers, sources=answers.sources + skipped)
    return answers


def _ask_amd(request: Request, system: SystemMemory) -> _Answers:
    if AMDGPU not in request.sources:
        return _Answers(())
    return _ask(AMDGPU, lambda: read_by_amdgpu(system, request), request.deadline_seconds)[0]


def _ask(name: str, work: Callable[[], dict[str, Any]], deadline_seconds: float) -> tuple[_Answers, bool]:
    """What one source answered, and whether the sources after it would say the same."""
    try:
        answer = _deadline.call(work, deadline_seconds)
    except _deadline.ChildFailed as error:
        sentence = f"{name} {error}"
        late = isinstance(error, _deadline.ChildLate)
        return _Answers((Source(name, False, sentence),), problems=(sentence,)), late
    if "unavailable" in answer:
        return _Answers((Source(name, False, answer["unavailable"]),)), False
    if "refused" in answer:
        return _Answers((Source(name, False, answer["refused"]),), problems=(answer["refused"],)), True
    count = len(answer["devices"])
    sentence = f"{answer['description']} reports {count} {'device' if count == 1 else 'devices'}"
    return _Answers((Source(name, True, sentence),), spoke=name, facts=answer), True


def _speaker(nvidia: _Answers, amd: _Answers) -> str | None:
    """The kind of source the facts come from: the first that has devices, else the first that spoke."""
    spoke = [answers for answers in (nvidia, amd) if answers.spoke]
    chosen = next((answers for answers in spoke if answers.devices), spoke[0] if spoke else None)
    if chosen is None:
        return None
    return "nvml" if chosen.spoke in (PYNVML, CTYPES) else chosen.spoke


def _missing(present: Sequence[_pci.PciGpu], devices: Sequence[GpuDevice]) -> list[str]:
    """GPUs that a plan should have counted on: NVIDIA's always, AMD's where no GPU is measured at all."""
    measured = {device.pci_bus_id for device in devices}
    missing = []
    for gpu in present:
        expected = gpu.vendor == "nvidia" or (gpu.vendor == "amd" and not devices)
        if expected and _pci.is_compute(gpu):
            missing += [found.message for found in _pci.unmeasured([gpu], measured)]
    # A lost GPU that gives no address is in the list of devices with its own problem.
    nameless = sum(1 for device in devices if not device.pci_bus_id)
    return missing[nameless:]
