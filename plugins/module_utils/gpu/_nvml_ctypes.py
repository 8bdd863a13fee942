# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVML through ctypes, for hosts whose Python has no binding: the driver itself brings the library."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml import read_through
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    FUNCTION_NOT_FOUND,
    INSUFFICIENT_SIZE,
    SUCCESS,
    BindingUnavailable,
    NvmlError,
    NvmlMemory,
    RemappedRows,
    RunningProcess,
    known_bytes,
    newest,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import SourceFacts

LIBRARY = "libnvidia-ml.so.1"

# Sizes, versions and layouts. Source: nvml.h, as nvidia-ml-py 13 declares it.
TEXT_BYTES = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE, NVML_DEVICE_NAME_V2_BUFFER_SIZE; versions need 80
MEMORY_V2 = 0x02000028  # size of the struct, and 2 << 24
UNCORRECTED = 1  # NVML_MEMORY_ERROR_TYPE_UNCORRECTED
SINCE_DRIVER_LOAD = 0  # NVML_VOLATILE_ECC
# More processes than any GPU has contexts for: a library that claims more is not believed.
MAXIMUM_PROCESSES = 65536


class _PciInfo(ctypes.Structure):
    _fields_ = [
        ("bus_id_legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("pci_device_id", ctypes.c_uint),
        ("pci_subsystem_id", ctypes.c_uint),
        ("bus_id", ctypes.c_char * 32),
    ]


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _MemoryV2(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _ProcessV1(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong)]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance_id", ctypes.c_uint),
        ("compute_instance_id", ctypes.c_uint),
    ]


def read(system: SystemMemory, _sys: Path) -> SourceFacts:
    """What NVML says through this binding.

    Raises: BindingUnavailable where the library cannot be used, SourceRefused where NVML does not answer.
    """
    return read_through(CtypesNvml, system)


class CtypesNvml:
    """libnvidia-ml.so.1, called directly.

    Raises: BindingUnavailable where the library cannot be loaded.
    """

    description = f"ctypes on {LIBRARY}"

    def __init__(self, library: str = LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise BindingUnavailable(f"{library} cannot be loaded ({error})") from None

    def start(self) -> None:
        self._call("nvmlInit_v2")

    def stop(self) -> None:
        self._call("nvmlShutdown")

    def driver_version(self) -> str:
        return self._text("nvmlSystemGetDriverVersion")

    def nvml_version(self) -> str:
        return self._text("nvmlSystemGetNVMLVersion")

    def cuda_driver_version(self) -> int:
        return self._number("nvmlSystemGetCudaDriverVersion")

    def device_count(self) -> int:
        return self._number("nvmlDeviceGetCount_v2")

    def device(self, index: int) -> Any:
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def uuid(self, handle: Any) -> str:
        return self._text("nvmlDeviceGetUUID", handle)

    def name(self, handle: Any) -> str:
        return self._text("nvmlDeviceGetName", handle)

    def pci_bus_id(self, handle: Any) -> str:
        info = _PciInfo()
        self._call("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(info))
        return _decode(info.bus_id)

    def architecture(self, handle: Any) -> int:
        return self._number("nvmlDeviceGetArchitecture", handle)

    def compute_capability(self, handle: Any) -> tuple[int, int]:
        major, minor = self._numbers("nvmlDeviceGetCudaComputeCapability", handle, 2)
        return major, minor

    def memory(self, handle: Any) -> NvmlMemory:
        return newest([lambda: self._memory_v2(handle), lambda: self._memory_v1(handle)])

    def compute_processes(self, handle: Any) -> list[RunningProcess]:
        return self._processes("nvmlDeviceGetComputeRunningProcesses", handle)

    def graphics_processes(self, handle: Any) -> list[RunningProcess]:
        return self._processes("nvmlDeviceGetGraphicsRunningProcesses", handle)

    def mig_mode(self, handle: Any) -> bool:
        current, _pending = self._numbers("nvmlDeviceGetMigMode", handle, 2)
        return bool(current)

    def mig_instance_limit(self, handle: Any) -> int:
        return self._number("nvmlDeviceGetMaxMigDeviceCount", handle)

    def mig_instance(self, handle: Any, index: int) -> Any:
        instance = ctypes.c_void_p()
        place = ctypes.c_uint(index)
        self._call("nvmlDeviceGetMigDeviceHandleByIndex", handle, place, ctypes.byref(instance))
        return instance

    def display_active(self, handle: Any) -> bool:
        return bool(self._number("nvmlDeviceGetDisplayActive", handle))

    def ecc_enabled(self, handle: Any) -> bool:
        current, _pending = self._numbers("nvmlDeviceGetEccMode", handle, 2)
        return bool(current)

    def uncorrected_ecc_errors(self, handle: Any) -> int:
        errors = ctypes.c_ulonglong()
        kind, counter = ctypes.c_uint(UNCORRECTED), ctypes.c_uint(SINCE_DRIVER_LOAD)
        self._call("nvmlDeviceGetTotalEccErrors", handle, kind, counter, ctypes.byref(errors))
        return errors.value

    def retired_pages_pending(self, handle: Any) -> bool:
        return bool(self._number("nvmlDeviceGetRetiredPagesPendingStatus", handle))

    def remapped_rows(self, handle: Any) -> RemappedRows:
        _corrected, _uncorrected, pending, failed = self._numbers("nvmlDeviceGetRemappedRows", handle, 4)
        return RemappedRows(pending=bool(pending), failed=bool(failed))

    def _memory_v2(self, handle: Any) -> NvmlMemory:
        memory = _MemoryV2(version=MEMORY_V2)
        self._call("nvmlDeviceGetMemoryInfo_v2", handle, ctypes.byref(memory))
        return NvmlMemory(memory.total, memory.free, memory.used, memory.reserved)

    def _memory_v1(self, handle: Any) -> NvmlMemory:
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        return NvmlMemory(memory.total, memory.free, memory.used, None)

    def _processes(self, function: str, handle: Any) -> list[RunningProcess]:
        return newest(
            [
                lambda: self._process_list(f"{function}_v3", handle, _Process),
                lambda: self._process_list(f"{function}_v2", handle, _Process),
                lambda: self._process_list(function, handle, _ProcessV1),
            ]
        )

    def _process_list(self, function: str, handle: Any, kind: Any) -> list[RunningProcess]:
        room = 0
        while True:
            count = ctypes.c_uint(room)
            entries = (kind * room)()
            code = self._code(function, handle, ctypes.byref(count), entries)
            if code != INSUFFICIENT_SIZE or room >= MAXIMUM_PROCESSES:
                break
            # Processes may start between two calls.
            room = min(max(count.value, room) * 2 + 8, MAXIMUM_PROCESSES)
        self._check(code)
        return [RunningProcess(entry.pid, known_bytes(entry.used)) for entry in entries[: count.value]]

    def _text(self, function: str, *arguments: Any) -> str:
        text = ctypes.create_string_buffer(TEXT_BYTES)
        self._call(function, *arguments, text, ctypes.c_uint(TEXT_BYTES))
        return _decode(text.value)

    def _number(self, function: str, *arguments: Any) -> int:
        number = ctypes.c_uint()
        self._call(function, *arguments, ctypes.byref(number))
        return number.value

    def _numbers(self, function: str, handle: Any, count: int) -> list[int]:
        numbers = [ctypes.c_uint() for _number in range(count)]
        self._call(function, handle, *map(ctypes.byref, numbers))
        return [number.value for number in numbers]

    def _call(self, function: str, *arguments: Any) -> None:
        self._check(self._code(function, *arguments))

    def _code(self, function: str, *arguments: Any) -> int:
        try:
            call = getattr(self._library, function)
        except AttributeError:
            return FUNCTION_NOT_FOUND
        return int(call(*arguments))

    def _check(self, code: int) -> None:
        if code != SUCCESS:
            describe = self._library.nvmlErrorString
            describe.restype = ctypes.c_char_p
            raise NvmlError(code, _decode(describe(code)))


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")
