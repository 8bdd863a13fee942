# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPU of which host a version of Ollama takes, and by which library."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._admission import (
    admission,
    counted_free_bytes,
    counted_note,
    is_integrated,
    overridden_target,
    requested_library,
    unmeasured_note,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, UnmeasuredGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from hypothesis import given
from hypothesis import strategies as st

GIB = 1 << 30


def gpu(vendor: str = "nvidia", **values: Any) -> GpuDevice:
    return GpuDevice(
        **{
            "index": 0,
            "uuid": "GPU-0",
            "pci_bus_id": "0000:01:00.0",
            "vendor": vendor,
            "name": "",
            "memory_total_bytes": 16 * GIB,
            "memory_free_bytes": 15 * GIB,
            **values,
        }
    )


def nvidia(capability: str | None, **values: Any) -> GpuDevice:
    return gpu(compute_capability=capability, **values)


def amd(target: str | None, **values: Any) -> GpuDevice:
    return gpu("amd", gfx_target=target, **values)


def apu(target: str, own_gib: float = 0.5, shared_gib: float = 16, **values: Any) -> GpuDevice:
    divided = {"memory_own_bytes": int(own_gib * GIB), "memory_shared_bytes": int(shared_gib * GIB)}
    return amd(target, integrated=True, unified_memory=True, **divided, **values)


# Sources of the rows: ollama issues 17290, 16449, 16415, 16533, 1756, 16626; discover/cuda_compat.go.
@pytest.mark.parametrize(
    ("capability", "driver", "version", "library", "words"),
    [
        ("6.1", "535.309.01", "0.32.1", None, "driver 570 or newer"),
        ("6.1", "535.309.01", "0.24.0", "CUDA", ""),
        ("6.1", "550.163.01", "0.32.1", None, "570"),
        ("6.1", "570.86.10", "0.32.1", "CUDA", ""),
        ("5.2", "569.99", "0.30.5", None, "570"),
        ("7.0", "535.288.01", "0.30.5", None, "550"),
        ("7.0", "549", "0.33.0", None, "550"),
        ("7.0", "550", "0.33.0", "CUDA", ""),
        ("8.9", "535.54.03", "0.30.11", None, "550"),
        ("3.7", "470.256.02", "0.32.1", None, "code for 5.0 and above"),
        ("3.5", "470.256.02", "0.24.0", None, "compute capability is 3.5"),
        ("10.0", "570.172.08", "0.32.1", None, "580"),
        ("10.0", "570.172.08", "0.32.2", "CUDA", ""),
        ("12.1", "570.172.08", "0.33.0", None, "580"),
        ("8.7", "580.95.05", "0.30.5", None, "upgrade Ollama"),
        (None, "470.256.02", "0.33.0", "CUDA", ""),
        ("6.1", None, "0.33.0", "CUDA", ""),
        ("6.1", "unknown", "0.33.0", "CUDA", ""),
    ],
)
def test_cuda_gpus_are_taken_by_compute_capability_and_driver(
    capability: str | None, driver: str | None, version: str, library: str | None, words: str
) -> None:
    answer = admission(nvidia(capability), rules(version), {}, driver)
    assert answer.library == library
    assert words in answer.reason
    assert bool(answer.reason) is (library is None)


# Sources: ollama discover/runner.go (GPUDevices: filepath.Base(dir) != requested), v0.30.0 to v0.33.0-rc2; issue 14110.
@pytest.mark.parametrize(
    ("capability", "asked", "version", "library", "words"),
    [
        ("8.6", "cuda_v12", "0.33.0", "CUDA", ""),
        ("8.6", '"cuda_v13"', "0.33.0", "CUDA", ""),
        ("8.6", "cuda_v11", "0.33.0", None, "does not bring: unset it, or choose of cuda_v12 and cuda_v13"),
        (None, "cuda_v11", "0.33.0", None, "does not bring"),
        ("6.1", "cuda_v13", "0.33.0", None, "cuda_v13 has no code for its compute capability 6.1: unset it"),
        ("6.1", "cuda_v12", "0.33.0", "CUDA", ""),
        ("10.3", "cuda_v12", "0.33.0", None, "cuda_v12 has no code for its compute capability 10.3"),
        ("3.5", "cuda_v12", "0.33.0", None, "code for 5.0 and above"),
        ("8.6", "cuda_v11", "0.11.0", "CUDA", ""),
        ("8.6", "cuda", "0.33.0", None, "leaves CUDA out"),
    ],
)
def test_one_library_alone_takes_what_it_has_code_for(
    capability: str | None, asked: str, version: str, library: str | None, words: str
) -> None:
    answer = admission(nvidia(capability), rules(version), {"OLLAMA_LLM_LIBRARY": asked}, "580.95.05")
    assert (answer.library, bool(answer.reason)) == (library, library is None)
    assert words in answer.reason


# Source: ollama discover/amd_linux.go (IGPUMemLimit) up to 0.12.3; its log: "unsupported Radeon iGPU detected skipping".
@pytest.mark.parametrize(
    ("own_gib", "version", "is_taken"),
    [(0.5, "0.12.3", False), (1, "0.12.3", True), (0.5, "0.12.4", True), (0.5, "0.24.0", True)],
)
def test_an_amd_gpu_with_little_memory_of_its_own_was_skipped_once(
    own_gib: float, version: str, is_taken: bool
) -> None:
    answer = admission(apu("gfx1030", own_gib=own_gib), rules(version), {}, None)
    assert (answer.library == "ROCm") is is_taken
    assert ("it has 0.5 GiB of its own" in answer.reason) is not is_taken


@pytest.mark.parametrize(("version", "fails"), [("0.30.10", True), ("0.30.11", False)])
def test_a_gpu_that_ollama_takes_and_fails_on_has_to_be_hidden(version: str, fails: bool) -> None:
    assert admission(nvidia("7.0"), rules(version), {}, "535.288.01").fails is fails


@pytest.mark.parametrize("version", ["0.24.0", "0.30.5", "0.33.0"])
def test_a_jetson_has_builds_of_its_own(version: str) -> None:
    orin = nvidia("8.7", integrated=True, unified_memory=True)
    assert admission(orin, rules(version), {}, "540.4.0").library == "CUDA"


@pytest.mark.parametrize(
    ("target", "version", "environment", "library", "words"),
    [
        ("gfx1100", "0.33.0", {}, "ROCm", ""),
        (None, "0.33.0", {}, "ROCm", ""),
        ("gfx803", "0.33.0", {}, "Vulkan", "no code for gfx803"),
        ("gfx906", "0.33.0", {}, "Vulkan", "Vulkan driver"),
        ("gfx906", "0.33.0", {"OLLAMA_VULKAN": "0"}, None, "gfx906"),
        ("gfx906", "0.33.0", {"GGML_VK_VISIBLE_DEVICES": "-1"}, None, "gfx906"),
        ("gfx906", "0.24.0", {}, None, "gfx906"),
        ("gfx906", "0.24.0", {"OLLAMA_VULKAN": "1"}, "Vulkan", "gfx906"),
        ("gfx906", "0.12.10", {"OLLAMA_VULKAN": "1"}, None, "gfx906"),
        ("gfx906", "0.12.3", {}, "ROCm", ""),
        ("gfx1034", "0.33.0", {"OLLAMA_VULKAN": "0"}, None, "HSA_OVERRIDE_GFX_VERSION=10.3.0"),
        ("gfx1034", "0.33.0", {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}, "ROCm", ""),
        # Another generation's code runs on none, whether Ollama takes it or not (ROCm legacy-rocm-build issue 5069).
        ("gfx1200", "0.33.0", {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}, None, "set HSA_OVERRIDE_GFX_VERSION_1=12.0.0 beside it"),
        ("gfx1100", "0.33.0", {"HSA_OVERRIDE_GFX_VERSION_1": "10.3.0"}, None, "its own, gfx1100, which fails: correct it"),
        ("gfx1100", "0.33.0", {"HSA_OVERRIDE_GFX_VERSION": "10.3.0", "HSA_OVERRIDE_GFX_VERSION_1": "11.0.0"}, "ROCm", ""),
        ("gfx90c", "0.33.0", {"HSA_OVERRIDE_GFX_VERSION": "9.0.8"}, "ROCm", ""),
        ("gfx1032", "0.24.0", {"HSA_OVERRIDE_GFX_VERSION": "gfx1030"}, None, "no version such as 10.3.0"),
        ("gfx1100", "0.24.0", {"HSA_OVERRIDE_GFX_VERSION": "10.3"}, None, "VERSION=10.3 is no version"),
        ("gfx1100", "0.24.0", {"HSA_OVERRIDE_GFX_VERSION": ""}, None, "correct it or unset it"),
        ("gfx1100", "0.24.0", {"HSA_OVERRIDE_GFX_VERSION": "11.0.0 "}, None, "ROCm finds no GPU at all"),
        ("gfx1100", "0.24.0", {"HSA_OVERRIDE_GFX_VERSION_0": "64.0.0"}, None, "VERSION_0=64.0.0"),
        ("gfx1100", "0.33.0", {"HSA_OVERRIDE_GFX_VERSION": "11"}, "Vulkan", "VERSION=11 is no version"),
        ("gfx1100", "0.33.0", {"OLLAMA_LLM_LIBRARY": "cpu"}, None, "OLLAMA_LLM_LIBRARY=cpu"),
        ("gfx1100", "0.33.0", {"OLLAMA_LLM_LIBRARY": "vulkan"}, "Vulkan", "OLLAMA_LLM_LIBRARY=vulkan"),
        ("gfx1100", "0.33.0", {"OLLAMA_LLM_LIBRARY": "rocm_v7_2"}, "ROCm", ""),
        ("gfx1100", "0.33.0", {"OLLAMA_LLM_LIBRARY": "cuda_v12"}, None, "cuda_v12"),
    ],
)
def test_amd_gpus_are_taken_by_target_or_by_vulkan(
    target: str | None, version: str, environment: dict[str, str], library: str | None, words: str
) -> None:
    answer = admission(amd(target, rocm_node=1), rules(version), environment, None)
    assert answer.library == library
    assert words in answer.reason
    assert bool(answer.reason) is (library != "ROCm")


# ROCm counts the processors' nodes too, so that the first GPU of a host with two is 2. Sources: ROCR-Runtime
# libhsakmt/src/topology.c; ROCT-Thunk-Interface pull request 104; ollama issues 10033 and 8473, discover/native_probe_linux.go.
@pytest.mark.parametrize(
    ("node", "version", "number", "library", "words"),
    [
        (1, "0.24.0", 1, "ROCm", ""),
        (2, "0.24.0", 2, "ROCm", ""),
        (2, "0.24.0", 0, None, "gfx1032"),
        (2, "0.24.0", 1, None, "gfx1032"),
        (None, "0.24.0", 1, "ROCm", "number among ROCm's nodes is not known"),
        (None, "0.24.0", 0, None, "gfx1032"),
        (1, "0.12.3", 1, None, "asks HSA_OVERRIDE_GFX_VERSION alone, not HSA_OVERRIDE_GFX_VERSION_1"),
        (1, "0.12.4", 1, "ROCm", ""),
        (1, "0.30.0", 1, "Vulkan", "asks HSA_OVERRIDE_GFX_VERSION alone, not HSA_OVERRIDE_GFX_VERSION_1"),
        (1, "0.30.0", 2, "Vulkan", "no code for gfx1032; HSA_OVERRIDE_GFX_VERSION=10.3.0"),
    ],
)
def test_an_override_of_one_gpu_goes_by_its_number_among_rocms_nodes(
    node: int | None, version: str, number: int, library: str | None, words: str
) -> None:
    environment = {f"HSA_OVERRIDE_GFX_VERSION_{number}": "10.3.0"}
    answer = admission(amd("gfx1032", rocm_node=node), rules(version), environment, None)
    assert answer.library == library
    assert words in answer.reason


# Sources of the rows: ollama issues 9503 and 18067, jetson-containers issue 877 (a Nano); CMakePresets.json.
@pytest.mark.parametrize(
    ("capability", "library", "words"),
    [
        ("5.3", None, "builds for 7.2 and 8.7 only"),
        ("6.2", None, "builds for 7.2 and 8.7 only"),
        ("7.2", "CUDA", "build for the JetPack"),
        ("8.7", "CUDA", "build for the JetPack"),
        ("11.0", "CUDA", ""),
        ("12.1", "CUDA", ""),
    ],
)
def test_a_jetson_is_used_where_there_is_a_build_for_it(capability: str, library: str | None, words: str) -> None:
    answer = admission(nvidia(capability, integrated=True), rules("0.33.0"), {}, "540.4.0")
    assert answer.library == library
    assert words in answer.reason
    assert bool(answer.reason) is bool(words)


# Sources of the rows: ollama issues 13286 (two RTX 3060 and an Arc B580) and 12720 (an Arc B580 alone).
@pytest.mark.parametrize(
    ("vendor", "place", "version", "environment", "may_be_used"),
    [
        ("intel", "0000:03:00.0", "0.33.0", {}, True),
        ("intel", "0000:03:00.0", "0.33.0", {"OLLAMA_VULKAN": "0"}, False),
        ("intel", "0000:03:00.0", "0.33.0", {"OLLAMA_LLM_LIBRARY": "cuda_v13"}, False),
        ("intel", "0000:03:00.0", "0.33.0", {"GGML_VK_VISIBLE_DEVICES": "-1"}, False),
        ("intel", "0000:03:00.0", "0.24.0", {}, False),
        ("intel", "0000:03:00.0", "0.24.0", {"OLLAMA_VULKAN": "1"}, True),
        ("intel", "0000:03:00.0", "0.12.10", {"OLLAMA_VULKAN": "1"}, False),
        # Part of the processor, and dropped for it from 0.30 on.
        ("intel", "0000:00:02.0", "0.33.0", {}, False),
        ("intel", "0000:00:02.0", "0.33.0", {"OLLAMA_IGPU_ENABLE": "1"}, True),
        ("intel", "0000:00:02.0", "0.24.0", {"OLLAMA_VULKAN": "1"}, True),
        # What CUDA or ROCm would reach is a fault, which is told elsewhere.
        ("nvidia", "0000:03:00.0", "0.33.0", {}, False),
    ],
)
def test_a_gpu_whose_memory_is_not_known_may_be_used_by_vulkan(
    vendor: str, place: str, version: str, environment: dict[str, str], may_be_used: bool
) -> None:
    note = unmeasured_note(UnmeasuredGpu(place, vendor, "0x56a0", ""), rules(version), environment)
    assert ("OLLAMA_VULKAN=0" in note) is may_be_used


@pytest.mark.parametrize("value", ["10.3.0", "11.0.0"])
def test_a_gpu_that_is_to_run_another_generations_code_is_hidden(value: str) -> None:
    environment = {"HSA_OVERRIDE_GFX_VERSION": value}
    assert admission(amd("gfx1200"), rules("0.33.0"), environment, None).fails


# Sources of the rows: ollama issues 16423, 16462, 16690; discover/runner.go, discover/amd.go.
@pytest.mark.parametrize(
    ("device", "version", "environment", "library"),
    [
        (apu("gfx1150"), "0.24.0", {}, "ROCm"),
        (apu("gfx1150"), "0.32.1", {}, None),
        (apu("gfx1150"), "0.32.1", {"OLLAMA_IGPU_ENABLE": "1"}, "ROCm"),
        (apu("gfx1150"), "0.32.1", {"OLLAMA_IGPU_ENABLE": "yes"}, "ROCm"),
        (apu("gfx1150", own_gib=16, shared_gib=24), "0.32.1", {}, "ROCm"),
        (apu("gfx1103"), "0.30.5", {"OLLAMA_IGPU_ENABLE": "1"}, "ROCm"),
        (apu("gfx1103"), "0.32.1", {"OLLAMA_IGPU_ENABLE": "1"}, "Vulkan"),
        (apu("gfx1103", own_gib=8, shared_gib=12), "0.32.1", {}, None),
        (apu("gfx1151"), "0.30.0", {}, None),
        (apu("gfx1151", own_gib=96), "0.30.0", {}, None),
        (apu("gfx1151"), "0.30.1", {}, "ROCm"),
        (apu("gfx1151", own_gib=96), "0.30.4", {}, "ROCm"),
        (apu("gfx1151"), "0.33.0", {"OLLAMA_IGPU_ENABLE": "0"}, None),
        (nvidia("12.1", integrated=True), "0.33.0", {}, "CUDA"),
        (nvidia("12.1", integrated=True), "0.33.0", {"OLLAMA_IGPU_ENABLE": "'0'"}, None),
    ],
)
def test_integrated_gpus_are_taken_by_their_kind_or_when_asked_to(
    device: GpuDevice, version: str, environment: dict[str, str], library: str | None
) -> None:
    answer = admission(device, rules(version), environment, None)
    assert answer.library == library
    assert ("OLLAMA_IGPU_ENABLE=1" in answer.reason) is (
        library is None or device.memory_own_bytes == 16 * GIB
    )


@pytest.mark.parametrize(
    ("own_gib", "shared_gib", "integrated"),
    [(0.5, 16, True), (4, 16, True), (4, 15.9, False), (4.1, 32, False), (1, 8, True), (1, 7.9, False)],
)
def test_ollama_calls_a_gpu_integrated_by_how_its_memory_is_divided(
    own_gib: float, shared_gib: float, integrated: bool
) -> None:
    assert is_integrated(apu("gfx1150", own_gib, shared_gib)) is integrated


def test_a_gpu_of_which_that_is_not_told_is_what_it_is_said_to_be() -> None:
    assert is_integrated(amd("gfx1150", integrated=True))
    assert not is_integrated(amd("gfx1100"))


@pytest.mark.parametrize(
    ("version", "available_gib", "free_gib"),
    [
        ("0.30.4", 27.5, 27.5),
        ("0.32.14", 27.5, 27.5),
        ("0.32.15", 27.5, 95.5),
        ("0.24.0", 27.5, 95.5),
        ("0.30.4", 200, 96),
    ],
)
def test_an_engine_that_counts_what_the_system_has_available(
    version: str, available_gib: float, free_gib: float
) -> None:
    halo = apu("gfx1151", own_gib=96, memory_total_bytes=96 * GIB, memory_free_bytes=int(95.5 * GIB))
    available = int(available_gib * GIB)
    assert counted_free_bytes(halo, rules(version), {}, available) == int(free_gib * GIB)
    assert ("upgrade Ollama to 0.32.15" in counted_note(halo, rules(version), {}, available)) is (free_gib < 95.5)


def test_of_a_gpu_of_its_own_memory_that_counts() -> None:
    assert counted_free_bytes(amd("gfx1100"), rules("0.30.4"), {}, GIB) == 15 * GIB
    assert counted_free_bytes(apu("gfx1151"), rules("0.30.4"), {}, None) == 15 * GIB


@pytest.mark.parametrize(
    ("device", "version", "available_gib", "free_gib"),
    [
        (nvidia("8.6"), "0.33.0", 12, 12),
        (nvidia("8.6"), "0.33.0", 60, 15),
        (amd("gfx1100"), "0.32.14", 12, 12),
        (amd("gfx1100"), "0.32.15", 12, 15),
    ],
)
def test_unified_memory_by_the_environment_counts_what_the_system_has(
    device: GpuDevice, version: str, available_gib: int, free_gib: int
) -> None:
    environment = {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": ""}
    assert counted_free_bytes(device, rules(version), environment, available_gib * GIB) == free_gib * GIB
    note = counted_note(device, rules(version), environment, available_gib * GIB)
    assert ("unset GGML_CUDA_ENABLE_UNIFIED_MEMORY" in note) is (free_gib == 12)


@pytest.mark.parametrize(
    ("value", "library"),
    [
        ("", None),
        (" ", None),
        ("mlx_cuda_v13", None),
        ("cuda_v12", "CUDA"),
        ("'cuda_jetpack6'", "CUDA"),
        ("rocm", "ROCm"),
        ("vulkan", "Vulkan"),
        ("cpu", ""),
        ("cpu_avx2", ""),
        ("cuda", ""),
    ],
)
def test_the_library_that_is_asked_for(value: str, library: str | None) -> None:
    assert requested_library({"OLLAMA_LLM_LIBRARY": value}) == library


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.3.0", "gfx1030"),
        ("11.0.3", "gfx1103"),
        ("9.0.10", "gfx90a"),
        ("gfx1100", None),
        ("11.0", None),
        ("16.0.0", None),
        ("", None),
        ("eleven", None),
    ],
)
def test_what_an_override_makes_of_a_gpu(text: str, target: str | None) -> None:
    assert overridden_target(text) == target


@given(st.text(), st.text(), st.text(), st.sampled_from(["0.10.0", "0.24.0", "0.30.0", "0.33.0"]))
def test_whatever_a_host_says_there_is_an_answer(
    capability: str, driver: str, value: str, version: str
) -> None:
    environment = {
        "HSA_OVERRIDE_GFX_VERSION": value,
        "OLLAMA_LLM_LIBRARY": value,
        "OLLAMA_IGPU_ENABLE": value,
    }
    for device in (nvidia(capability), amd(capability), apu(capability)):
        answer = admission(device, rules(version), environment, driver)
        assert answer.library or answer.reason
