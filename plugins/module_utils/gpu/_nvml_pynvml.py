# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVML through the pynvml module of nvidia-ml-py, where the module's Python can import it."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml import read_through
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    FUNCTION_NOT_FOUND,
    LIBRARY_NOT_FOUND,
    BindingUnavailable,
    NvmlError,
    NvmlMemory,
    RemappedRows,
    RunningProcess,
    known_bytes,
    newest,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import SourceFacts
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import NO_PYNVML

# Distributions that install a module `pynvml`, the one that is maintained first.
# Source: the descriptions of nvidia-ml-py 13 and of pynvml 13, which calls itself deprecated.
DISTRIBUTIONS = ("nvidia-ml-py", "pynvml", "nvidia-ml-py3")

# Source: PyPA specification, recording installed projects; setuptools adds the Python's version to .egg-info.
_METADATA = re.compile(r"(?P<name>\w[\w.]*)-(?P<version>[0-9][^-]*?)(?:-py[0-9.]+)?\.(?:dist|egg)-info")

# Without these a binding is too old to tell what matters: reserved memory, MIG.
NEEDED = ("nvmlMemory_v2", "nvmlDeviceGetMigMode", "nvmlDeviceGetMigDeviceHandleByIndex")


def read(system: SystemMemory, _sys: Path) -> SourceFacts:
    """What NVML says through this binding.

    Raises: BindingUnavailable where the library cannot be used, SourceRefused where NVML does not answer.
    """
    return read_through(PynvmlNvml, system)


class PynvmlNvml:
    """The pynvml module, whichever distribution brought it.

    Raises: BindingUnavailable where it cannot be imported or is too old.
    """

    def __init__(self, module: Any = None) -> None:
        self._module = import_pynvml() if module is None else module
        self.description = describe(self._module)
        missing = [name for name in NEEDED if not hasattr(self._module, name)]
        if missing:
            raise BindingUnavailable(f"{self.description} is too old: it has no {missing[0]}")

    def start(self) -> None:
        self._call("nvmlInit")

    def stop(self) -> None:
        self._call("nvmlShutdown")

    def driver_version(self) -> str:
        return _text(self._call("nvmlSystemGetDriverVersion"))

    def nvml_version(self) -> str:
        return _text(self._call("nvmlSystemGetNVMLVersion"))

    def cuda_driver_version(self) -> int:
        return int(self._call("nvmlSystemGetCudaDriverVersion"))

    def device_count(self) -> int:
        return int(self._call("nvmlDeviceGetCount"))

    def device(self, index: int) -> Any:
        return self._call("nvmlDeviceGetHandleByIndex", index)

    def uuid(self, handle: Any) -> str:
        return _text(self._call("nvmlDeviceGetUUID", handle))

    def name(self, handle: Any) -> str:
        return _text(self._call("nvmlDeviceGetName", handle))

    def pci_bus_id(self, handle: Any) -> str:
        return _text(self._call("nvmlDeviceGetPciInfo", handle).busId)

    def architecture(self, handle: Any) -> int:
        return int(self._call("nvmlDeviceGetArchitecture", handle))

    def compute_capability(self, handle: Any) -> tuple[int, int]:
        major, minor = self._call("nvmlDeviceGetCudaComputeCapability", handle)
        return int(major), int(minor)

    def memory(self, handle: Any) -> NvmlMemory:
        return newest([lambda: self._memory_v2(handle), lambda: self._memory_v1(handle)])

    def compute_processes(self, handle: Any) -> list[RunningProcess]:
        return self._processes("nvmlDeviceGetComputeRunningProcesses", handle)

    def graphics_processes(self, handle: Any) -> list[RunningProcess]:
        return self._processes("nvmlDeviceGetGraphicsRunningProcesses", handle)

    def mig_mode(self, handle: Any) -> bool:
        current, _pending = self._call("nvmlDeviceGetMigMode", handle)
        return bool(current)

    def mig_instance_limit(self, handle: Any) -> int:
        return int(self._call("nvmlDeviceGetMaxMigDeviceCount", handle))

    def mig_instance(self, handle: Any, index: int) -> Any:
        return self._call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)

    def display_active(self, handle: Any) -> bool:
        return bool(self._call("nvmlDeviceGetDisplayActive", handle))

    def ecc_enabled(self, handle: Any) -> bool:
        current, _pending = self._call("nvmlDeviceGetEccMode", handle)
        return bool(current)

    def uncorrected_ecc_errors(self, handle: Any) -> int:
        kind = self._module.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        return int(self._call("nvmlDeviceGetTotalEccErrors", handle, kind, self._module.NVML_VOLATILE_ECC))

    def retired_pages_pending(self, handle: Any) -> bool:
        return bool(self._call("nvmlDeviceGetRetiredPagesPendingStatus", handle))

    def remapped_rows(self, handle: Any) -> RemappedRows:
        _corrected, _uncorrected, pending, failed = self._call("nvmlDeviceGetRemappedRows", handle)
        return RemappedRows(pending=bool(pending), failed=bool(failed))

    def _memory_v2(self, handle: Any) -> NvmlMemory:
        memory = self._call("nvmlDeviceGetMemoryInfo", handle, version=self._module.nvmlMemory_v2)
        return NvmlMemory(int(memory.total), int(memory.free), int(memory.used), int(memory.reserved))

    def _memory_v1(self, handle: Any) -> NvmlMemory:
        memory = self._call("nvmlDeviceGetMemoryInfo", handle)
        return NvmlMemory(int(memory.total), int(memory.free), int(memory.used), None)

    def _processes(self, function: str, handle: Any) -> list[RunningProcess]:
        entries = newest([lambda: self._call(function, handle), lambda: self._call(f"{function}_v2", handle)])
        return [RunningProcess(int(entry.pid), known_bytes(entry.usedGpuMemory)) for entry in entries]

    def _call(self, function: str, *arguments: Any, **options: Any) -> Any:
        call = getattr(self._module, function, None)
        if call is None:
            raise NvmlError(FUNCTION_NOT_FOUND, f"{self.description} has no {function}")
        # Raised, beside NVMLError, where the driver lacks the version of a call that this pynvml takes.
        mismatch = getattr(self._module, "NVMLLibraryMismatchError", ())
        try:
            return call(*arguments, **options)
        except mismatch as error:
            raise NvmlError(FUNCTION_NOT_FOUND, str(error)) from None
        except self._module.NVMLError as error:
            if error.value == LIBRARY_NOT_FOUND:
                raise BindingUnavailable(f"{self.description} cannot load libnvidia-ml.so.1") from None
            raise NvmlError(int(error.value), str(error)) from None


def import_pynvml() -> Any:
    """The module pynvml.

    Raises: BindingUnavailable where there is none, or a broken one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("pynvml")
    except ImportError as error:
        if getattr(error, "name", None) == "pynvml":
            raise BindingUnavailable(NO_PYNVML) from None
        raise BindingUnavailable(f"the module pynvml is broken ({error}); reinstall nvidia-ml-py") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BindingUnavailable(f"the module pynvml is broken ({reason}); reinstall nvidia-ml-py") from None


def describe(module: Any) -> str:
    """Which distribution a pynvml module came from, and what is to be said about it."""
    versions = _installed_beside(module)
    # The deprecated distribution brought a package of modules, the others are a single file.
    is_package = hasattr(module, "__path__")
    for name in ("pynvml",) if is_package else DISTRIBUTIONS:
        if name in versions and name == "nvidia-ml-py":
            return f"pynvml ({name} {versions[name]})"
        if name in versions or is_package:
            return f"pynvml (deprecated package {name}; nvidia-ml-py replaces it)"
    return "pynvml"


def _installed_beside(module: Any) -> dict[str, str]:
    """Names and versions of the distributions in a module's folder, by the names of their metadata.

    importlib.metadata tells the same, and takes longer to import than all of NVML's answers do.
    """
    file = getattr(module, "__file__", None)
    folder = os.path.dirname(file) if file else ""
    if hasattr(module, "__path__"):
        folder = os.path.dirname(folder)
    try:
        found = filter(None, map(_METADATA.fullmatch, os.listdir(folder) if folder else ()))
    except OSError:
        return {}
    return {re.sub("[-_.]+", "-", one["name"]).lower(): one["version"] for one in found}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
