# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of GPUs: by nvidia-smi, by sysfs, by NVML, and in the facts that were gathered once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._amdgpu import read_amdgpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, HostGpus, bounded
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._loaded import credit
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvidia_smi import NvidiaSmiFailed, parse
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml import explain, read_nvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    GPU_IS_LOST,
    NOT_FOUND,
    NOT_SUPPORTED,
    NvmlError,
    NvmlMemory,
    RemappedRows,
    RunningProcess,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner, attribute
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._visibility import visible
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import host_from_facts
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.fuzz.target import (
    SEPARATOR,
    Folder,
    Target,
    changed,
    split,
    text,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA

SYSTEM = SystemMemory(1 << 36, 1 << 35)


def _nvidia_smi(data: bytes) -> None:
    json.dumps([device.to_dict() for device in parse(data, SYSTEM).devices])


_CARD = "class/drm/card0/device"
_KFD = "class/kfd/kfd"
_SYSFS = {
    f"{_CARD}/vendor": b"0x1002",
    f"{_CARD}/uevent": b"PCI_SLOT_NAME=0000:03:00.0\n",
    f"{_CARD}/mem_info_vram_total": b"25753026560",
    f"{_CARD}/mem_info_vram_used": b"1024",
    f"{_CARD}/mem_info_gtt_total": b"1000",
    f"{_CARD}/mem_info_gtt_used": b"10",
    f"{_CARD}/unique_id": b"0123456789abcdef",
    f"{_CARD}/device": b"0x744c",
    f"{_CARD}/product_name": b"Radeon",
    f"{_CARD}/gpu_metrics": b"\x10\x00\x01\x00",
    f"{_KFD}/topology/nodes/1/gpu_id": b"123",
    f"{_KFD}/topology/nodes/1/properties": b"location_id 768\ndomain 0\ngfx_target_version 110000\nunique_id 5\n",
    f"{_KFD}/topology/nodes/1/mem_banks/0/properties": b"size_in_bytes 25753026560\n",
    f"{_KFD}/proc/77/vram_123": b"1000",
}


def _amdgpu(data: bytes) -> None:
    _SYS.write(dict(zip(_SYSFS, split(data, len(_SYSFS)))))
    json.dumps([device.to_dict() for device in read_amdgpu(SYSTEM, _SYS.path)])


FACTS = HostGpus(
    "now",
    devices=(
        GpuDevice(
            *(0, "GPU-0", "0000:01:00.0", "nvidia", "A GPU"),
            compute_capability="8.6",
            memory_total_bytes=24 << 30,
            memory_free_bytes=23 << 30,
        ),
    ),
    visible_devices=("GPU-0",),
    system_memory_total_bytes=64 << 30,
).to_dict()


def _facts(data: bytes) -> None:
    facts = changed(FACTS, data)
    json.dumps(bounded(HostGpus.from_dict(facts)).to_dict())
    host_from_facts(
        facts, on_gpu_fault="exclude", environment={}, managed_environment={}, rules=rules("0.33.0")
    )


_NUMBERS = (0, 1, 2, 3, 7, 255, 257, 4095, 2**31, 2**32 - 1, 2**40, 24 << 30, 2**53, 2**63, 2**64 - 1)
_TEXTS = (
    *("GPU-0", "", "x", "NVIDIA A100 MIG 1g.5gb", "\ud800", "\x1b[2J", "A" * 70_000, "00000000:01:00.0"),
    *("FFFFFFFF:FF:FF.7", "²:01:00.0", "GPU-\n1", "{{ 1 }}"),
)
_CODES = (NOT_SUPPORTED, GPU_IS_LOST, NOT_FOUND, 1, 4, 7, 9, 13, 16, 18, 25, 999, -1)


class _Library:
    """An NVML that answers as the bytes say, one for each answer, and when there are none with the first of each kind."""

    description = "a library"

    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def _one_of(self, values: Any) -> Any:
        return values[next(self._left, 0) % len(values)]

    def __getattr__(self, call: str) -> Callable[..., Any]:
        def answer(*_arguments: Any) -> Any:
            if next(self._left, 0) > 240:
                raise NvmlError(self._one_of(_CODES), self._one_of(_TEXTS))
            return self._answer(call)

        return answer

    def _answer(self, call: str) -> Any:
        if call in ("start", "stop", "device", "mig_instance"):
            return call
        if call == "device_count":
            return self._one_of((1, 0, 2, 5))
        if call in ("uuid", "name", "pci_bus_id", "driver_version", "nvml_version"):
            return self._one_of(_TEXTS)
        if call == "compute_capability":
            return self._one_of(_NUMBERS), self._one_of(_NUMBERS)
        if call == "memory":
            return NvmlMemory(
                *(self._one_of(_NUMBERS) for _part in range(3)), self._one_of((None, *_NUMBERS))
            )
        if call in ("compute_processes", "graphics_processes"):
            count = self._one_of((0, 1, 5, 40))
            return [
                RunningProcess(self._one_of(_NUMBERS), self._one_of((None, *_NUMBERS)))
                for _process in range(count)
            ]
        if call == "remapped_rows":
            return RemappedRows(self._one_of((False, True)), self._one_of((False, True)))
        if call in ("mig_mode", "display_active", "ecc_enabled", "retired_pages_pending"):
            return self._one_of((False, True))
        return self._one_of(_NUMBERS)


def _nvml(data: bytes) -> None:
    """The walk, and what becomes of it up to the host that is planned."""
    answers, environment = split(data, 2)
    try:
        found = read_nvml(_Library(answers), SYSTEM)
    except NvmlError as error:
        explain(error)
        return
    devices = tuple(GpuDevice.from_dict(device.to_dict()) for device in found.devices)
    devices = attribute(devices, Owner("ollama.service"), _SYS.path)
    seen = visible(devices, {"CUDA_VISIBLE_DEVICES": text(environment)} if environment else {})
    devices, _notes = credit(devices, seen.uuids, lambda: 1 << 30)
    facts = bounded(HostGpus("now", devices=devices, visible_devices=seen.uuids)).to_dict()
    json.dumps(facts)
    host_from_facts(
        facts, on_gpu_fault="exclude", environment={}, managed_environment={}, rules=rules("0.33.0")
    )


_SYS = Folder()

TARGETS = (
    Target(
        "nvidia-smi",
        _nvidia_smi,
        (NvidiaSmiFailed,),
        honest=tuple(path.read_bytes() for path in sorted((DATA / "nvidia_smi").glob("*.xml"))),
        # The index of a MIG instance.
        crashed=(
            '<nvidia_smi_log><gpu id="0:01:00.0"><mig_mode><current_mig>Enabled</current_mig></mig_mode><mig_devices>'
            "<mig_device><index>²</index></mig_device></mig_devices></gpu></nvidia_smi_log>".encode(),
        ),
    ),
    Target("amdgpu", _amdgpu, honest=(SEPARATOR.join(_SYSFS.values()),)),
    Target("gpu-facts", _facts, (ValueError,)),
    Target(
        "nvml",
        _nvml,
        (ValueError,),
        honest=(bytes(9) + b"\x0b\x00\x0b\x00", bytes(40) + SEPARATOR + b"0,GPU-x"),
    ),
)
