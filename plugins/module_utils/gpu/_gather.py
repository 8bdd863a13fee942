# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All sources of GPU facts, in their order, as one answer about the host."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import (
    _deadline,
    _pci,
    _tegra,
    _visibility,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, HostGpus, Source
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import (
    PROC,
    SYS,
    SystemMemory,
    system_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._loaded import credit, loaded_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner, attribute
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import (
    Read,
    SourceRefused,
    SourceUnavailable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import (
    SOURCES,
    VENDORS,
    Vendor,
    VendorSource,
    vendor_of,
)

_NO_GPU = "no GPU was found: no source reports one, and none is on the PCI bus"


@dataclass(frozen=True)
class Request:
    """What is to be gathered: whose memory is ours, with which environment, from which sources.

    memory_limit_bytes: of system memory for the service, None where there is none.
    """

    owner: Owner
    environment: Mapping[str, str] = field(default_factory=dict)
    deadline_seconds: float = 30.0
    sources: Collection[str] = SOURCES
    notes: tuple[str, ...] = ()
    memory_limit_bytes: int | None = None
    proc: Path = PROC
    sys: Path = SYS


@dataclass(frozen=True)
class _Answers:
    """What the sources of one vendor gave, and the kind of the one that spoke."""

    sources: tuple[Source, ...]
    kind: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[GpuDevice, ...]:
        return tuple(map(GpuDevice.from_dict, self.facts.get("devices", ())))


def gather(request: Request) -> HostGpus:
    """Everything known of this host's GPUs now; a source that fails is part of the answer."""
    system = system_memory(request.proc)
    by_vendor = {vendor.name: _ask_vendor(vendor, request, system) for vendor in VENDORS}
    answers = by_vendor.values()
    nvidia = by_vendor["nvidia"].facts
    devices = tuple(device for one in answers for device in one.devices)
    present = _pci.present(request.sys)
    of_chip = _tegra.unmeasured(devices, request.sys)
    unmeasured = (*_pci.unmeasured(present, {device.pci_bus_id for device in devices}), *of_chip)
    seen = _visibility.visible(devices, request.environment)
    devices, hidden = credit(devices, seen.uuids, lambda: loaded_bytes(request.environment, request.owner))
    missing = (*_missing(present, devices), *(gpu.message for gpu in of_chip))
    problems = (*(problem for one in answers for problem in one.problems), *missing)
    nothing_there = not devices and not problems and not any(map(_pci.is_compute, present))
    return HostGpus(
        gathered_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        source=_speaker(answers),
        sources=tuple(source for one in answers for source in one.sources),
        driver_version=nvidia.get("driver_version"),
        nvml_version=nvidia.get("nvml_version"),
        cuda_driver_version=nvidia.get("cuda_driver_version"),
        system_memory_total_bytes=system.total_bytes,
        system_memory_available_bytes=system.available_bytes,
        system_memory_limit_bytes=request.memory_limit_bytes,
        visibility=_visibility.restricting(request.environment),
        devices=devices,
        visible_devices=seen.uuids,
        unmeasured=unmeasured,
        problems=problems,
        notes=(*request.notes, *seen.notes, *hidden, *((_NO_GPU,) if nothing_there else ())),
    )


def read_by(read: Read, system: SystemMemory, request: Request) -> dict[str, Any]:
    """What a source says: the facts, or why it is 'unavailable', or why its driver 'refused'."""
    try:
        facts = read(system, request.sys)
    except SourceUnavailable as error:
        return {"unavailable": str(error)}
    except SourceRefused as error:
        return {"refused": str(error)}
    owned = attribute(facts.devices, request.owner, request.proc)
    return {**vars(facts), "devices": [device.to_dict() for device in owned]}


def _ask_vendor(vendor: Vendor, request: Request, system: SystemMemory) -> _Answers:
    """The first source that speaks for a vendor's GPUs; a driver that refuses has spoken for the others too."""
    wanted = [source for source in vendor.sources if source.name in request.sources]
    answers = _Answers(())
    for place, source in enumerate(wanted):
        answer, ends = _ask(source, request, system)
        # Where one source speaks, what went wrong with those before it is no fault of the host's GPUs.
        problems = () if answer.kind else answers.problems + answer.problems
        answers = replace(answer, sources=answers.sources + answer.sources, problems=problems)
        if ends:
            skipped = tuple(
                Source(other.name, False, f"not asked, because {source.name} spoke")
                for other in wanted[place + 1 :]
            )
            return replace(answers, sources=answers.sources + skipped)
    return answers


def _ask(source: VendorSource, request: Request, system: SystemMemory) -> tuple[_Answers, bool]:
    """What one source answered, and whether the sources after it would say the same."""
    name = source.name
    try:
        read = source.open()
    except SourceUnavailable as error:
        return _Answers((Source(name, False, str(error)),)), False
    try:
        answer = _deadline.call(lambda: read_by(read, system, request), request.deadline_seconds)
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
    return _Answers((Source(name, True, sentence),), kind=source.kind, facts=answer), True


def _speaker(answers: Iterable[_Answers]) -> str | None:
    """The kind of source the facts come from: the first that has devices, else the first that spoke."""
    spoke = [one for one in answers if one.kind]
    return next((one.kind for one in spoke if one.devices), spoke[0].kind if spoke else None)


def _missing(present: Sequence[_pci.PciGpu], devices: Sequence[GpuDevice]) -> list[str]:
    """GPUs that a plan should have counted on: NVIDIA's always, others' where no GPU is measured at all."""
    measured = {device.pci_bus_id for device in devices}
    missing = []
    for gpu in present:
        vendor = vendor_of(gpu.vendor)
        expected = vendor.sources and (vendor.must_be_measured or not devices)
        if expected and _pci.is_compute(gpu):
            missing += [found.message for found in _pci.unmeasured([gpu], measured)]
    # A lost GPU that gives no address is in the list of devices with its own problem.
    nameless = sum(1 for device in devices if not device.pci_bus_id)
    return missing[nameless:]
