# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs a version of Ollama takes: by CUDA's code and driver, by target of ROCm, integrated ones, by Vulkan."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._capability import Capability

Release = Tuple[int, int, int]

# Below it the driver itself compiles the code, for which it has to know the compiler's version.
LEGACY_BELOW: Capability = (7, 0)


@dataclass(frozen=True)
class CudaBuild:
    """One of the builds of the engine for CUDA that a release brings.

    `capabilities`: those it has code for, None: every one from `least_capability` on. `driver`: the least major version of
    NVIDIA's driver, `legacy_driver` that for a compute capability below 7.0. `fails_below`: with an older driver than
    that a GPU is taken all the same, and every load on it fails. `folder`: the name by which OLLAMA_LLM_LIBRARY asks for
    it alone; empty where that is not known.
    """

    capabilities: frozenset[Capability] | None = None
    least_capability: Capability = (5, 0)
    driver: int = 0
    legacy_driver: int = 0
    fails_below: int = 0
    folder: str = ""

    def has_code_for(self, capability: Capability) -> bool:
        """Whether it can run on such a GPU."""
        if self.capabilities is None:
            return capability >= self.least_capability
        return capability in self.capabilities

    def least_driver(self, capability: Capability) -> int:
        """The driver with which it runs on such a GPU."""
        legacy = self.legacy_driver if capability < LEGACY_BELOW else 0
        return max(self.driver, self.fails_below, legacy)

    def is_dropped(self, capability: Capability, driver: int) -> bool:
        """Whether Ollama leaves such a GPU alone with that driver, rather than fail on it."""
        return driver < max(self.driver, self.legacy_driver if capability < LEGACY_BELOW else 0)


@dataclass(frozen=True)
class GpuRules:
    """Which GPUs one version of Ollama takes.

    `cuda`: its builds; a GPU for which one of them runs is taken. `rocm_targets`: for which it brings rocBLAS.
    `drops_integrated`: all but CUDA's and those of `integrated_targets`, unless OLLAMA_IGPU_ENABLE says otherwise.
    `dropped_targets`: those that it drops so however much memory is set aside for them (ollama pull request 16429).
    `has_vulkan`: whether a GPU that neither takes can be reached by Vulkan; `vulkan_by_default`: without OLLAMA_VULKAN.
    `rocm_counts_available_memory`: the engine takes the system's available memory for what an AMD GPU that shares it
    has free, whatever was set aside for the GPU. `rocm_least_bytes`: an AMD GPU with less memory of its own is skipped.
    `takes_numbered_override`: what HSA_OVERRIDE_GFX_VERSION_1 makes of a GPU decides whether it is taken; other releases
    ask the variable without a number alone.

    Source: ollama discover/cuda_compat.go (0.30.0, 0.30.11), discover/amd.go, discover/runner.go (0.30.0, 0.30.1,
    0.33.0-rc2), discover/amd_linux.go (0.10.0, IGPUMemLimit),
    discover/llama_server.go (cudaArchsRegex), discover/native_probe_linux.go (0.30.0, hsaOverrideGFXTarget),
    issue 10033, CMakePresets.json and llama/server/CMakePresets.json
    (CMAKE_CUDA_ARCHITECTURES, AMDGPU_TARGETS; compared in every release from 0.10.0 on), envconfig/config.go.
    """

    cuda: tuple[CudaBuild, ...]
    rocm_targets: frozenset[str]
    drops_integrated: bool = False
    integrated_targets: frozenset[str] = frozenset()
    dropped_targets: frozenset[str] = frozenset()
    has_vulkan: bool = False
    vulkan_by_default: bool = False
    rocm_counts_available_memory: bool = False
    rocm_least_bytes: int = 0
    takes_numbered_override: bool = False


def _capabilities(text: str) -> frozenset[Capability]:
    return frozenset((int(major), int(minor)) for major, minor in (one.split(".") for one in text.split()))


# Sources of the figures: as above; NVIDIA's release notes of CUDA 13 for its driver; ollama issue 16449 for what fails.
_CUDA_12 = CudaBuild(
    _capabilities("5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0 12.0"), legacy_driver=570, fails_below=550, folder="cuda_v12"
)
_CUDA_12_COMPRESSED = replace(_CUDA_12, driver=550, fails_below=0)
_CUDA_13 = CudaBuild(_capabilities("7.5 8.0 8.6 8.9 9.0 10.0 10.3 11.0 12.0 12.1"), driver=580, folder="cuda_v13")

_ROCM_6 = frozenset(
    f"gfx{one}"
    for one in (
        "908",
        "90a",
        "940",
        "941",
        "942",
        "1010",
        "1012",
        "1030",
        "1100",
        "1101",
        "1102",
        "1151",
        "1200",
        "1201",
    )
)
_ROCM_7 = frozenset(
    f"gfx{one}"
    for one in ("908", "90a", "942", "950", "1030", "1100", "1101", "1102", "1150", "1151", "1200", "1201")
)

# One row for each release that changed a rule, the oldest first: each says what it changed of the one before.
_0_10 = GpuRules((CudaBuild(),), _ROCM_6 | {"gfx900", "gfx906"}, rocm_least_bytes=GIB)
_0_12_4 = replace(_0_10, rocm_targets=_ROCM_6, rocm_least_bytes=0, takes_numbered_override=True)
_0_12_11 = replace(_0_12_4, has_vulkan=True)
_0_18 = replace(_0_12_11, rocm_targets=_ROCM_7 | {"gfx1010", "gfx1012", "gfx1103"})
_0_30 = replace(
    _0_18,
    cuda=(_CUDA_12, _CUDA_13),
    drops_integrated=True,
    dropped_targets=frozenset(("gfx1151",)),
    vulkan_by_default=True,
    rocm_counts_available_memory=True,
    takes_numbered_override=False,
)
_0_30_1 = replace(_0_30, integrated_targets=frozenset(("gfx1151",)), dropped_targets=frozenset())
_0_30_11 = replace(
    _0_30_1,
    cuda=(
        _CUDA_12_COMPRESSED,
        replace(_CUDA_13, capabilities=(_CUDA_13.capabilities or frozenset()) | {(8, 7)}),
    ),
)
_0_31_2 = replace(_0_30_11, rocm_targets=_ROCM_7)
_0_32_2 = replace(
    _0_31_2,
    cuda=(
        replace(_CUDA_12_COMPRESSED, capabilities=(_CUDA_12.capabilities or frozenset()) | {(10, 0)}),
        _0_31_2.cuda[1],
    ),
)
# Its engine, b10488, is the first with llama.cpp's change 27083; b10435 is without.
_0_32_15 = replace(_0_32_2, rocm_counts_available_memory=False)
ROWS: tuple[tuple[Release, GpuRules], ...] = (
    ((0, 10, 0), _0_10),
    ((0, 12, 4), _0_12_4),
    ((0, 12, 11), _0_12_11),
    ((0, 18, 0), _0_18),
    ((0, 30, 0), _0_30),
    ((0, 30, 1), _0_30_1),
    ((0, 30, 11), _0_30_11),
    ((0, 31, 2), _0_31_2),
    ((0, 32, 2), _0_32_2),
    ((0, 32, 15), _0_32_15),
)


def gpu_rules(release: Release) -> GpuRules:
    """The rules of a release, one from 0.10.0 on."""
    return next(row for since, row in reversed(ROWS) if release >= since)
