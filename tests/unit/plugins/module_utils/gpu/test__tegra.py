# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _tegra
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice

COMPATIBLE = "firmware/devicetree/base/compatible"
Sysfs = Callable[[Any], Path]


def tree(text: str) -> dict[str, Any]:
    return {COMPATIBLE: {"hex": text.encode().hex()}}


@pytest.mark.parametrize(
    ("files", "chip"),
    [
        (tree("nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0"), "nvidia,tegra234"),
        (tree("nvidia,p2972-0000\0nvidia,tegra194\0"), "nvidia,tegra194"),
        (tree("raspberrypi,5-model-b\0brcm,bcm2712\0"), None),
        (tree(""), None),
        ({}, None),
    ],
)
def test_the_device_tree_names_the_chip(sysfs: Sysfs, files: dict[str, Any], chip: str | None) -> None:
    assert _tegra.chip(sysfs(files)) == chip


def test_a_jetson_without_nvml_is_told_with_the_next_step(sysfs: Sysfs) -> None:
    (gpu,) = _tegra.unmeasured([], sysfs(tree("nvidia,jetson-xavier\0nvidia,tegra194\0")))
    assert (gpu.vendor, gpu.device_id, gpu.pci_bus_id) == ("nvidia", "nvidia,tegra194", "")
    assert "install JetPack 6" in gpu.message


def test_a_jetson_whose_gpu_nvml_tells_of_is_measured(sysfs: Sysfs) -> None:
    orin = GpuDevice(0, "GPU-1", "", "nvidia", "Orin (nvgpu)")
    assert _tegra.unmeasured([orin], sysfs(tree("nvidia,tegra234\0"))) == ()
