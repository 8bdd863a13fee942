# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GPUs that are plugged in, whether or not a driver answers for them: PCI class and vendor from sysfs."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import UnmeasuredGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SYS, read_int
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import VENDORS, vendor_of

# Source: PCI code and ID assignment: base class 03 is display, 1200 is processing accelerators.
_DISPLAY_CLASS = 0x03
_ACCELERATOR_CLASS = 0x1200

# Source: pci.ids. Vendors without a name here are given by their number.
_VIRTUAL_OR_CONSOLE = {
    0x1A03: "aspeed",
    0x102B: "matrox",
    0x1AF4: "virtio",
    0x1B36: "qemu",
    0x1234: "qemu",
    0x1013: "cirrus",
    0x15AD: "vmware",
    0x1414: "microsoft",
}
_NAMES = {**{vendor.pci_id: vendor.name for vendor in VENDORS}, **_VIRTUAL_OR_CONSOLE}
_PASSED_THROUGH = "vfio-pci"


@dataclass(frozen=True)
class PciGpu:
    """A display controller or accelerator on the PCI bus; ids are numbers, the address is that of sysfs."""

    bus_id: str
    vendor_id: int
    device_id: int
    driver: str | None = None

    @property
    def vendor(self) -> str:
        return _NAMES.get(self.vendor_id, f"0x{self.vendor_id:04x}")


def present(sys: Path = SYS) -> list[PciGpu]:
    """All display controllers and accelerators, in the order of their addresses."""
    found = []
    root = sys / "bus/pci/devices"
    for folder in sorted(root.iterdir() if root.is_dir() else []):
        device_class = read_int(folder / "class")
        vendor, device = read_int(folder / "vendor"), read_int(folder / "device")
        if device_class is None or vendor is None or device is None:
            continue
        if device_class >> 16 == _DISPLAY_CLASS or device_class >> 8 == _ACCELERATOR_CLASS:
            driver = (folder / "driver").resolve().name if (folder / "driver").exists() else None
            found.append(PciGpu(folder.name.lower(), vendor, device, driver))
    return found


def unmeasured(gpus: Collection[PciGpu], measured: Collection[str]) -> tuple[UnmeasuredGpu, ...]:
    """The GPUs whose address is not among the measured ones, each with what to do about it."""
    return tuple(
        UnmeasuredGpu(
            pci_bus_id=gpu.bus_id,
            vendor=gpu.vendor,
            device_id=f"0x{gpu.device_id:04x}",
            message=f"{gpu.bus_id} ({gpu.vendor} 0x{gpu.device_id:04x}) is present, but {_reason(gpu)}",
        )
        for gpu in gpus
        if _function_zero(gpu.bus_id) not in {_function_zero(bus_id) for bus_id in measured}
    )


def is_compute(gpu: PciGpu) -> bool:
    """Whether this host could compute on a GPU: no console's display, and not lent to a virtual machine."""
    return gpu.vendor_id not in _VIRTUAL_OR_CONSOLE and gpu.driver != _PASSED_THROUGH


def _reason(gpu: PciGpu) -> str:
    if gpu.driver == _PASSED_THROUGH:
        return "it is set aside for a virtual machine (vfio-pci)"
    if not is_compute(gpu):
        return "it only drives a display"
    return vendor_of(gpu.vendor).next_step


def _function_zero(bus_id: str) -> str:
    return re.sub(r"\.[0-7]$", ".0", bus_id)
