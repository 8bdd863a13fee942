# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the walk over NVML asks of a binding, and the errors that every binding raises alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import SourceUnavailable

T = TypeVar("T")

# Source: nvmlReturn_t in nvml.h, as nvidia-ml-py 13 declares it.
SUCCESS = 0
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIB_RM_VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25

# Source: NVML_VALUE_NOT_AVAILABLE in nvml.h, as the unsigned 64-bit value that stands for "unknown".
VALUE_NOT_AVAILABLE = 0xFFFFFFFFFFFFFFFF


class NvmlError(Exception):
    """An NVML call that failed: its nvmlReturn_t as `code`, the library's own words as text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class BindingUnavailable(SourceUnavailable):
    """A binding that cannot be used on this host; the text is one sentence for people."""


@dataclass(frozen=True)
class NvmlMemory:
    """Memory of one GPU in bytes; `reserved_bytes` is None where the driver counts it as used."""

    total_bytes: int
    free_bytes: int
    used_bytes: int
    reserved_bytes: int | None


@dataclass(frozen=True)
class RunningProcess:
    """One entry of NVML's process lists; `used_bytes` is None where the driver does not say."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class RemappedRows:
    """Rows of memory that were, are to be, or could not be replaced by spare ones."""

    pending: bool
    failed: bool


class Nvml(Protocol):
    """The NVML calls that the walk makes; a handle is whatever the binding makes of nvmlDevice_t.

    Every method raises NvmlError where the call fails.
    """

    description: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def driver_version(self) -> str: ...
    def nvml_version(self) -> str: ...
    def cuda_driver_version(self) -> int: ...
    def device_count(self) -> int: ...
    def device(self, index: int) -> Any: ...
    def uuid(self, handle: Any) -> str: ...
    def name(self, handle: Any) -> str: ...
    def pci_bus_id(self, handle: Any) -> str: ...
    def architecture(self, handle: Any) -> int: ...
    def compute_capability(self, handle: Any) -> tuple[int, int]: ...
    def memory(self, handle: Any) -> NvmlMemory: ...
    def compute_processes(self, handle: Any) -> list[RunningProcess]: ...
    def graphics_processes(self, handle: Any) -> list[RunningProcess]: ...
    def mig_mode(self, handle: Any) -> bool: ...
    def mig_instance_limit(self, handle: Any) -> int: ...
    def mig_instance(self, handle: Any, index: int) -> Any: ...
    def display_active(self, handle: Any) -> bool: ...
    def ecc_enabled(self, handle: Any) -> bool: ...
    def uncorrected_ecc_errors(self, handle: Any) -> int: ...
    def retired_pages_pending(self, handle: Any) -> bool: ...
    def remapped_rows(self, handle: Any) -> RemappedRows: ...


def newest(calls: Sequence[Callable[[], T]]) -> T:
    """The answer of the first call that this driver knows; newer versions of a call come first.

    Raises: NvmlError of the last call, or of the first that failed for another reason than being unknown.
    """
    for call in calls[:-1]:
        try:
            return call()
        except NvmlError as error:
            if error.code not in (FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH):
                raise
    return calls[-1]()


def known_bytes(value: int | None) -> int | None:
    """A number of bytes as NVML gives it, None where it stands for "unknown"."""
    return None if value is None or value == VALUE_NOT_AVAILABLE else int(value)
