# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The GPU of a Jetson, which is part of its chip and on no PCI bus: presence from the device tree."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, UnmeasuredGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SYS, read_bytes

# Source: Linux, Documentation/devicetree/bindings/arm/tegra.yaml: nvidia,tegra194 is Xavier, nvidia,tegra234 Orin.
_CHIP = "nvidia,tegra"


def chip(sys: Path = SYS) -> str | None:
    """The Tegra chip that the device tree names, as 'nvidia,tegra234'; None on any other host."""
    names = (read_bytes(sys / "firmware/devicetree/base/compatible") or b"").split(b"\0")
    found = [name.decode("utf-8", "replace") for name in names]
    return next((name for name in found if name.startswith(_CHIP)), None)


def unmeasured(devices: Iterable[GpuDevice], sys: Path = SYS) -> tuple[UnmeasuredGpu, ...]:
    """The chip's GPU where NVML tells of none: JetPack 5 and older bring no NVML (Syllo/nvtop #150, #225)."""
    name = chip(sys)
    if name is None or any(device.vendor == "nvidia" for device in devices):
        return ()
    message = (
        f"the GPU of this {name} is present, but no NVML library tells of it, so that no plan uses it: install "
        "JetPack 6 or newer, which brings one"
    )
    return (UnmeasuredGpu(pci_bus_id="", vendor="nvidia", device_id=name, message=message),)
