# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between the vendors of GPUs: one row each, and the sources that measure its GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

if TYPE_CHECKING:
    from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import Read


NO_PYNVML = "this Python has no module pynvml (package nvidia-ml-py)"


# A source's file reads the host, and is opened only by those who gather facts: plans read the rows too.
def _pynvml() -> Read:
    import importlib.util
    import sys

    # Most hosts have none, and need not load what would read it, nor ask it in a process of its own.
    if "pynvml" not in sys.modules and importlib.util.find_spec("pynvml") is None:
        from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import SourceUnavailable

        raise SourceUnavailable(NO_PYNVML)
    from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvml_pynvml

    return _nvml_pynvml.read


def _ctypes() -> Read:
    from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvml_ctypes

    return _nvml_ctypes.read


def _nvidia_smi() -> Read:
    from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvidia_smi

    return _nvidia_smi.read


def _amdgpu() -> Read:
    from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _amdgpu

    return _amdgpu.read


@dataclass(frozen=True)
class VendorSource:
    """A source by its name, how its file is opened, and what kind of source the facts call it.

    open: raises SourceUnavailable where what it needs is not installed.
    """

    name: str
    open: Callable[[], Read]
    kind: str


@dataclass(frozen=True)
class Vendor:
    """One vendor's row.

    sources: asked in this order until one speaks. next_step: what completes 'it is present, but' where none
    measures a GPU. must_be_measured: whether that is a problem beside other GPUs that are measured.
    library: by which Ollama computes. shown_by, counted_by: the variables that leave GPUs out, and others that
    change which are seen. hidden_by: the one of `shown_by` that takes UUIDs.
    """

    name: str
    pci_id: int
    next_step: str
    sources: tuple[VendorSource, ...] = ()
    must_be_measured: bool = False
    library: str = "Vulkan"
    shown_by: tuple[str, ...] = ()
    counted_by: tuple[str, ...] = ()
    hidden_by: str | None = None


# In the order in which Ollama takes their GPUs.
# Sources: pci.ids; Ollama 0.33 envconfig/config.go; environment variables in the guides of CUDA and ROCm.
VENDORS = (
    Vendor(
        "nvidia",
        pci_id=0x10DE,
        next_step=(
            "the NVIDIA driver does not answer for it: look at 'lspci -k' and the kernel log, and install or "
            "repair the driver"
        ),
        sources=(
            VendorSource("pynvml", _pynvml, kind="nvml"),
            VendorSource("ctypes", _ctypes, kind="nvml"),
            VendorSource("nvidia-smi", _nvidia_smi, kind="nvidia-smi"),
        ),
        must_be_measured=True,
        library="CUDA",
        shown_by=("CUDA_VISIBLE_DEVICES",),
        counted_by=("CUDA_DEVICE_ORDER",),
        hidden_by="CUDA_VISIBLE_DEVICES",
    ),
    Vendor(
        "amd",
        pci_id=0x1002,
        next_step=(
            "the amdgpu driver does not answer for it: look at 'lspci -k' and the kernel log, and install or "
            "load amdgpu"
        ),
        sources=(VendorSource("amdgpu", _amdgpu, kind="amdgpu"),),
        library="ROCm",
        shown_by=("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
        counted_by=("GPU_DEVICE_ORDINAL",),
        hidden_by="ROCR_VISIBLE_DEVICES",
    ),
    Vendor(
        "intel",
        pci_id=0x8086,
        next_step=(
            "its memory cannot be measured, so that no plan uses it; Ollama reaches it through Vulkan only"
        ),
        shown_by=("GGML_VK_VISIBLE_DEVICES",),
    ),
)

# Names of all sources in their order.
SOURCES = tuple(source.name for vendor in VENDORS for source in vendor.sources)

_OTHER = Vendor(
    "other", pci_id=0, next_step="nothing is known of this vendor's GPUs, so that no plan uses it"
)
_BY_NAME = {vendor.name: vendor for vendor in VENDORS}


def vendor_of(name: str) -> Vendor:
    """The row of a vendor by its name; one that knows of nothing for a vendor without a row."""
    return _BY_NAME.get(name, _OTHER)
