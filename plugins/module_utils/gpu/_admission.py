# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a version of Ollama takes a GPU, by which library, and what to do where it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, gib
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, UnmeasuredGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import vendor_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._values import boolean, cleaned
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._capability import capability_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._gpu_rules import CudaBuild
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import VersionRules

# Source: ollama discover/amd.go (0.30.0 to 0.33.0-rc2), readROCmDRMDevice: maxIntegratedVRAM, minSharedGTT.
MAX_INTEGRATED_OWN_BYTES = 4 * GIB
MIN_INTEGRATED_SHARED_BYTES = 8 * GIB
MIN_SHARED_FOR_OWN = 4

# Source: ollama CMakePresets.json and llama/server/CMakePresets.json (JetPack 5, JetPack 6; 0.10.0 to 0.33.0-rc2),
# scripts/install.sh; issues 9503 and 18067.
_JETSONS = ((7, 2), (8, 7))
_JETSONS_WITHOUT_A_BUILD = ((5, 3), (6, 2))
_JETSONS_BUILD = (
    "Ollama uses it where its build for the JetPack was installed with it, as its installer does for JetPack 5 and 6: look for "
    "'library=CUDA' in the journal of its start"
)
_INTEL_PROCESSORS_PLACE = "00:02.0"

UNIFIED_MEMORY = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"
CUDA, ROCM, VULKAN = "CUDA", "ROCm", "Vulkan"
WITHOUT_VULKAN = "OLLAMA_VULKAN=0 in ollama_plan_operator_environment"
# The folders of libraries that OLLAMA_LLM_LIBRARY names, by their beginnings. Source: the presets' OLLAMA_RUNNER_DIR.
_LIBRARY_FOLDERS = (("cuda_v", CUDA), ("cuda_jetpack", CUDA), ("rocm", ROCM), ("vulkan", VULKAN))
_WITHOUT_RESTRICTION = "mlx_"
_OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"
# Source: as that of is_read_by_rocm.
_MOST_OF_A_TARGET = (63, 255, 255)


@dataclass(frozen=True)
class Admission:
    """By which library Ollama computes on a GPU, None where it does not; `reason` says why, and what to do.

    `fails`: Ollama takes the GPU, and every load on it fails, so that it has to be hidden.
    """

    library: str | None
    reason: str = ""
    fails: bool = False


def admission(
    device: GpuDevice, rules: VersionRules, environment: Mapping[str, str], driver_version: str | None
) -> Admission:
    """Whether and how a version of Ollama with this environment takes a GPU that it sees.

    What is not known of the GPU, as its compute capability or its driver, is taken for what Ollama accepts.

    Source: ollama discover/runner.go (GPUDevices, filterIntegratedGPUs), discover/cuda_compat.go, discover/amd.go
    (filterUnsupportedROCmDevices, rocmGFXTargetOverride) of 0.33.0-rc2 and before.
    """
    requested = requested_library(environment, rules)
    own = vendor_of(device.vendor).library
    by_own = _by_own_library(own, device, rules, environment, driver_version)
    if requested is not None and requested != own:
        asked = cleaned(environment["OLLAMA_LLM_LIBRARY"])
        by_own = Admission(None, f"OLLAMA_LLM_LIBRARY={asked} leaves {own} out; unset it to have {own} used")
    if by_own.library or by_own.fails:
        return by_own
    if not _reaches_by_vulkan(own, device, rules, environment, requested):
        return by_own
    return Admission(
        VULKAN,
        f"{by_own.reason or 'it is no GPU of CUDA or ROCm'}; Ollama {rules.version} reaches it by Vulkan where the host has a "
        "Vulkan driver for it, else everything runs on the CPU: look for 'library=Vulkan' in the journal of its start",
    )


def requested_library(environment: Mapping[str, str], rules: VersionRules) -> str | None:
    """The only library that OLLAMA_LLM_LIBRARY leaves; None where it leaves all, "" where it leaves none.

    Source: ollama llm/server.go (0.10.0 to 0.12.3, StartRunner), discover/runner.go (since 0.12.4), issue 10833.
    """
    text = cleaned(environment.get("OLLAMA_LLM_LIBRARY", ""))
    if not text or text.startswith(_WITHOUT_RESTRICTION):
        return None
    other = "" if rules.gpus.heeds_unknown_library else None
    return next((library for start, library in _LIBRARY_FOLDERS if text.startswith(start)), other)


def is_integrated(device: GpuDevice) -> bool:
    """Whether Ollama calls a GPU integrated: of AMD's by how its memory is divided, where that is told."""
    own, shared = device.memory_own_bytes, device.memory_shared_bytes
    if device.vendor != "amd" or own is None or shared is None:
        return device.integrated
    return (
        device.integrated
        and own <= MAX_INTEGRATED_OWN_BYTES
        and shared >= MIN_INTEGRATED_SHARED_BYTES
        and shared >= MIN_SHARED_FOR_OWN * own
    )


def counted_free_bytes(
    device: GpuDevice, rules: VersionRules, environment: Mapping[str, str], available_bytes: int | None
) -> int | None:
    """What the engine takes for the free memory of a GPU, and no more than it has; `available_bytes` are the system's.

    Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, ggml_backend_cuda_device_get_memory (b10435, b10488).
    """
    free = device.memory_free_bytes
    if free is None or available_bytes is None or device.vendor not in ("nvidia", "amd"):
        return free
    of_rocm = device.vendor == "amd"
    if of_rocm and not rules.gpus.rocm_counts_available_memory:
        return free
    if of_rocm and device.unified_memory:
        return min(available_bytes, device.memory_total_bytes or available_bytes)
    return min(available_bytes, free) if UNIFIED_MEMORY in environment else free


def counted_note(
    device: GpuDevice, rules: VersionRules, environment: Mapping[str, str], available_bytes: int | None
) -> str:
    """What to say where the engine counts less than a GPU has free; empty where it does not."""
    counted, free = counted_free_bytes(device, rules, environment, available_bytes), device.memory_free_bytes
    if counted is None or free is None or counted >= free:
        return ""
    remedy = (
        "upgrade Ollama to 0.32.15 or newer, or set less memory aside for the GPU in the firmware"
        if device.vendor == "amd" and device.unified_memory
        else f"unset {UNIFIED_MEMORY}"
    )
    return (
        f"it has {gib(free)} free, of which Ollama {rules.version} counts the {gib(counted)} that the system has "
        f"available: {remedy}"
    )


def unmeasured_note(gpu: UnmeasuredGpu, rules: VersionRules, environment: Mapping[str, str]) -> str:
    """What to say of a GPU without measured memory on which Ollama may compute all the same; empty where it does not.

    Intel's processors have theirs at one place, and Ollama drops it where it drops integrated ones.

    Source: Linux drivers/gpu/drm/i915 (the first function of device 2 on bus 0); ollama issues 13286 and 12720.
    """
    if vendor_of(gpu.vendor).library != VULKAN or not _has_vulkan(rules, environment):
        return ""
    is_processors = gpu.pci_bus_id.endswith(_INTEL_PROCESSORS_PLACE)
    if is_processors and rules.gpus.drops_integrated and not boolean(environment.get("OLLAMA_IGPU_ENABLE")):
        return ""
    return (
        f"Ollama {rules.version} computes on it where the host has a Vulkan driver for it, and may put models there whose room "
        f"is not known: {WITHOUT_VULKAN} has it left"
    )


def left_note(device: GpuDevice, answer: Admission, rules: VersionRules, environment: Mapping[str, str]) -> str:
    """What to say of an NVIDIA GPU that CUDA leaves and Vulkan may reach; empty where it does not.

    Source: ollama issue 13981: a GT 720 by Vulkan.
    """
    is_left = not answer.library and not answer.fails and vendor_of(device.vendor).library == CUDA
    if not is_left or not _is_reached_by_vulkan(device, rules, environment):
        return ""
    return (
        f"Ollama {rules.version} computes on it by Vulkan all the same where the host has NVIDIA's Vulkan driver: "
        f"{WITHOUT_VULKAN} has it left"
    )


def hidden_note(device: GpuDevice, rules: VersionRules, environment: Mapping[str, str]) -> str:
    """What to say of a GPU hidden from CUDA or ROCm that Vulkan, which their variables do not bind, may reach; else empty.

    Source: ollama issue 17080: with CUDA_VISIBLE_DEVICES=0 the second RTX 4090 by Vulkan; Vulkan knows no MIG instances.
    """
    is_whole = not device.mig_mode and device.mig_parent_uuid is None
    if not is_whole or not _is_reached_by_vulkan(device, rules, environment):
        return ""
    return (
        f"it is hidden, and Ollama {rules.version} computes on it by Vulkan all the same where the host has a Vulkan driver for "
        f"it: {WITHOUT_VULKAN} has it left"
    )


def _is_reached_by_vulkan(device: GpuDevice, rules: VersionRules, environment: Mapping[str, str]) -> bool:
    return _has_vulkan(rules, environment) and not _is_dropped_as_integrated(VULKAN, device, rules, environment)


def _has_vulkan(rules: VersionRules, environment: Mapping[str, str]) -> bool:
    """Whether a version with this environment looks for GPUs by Vulkan."""
    if not rules.gpus.has_vulkan or requested_library(environment, rules) not in (None, VULKAN):
        return False
    enabled = boolean(environment.get("OLLAMA_VULKAN"))
    is_enabled = rules.gpus.vulkan_by_default if enabled is None else enabled
    return is_enabled and cleaned(environment.get("GGML_VK_VISIBLE_DEVICES", "")) != "-1"


def _numbered(device: GpuDevice) -> str:
    """The variable that overrides the target of this GPU alone.

    Source: ROCR-Runtime libhsakmt/src/topology.c, topology_sysfs_get_node_props: by its number among all nodes that the process
    may use, before ROCR_VISIBLE_DEVICES hides any. Processors come first, of which a host that is only described has one.
    """
    node = device.index + 1 if device.rocm_node is None else device.rocm_node
    return f"{_OVERRIDE}_{node}"


def is_read_by_rocm(override: str) -> bool:
    """Whether ROCm reads a value of HSA_OVERRIDE_GFX_VERSION.

    Source: ROCR-Runtime libhsakmt/src/topology.c, topology_sysfs_get_node_props: three numbers and nothing behind them, or the
    whole topology fails.
    """
    numbers = re.fullmatch(r"\s*([0-9]{1,9})\.\s*([0-9]{1,9})\.\s*([0-9]{1,9})", override)
    return numbers is not None and all(
        int(one) <= most for one, most in zip(numbers.groups(), _MOST_OF_A_TARGET)
    )


def rocm_target(device: GpuDevice, rules: VersionRules, environment: Mapping[str, str]) -> str | None:
    """The target for which Ollama takes a GPU: its own, or what HSA_OVERRIDE_GFX_VERSION makes of it."""
    asked = (_numbered(device), _OVERRIDE) if rules.gpus.takes_numbered_override else (_OVERRIDE,)
    name = next((one for one in asked if one in environment), "")
    return overridden_target(cleaned(environment.get(name, ""))) or device.gfx_target


def overridden_target(text: str) -> str | None:
    """The target that a value such as 10.3.0 names; None where it names none."""
    numbers = text.split(".")
    if len(numbers) != 3 or not all(re.fullmatch(r"[0-9]{1,2}", one) and int(one) <= 15 for one in numbers):
        return None
    major, minor, stepping = map(int, numbers)
    return f"gfx{major}{minor:x}{stepping:x}"


def _by_own_library(
    own: str,
    device: GpuDevice,
    rules: VersionRules,
    environment: Mapping[str, str],
    driver_version: str | None,
) -> Admission:
    if own == CUDA:
        found = _by_cuda(device, rules, environment, driver_version)
    elif own == ROCM:
        found = _by_rocm(device, rules, environment)
    else:
        found = Admission(None)
    by_vulkan = rules.gpus.vulkan_by_default and found.library is None
    if _is_dropped_as_integrated(VULKAN if by_vulkan and own == ROCM else own, device, rules, environment):
        return Admission(None, _integrated_reason(rules))
    return found


def _by_cuda(
    device: GpuDevice, rules: VersionRules, environment: Mapping[str, str], driver_version: str | None
) -> Admission:
    capability = capability_of(device.compute_capability)
    if device.integrated and capability in _JETSONS_WITHOUT_A_BUILD:
        return Admission(
            None,
            f"its compute capability is {device.compute_capability}, and of Jetsons Ollama has builds for 7.2 and 8.7 only, "
            "which no driver and no setting changes",
        )
    # A Jetson's own builds ask for no driver.
    if device.integrated and (capability is None or capability >= (5, 0)):
        return Admission(CUDA, _JETSONS_BUILD if capability in _JETSONS else "")
    asked = cleaned(environment.get("OLLAMA_LLM_LIBRARY", ""))
    left = [build for build in rules.gpus.cuda if _is_left(build, asked)]
    if not left:
        brought = " and ".join(build.folder for build in rules.gpus.cuda)
        return Admission(
            None, f"OLLAMA_LLM_LIBRARY={asked} asks for a library that Ollama {rules.version} does not bring: unset it, or "
            f"choose of {brought}"
        )  # fmt: skip
    if capability is None:
        return Admission(CUDA)
    shown = device.compute_capability
    builds = [build for build in left if build.has_code_for(capability)]
    if not builds and any(build.has_code_for(capability) for build in rules.gpus.cuda):
        return Admission(
            None, f"OLLAMA_LLM_LIBRARY={asked} has no code for its compute capability {shown}: unset it"
        )
    if not builds:
        least = min(build.least_capability for build in rules.gpus.cuda)
        return Admission(
            None,
            f"its compute capability is {shown}, and Ollama {rules.version} has code for {least[0]}.{least[1]} and above only, "
            "which no driver and no setting changes"
            if capability < least
            else f"Ollama {rules.version} has no code for its compute capability {shown}: upgrade Ollama",
        )
    driver = _major(driver_version)
    if driver is None or any(driver >= build.least_driver(capability) for build in builds):
        return Admission(CUDA)
    needed = min(build.least_driver(capability) for build in builds)
    return Admission(
        None,
        f"Ollama {rules.version} needs NVIDIA's driver {needed} or newer for its compute capability {shown}, and "
        f"{driver_version} is installed: install driver {needed} or newer",
        fails=not all(build.is_dropped(capability, driver) for build in builds),
    )


def _is_left(build: CudaBuild, asked: str) -> bool:
    """Whether OLLAMA_LLM_LIBRARY leaves a build: it names a folder, and no other is looked at."""
    return not asked.startswith("cuda_v") or build.folder in ("", asked)


def _by_rocm(device: GpuDevice, rules: VersionRules, environment: Mapping[str, str]) -> Admission:
    unread = next(
        (
            name
            for name, value in environment.items()
            if re.fullmatch(rf"{_OVERRIDE}(_[0-9]+)?", name) and not is_read_by_rocm(value)
        ),
        "",
    )
    if unread:
        return Admission(
            None, f"{unread}={environment[unread]:.40} is no version such as 10.3.0, and with it ROCm finds no GPU at all: "
            "correct it or unset it"
        )  # fmt: skip
    own = device.memory_own_bytes if device.memory_own_bytes is not None else device.memory_total_bytes
    if own is not None and own < rules.gpus.rocm_least_bytes:
        return Admission(
            None, f"it has {gib(own)} of its own, and Ollama {rules.version} skips AMD GPUs with less than "
            f"{gib(rules.gpus.rocm_least_bytes)}: set more aside for it in the firmware, or upgrade Ollama"
        )  # fmt: skip
    own_number = _numbered(device)
    run_by = next((name for name in (own_number, _OVERRIDE) if name in environment), "")
    run_as = overridden_target(cleaned(environment.get(run_by, "")))
    if run_as and device.gfx_target and _generation(run_as) != _generation(device.gfx_target):
        beside = f"set {own_number}={_version_of(device.gfx_target)} beside it"
        return Admission(
            None, f"{run_by}={environment[run_by]:.40} has it run code of another generation than its own, {device.gfx_target}, "
            f"which fails: {'correct it' if run_by == own_number else beside}",
            fails=True,
        )  # fmt: skip
    target = rocm_target(device, rules, environment)
    if target is None or target in rules.gpus.rocm_targets:
        if run_by == own_number and device.rocm_node is None:
            return Admission(
                ROCM,
                f"{own_number} is taken to be meant for it, while its number among ROCm's nodes is not known",
            )
        if _may_be_dropped(device, rules, environment):
            return Admission(
                ROCM,
                "it is part of the processor, with so much memory set aside that Ollama's own rule does not call it "
                "integrated, while the engine may: where the journal says 'dropping integrated GPU', set "
                "OLLAMA_IGPU_ENABLE=1 in ollama_plan_operator_environment",
            )
        return Admission(ROCM)
    near = _nearest_target(target, rules)
    is_asked = rules.gpus.takes_numbered_override or own_number not in environment
    unasked = "" if is_asked else f", and asks {_OVERRIDE} alone, not {own_number}"
    hint = (
        f"; HSA_OVERRIDE_GFX_VERSION={near} in ollama_plan_operator_environment has it taken for a similar one"
        if near
        else ""
    )
    return Admission(None, f"ROCm as Ollama {rules.version} brings it has no code for {target}{unasked}{hint}")


def _generation(target: str) -> str:
    """What two targets have in common of which one runs the other's code: gfx10 of gfx1030, gfx9 of gfx90a."""
    return target[:-2]


def _nearest_target(target: str, rules: VersionRules) -> str:
    """The value of HSA_OVERRIDE_GFX_VERSION for a target of the same generation that is taken; empty without one.

    Source: ollama docs/gpu.mdx (Overrides on Linux): gfx1034 runs as gfx1030.
    """
    # Of the generations before RDNA no target runs another's code.
    near = min(
        (one for one in rules.gpus.rocm_targets if len(one) == 7 and one[:-1] == target[:-1]), default=""
    )
    return _version_of(near)


def _version_of(target: str) -> str:
    """A target as HSA_OVERRIDE_GFX_VERSION writes it, such as 10.3.0; empty for none."""
    match = re.fullmatch(r"gfx([0-9]+)([0-9a-f])([0-9a-f])", target)
    return f"{match[1]}.{int(match[2], 16)}.{int(match[3], 16)}" if match else ""


def _reaches_by_vulkan(
    own: str, device: GpuDevice, rules: VersionRules, environment: Mapping[str, str], requested: str | None
) -> bool:
    # NVIDIA's Vulkan driver is seldom on a server, and a GPU too old for CUDA is so for it: nothing is planned by it unasked.
    if (own == CUDA and requested != VULKAN) or not _has_vulkan(rules, environment):
        return False
    return not _is_dropped_as_integrated(VULKAN, device, rules, environment)


def _is_dropped_as_integrated(
    library: str, device: GpuDevice, rules: VersionRules, environment: Mapping[str, str]
) -> bool:
    # Vulkan tells of every GPU that shares the system's memory that it is integrated (ggml_vulkan's "uma: 1").
    called_so = device.integrated if library == VULKAN else is_integrated(device)
    target = rocm_target(device, rules, environment)
    if library == ROCM and device.integrated and target in rules.gpus.dropped_targets:
        called_so = True
    if not rules.gpus.drops_integrated or not called_so:
        return False
    allowed = boolean(environment.get("OLLAMA_IGPU_ENABLE"))
    if allowed is not None:
        return not allowed
    if library == CUDA:
        return False
    return library != ROCM or target not in rules.gpus.integrated_targets


def _may_be_dropped(device: GpuDevice, rules: VersionRules, environment: Mapping[str, str]) -> bool:
    """Whether the engine calls a GPU integrated for which Ollama's own rule says nothing.

    Source: llama.cpp ggml_backend_cuda_device_get_type (b10435); the log of ollama issue 16462: type=iGPU with 96 GiB
    set aside.
    """
    return (
        rules.gpus.drops_integrated
        and device.integrated
        and not is_integrated(device)
        and boolean(environment.get("OLLAMA_IGPU_ENABLE")) is None
        and rocm_target(device, rules, environment) not in rules.gpus.integrated_targets
    )


def _integrated_reason(rules: VersionRules) -> str:
    return (
        f"it is integrated, and Ollama {rules.version} does not use it: set OLLAMA_IGPU_ENABLE=1 in "
        "ollama_plan_operator_environment to have it used"
    )


def _major(driver_version: str | None) -> int | None:
    match = re.match(r"[0-9]{1,6}(?=\.|$)", driver_version or "")
    return int(match[0]) if match else None
