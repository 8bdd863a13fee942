# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _pci
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._pci import PciGpu

Sysfs = Callable[[Any], Path]


def function(address: str, device_class: str, vendor: str, device: str) -> dict[str, str]:
    base = f"bus/pci/devices/{address}"
    return {f"{base}/class": device_class, f"{base}/vendor": vendor, f"{base}/device": device}


def test_displays_and_accelerators_are_found_and_nothing_else(sysfs: Sysfs) -> None:
    root = sysfs(
        {
            **function("0000:00:1f.2", "0x010601", "0x8086", "0xa102"),
            **function("0000:02:00.0", "0x030000", "0x10de", "0x2204"),
            **function("0000:02:00.1", "0x040300", "0x10de", "0x1aef"),
            **function("0000:01:00.0", "0x030200", "0x10de", "0x20b2"),
            **function("0001:05:00.0", "0x120000", "0x1002", "0x74a1"),
            **function("0000:03:00.0", "0x038000", "0x8086", "0x56a0"),
            "bus/pci/devices/0000:09:00.0/class": "0x030000",
        }
    )
    assert [gpu.bus_id for gpu in _pci.present(root)] == [
        "0000:01:00.0",
        "0000:02:00.0",
        "0000:03:00.0",
        "0001:05:00.0",
    ]


def test_a_host_without_pci_has_none(sysfs: Sysfs) -> None:
    assert _pci.present(sysfs({})) == []


def test_the_driver_of_a_gpu_is_known(sysfs: Sysfs) -> None:
    root = sysfs(function("0000:02:00.0", "0x030000", "0x10de", "0x2204"))
    (root / "bus/pci/drivers/vfio-pci").mkdir(parents=True)
    (root / "bus/pci/devices/0000:02:00.0/driver").symlink_to(root / "bus/pci/drivers/vfio-pci")
    assert _pci.present(root)[0].driver == "vfio-pci"


@pytest.mark.parametrize(
    ("gpu", "vendor", "words", "computes"),
    [
        (PciGpu("0000:01:00.0", 0x10DE, 0x2204), "nvidia", "NVIDIA driver does not answer", True),
        (PciGpu("0000:01:00.0", 0x1002, 0x744C), "amd", "amdgpu driver does not answer", True),
        (PciGpu("0000:01:00.0", 0x8086, 0x56A0), "intel", "cannot be measured", True),
        (PciGpu("0000:01:00.0", 0x1A03, 0x2000), "aspeed", "only drives a display", False),
        (PciGpu("0000:01:00.0", 0x1AF4, 0x1050), "virtio", "only drives a display", False),
        (PciGpu("0000:01:00.0", 0x1ED5, 0x0100), "0x1ed5", "nothing is known of this vendor", True),
        (PciGpu("0000:01:00.0", 0x10DE, 0x2204, "vfio-pci"), "nvidia", "virtual machine", False),
    ],
)
def test_a_gpu_that_no_source_measured_is_told_with_what_to_do(
    gpu: PciGpu, vendor: str, words: str, computes: bool
) -> None:
    (found,) = _pci.unmeasured([gpu], [])
    assert (found.pci_bus_id, found.vendor) == ("0000:01:00.0", vendor)
    assert words in found.message
    assert _pci.is_compute(gpu) is computes


def test_a_measured_gpu_is_not_told_again() -> None:
    gpus = [PciGpu("0000:01:00.0", 0x10DE, 0x2204), PciGpu("0000:02:00.0", 0x10DE, 0x2204)]
    assert [found.pci_bus_id for found in _pci.unmeasured(gpus, ["0000:01:00.0"])] == ["0000:02:00.0"]
