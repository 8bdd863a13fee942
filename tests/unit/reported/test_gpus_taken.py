# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of public reports whose GPUs Ollama does not use, or not as they look: what is planned for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._amdgpu import read_amdgpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._from_numbers import header_from_numbers
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import read_server_log
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Experience
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Plan
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, header

GIB = 1 << 30
MIB = 1 << 20


def nvidia(
    name: str, capability: str, mib: int, count: int = 1, reserved_mib: int = 0
) -> list[dict[str, Any]]:
    one = {
        "name": name,
        "compute_capability": capability,
        "memory_total_bytes": mib * MIB,
        "memory_free_bytes": (mib - reserved_mib) * MIB,
        "memory_reserved_bytes": reserved_mib * MIB,
    }
    return [{**one, "uuid": f"GPU-{index}-{name}"} for index in range(count)]


def amd(name: str, target: str, mib: int) -> list[dict[str, Any]]:
    return [
        {"name": name, "vendor": "amd", "gfx_target": target, "memory_total_bytes": mib * MIB, "uuid": name}
    ]


def planned(
    devices: list[dict[str, Any]],
    driver: str | None,
    version: str,
    names: tuple[str, ...] = ("qwen2.5:7b",),
    **policy: Any,
) -> Plan:
    return plan_host(
        gpu={"driver_version": driver, "system_memory_total_bytes": 64 * GIB, "devices": devices},
        models=[{"name": name, "header": header(name)} for name in names],
        wanted=[WantedModel(name, requests=2) for name in names],
        policy=Policy(**policy),
        version=version,
    )


GT_710 = nvidia("NVIDIA GeForce GT 710", "3.5", 2048)
RX_7800_XT = amd("RX 7800 XT", "gfx1101", 16368)


@pytest.mark.parametrize(
    ("devices", "driver", "version", "used", "words"),
    [
        pytest.param(
            nvidia("Tesla P40", "6.1", 24576, 2), "535.309.01", "0.32.1", [], "driver 570", id="17290"
        ),
        pytest.param(
            nvidia("Tesla V100-SXM2-16GB", "7.0", 16384), "535.288.01", "0.30.0", [], "driver 550", id="16449"
        ),
        pytest.param(
            nvidia("Tesla V100-SXM2-32GB", "7.0", 32768), "535.104.05", "0.30.5", [], "driver 550", id="16533"
        ),
        pytest.param(
            nvidia("NVIDIA GeForce GTX 1070 Ti", "6.1", 8192, 5),
            "535.247.01",
            "0.30.0",
            [],
            "driver 570",
            id="16415",
        ),
        pytest.param(
            nvidia("NVIDIA GeForce GTX 1070 Ti", "6.1", 8192, 5),
            "570.211.01",
            "0.30.0",
            ["NVIDIA GeForce GTX 1070 Ti"] * 5,
            "",
            id="16415 with a new driver",
        ),
        pytest.param(
            nvidia("Tesla P40", "6.1", 24576), "550.163.01", "0.32.1", [], "driver 570", id="Pascal with 550"
        ),
        pytest.param(
            nvidia("Tesla P40", "6.1", 24576),
            "535.309.01",
            "0.24.0",
            ["Tesla P40"],
            "",
            id="Pascal with 0.24",
        ),
        pytest.param(
            nvidia("Tesla K80", "3.7", 11441, 4), "470.256.02", "0.32.1", [], "5.0 and above", id="1756"
        ),
        pytest.param(
            GT_710, "470.256.02", "0.32.1", [], "compute capability is 3.5", id="a display card alone"
        ),
        pytest.param([*GT_710, *RX_7800_XT], "470.256.02", "0.32.1", ["RX 7800 XT"], "GT 710", id="16626"),
        pytest.param(amd("RX 580", "gfx803", 8192), None, "0.32.1", ["RX 580"], "by Vulkan", id="gfx803"),
        pytest.param(amd("MI50", "gfx906", 32752), None, "0.32.1", ["MI50"], "by Vulkan", id="gfx906"),
        pytest.param(
            amd("MI50", "gfx906", 32752), None, "0.24.0", [], "no code for gfx906", id="gfx906 with 0.24"
        ),
    ],
)
def test_a_plan_uses_the_gpus_that_ollama_uses(
    devices: list[dict[str, Any]], driver: str | None, version: str, used: list[str], words: str
) -> None:
    plan = planned(devices, driver, version)
    assert [gpu.name for gpu in plan.gpus] == used
    assert plan.placement == ("gpu" if used else "cpu")
    assert any(words in warning for warning in plan.warnings)


def test_a_gpu_on_which_every_load_fails_is_hidden() -> None:
    plan = planned(nvidia("Tesla V100-SXM2-16GB", "7.0", 16384), "535.288.01", "0.30.0")
    assert plan.environment["CUDA_VISIBLE_DEVICES"] == "-1"


# Source: ollama issue 17080: of two RTX 4090 CUDA_VISIBLE_DEVICES hides one, and the server names it by Vulkan.
@pytest.mark.parametrize(
    ("version", "more", "by", "basis"),
    [
        ("0.33.0", {}, None, "estimate"),
        ("0.33.0", {}, "Vulkan", "estimate"),
        ("0.33.0", {}, "", "exact"),
        ("0.33.0", {"OLLAMA_VULKAN": "0"}, None, "exact"),
        ("0.33.0", {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, None, "exact"),
        ("0.24.0", {}, None, ""),
    ],
)
def test_a_gpu_that_is_hidden_from_cuda_alone(version: str, more: dict[str, str], by: str | None, basis: str) -> None:
    cards = nvidia("RTX 4090", "8.9", 24564, 2)
    places = {"GPU-a": "0000:01:00.0", "GPU-b": "0000:06:00.0"}
    devices = [{**card, "uuid": uuid, "pci_bus_id": place} for card, (uuid, place) in zip(cards, places.items())]
    lines = ['msg="server config" env="map[CUDA_VISIBLE_DEVICES:GPU-a]"', f'msg="Listening on [::]:11434 (version {version})"']
    taken = [("CUDA", places["GPU-a"]), *([(by, places["GPU-b"])] if by else [])]
    lines += [f'msg="inference compute" id=0 library={library} pci_id={place}' for library, place in taken]
    log = read_server_log([f"time=2026-07-21T10:00:00.000Z level=INFO source=x.go:1 {line}" for line in lines])
    plan = plan_host(
        gpu={"driver_version": "580.95", "system_memory_total_bytes": 64 * GIB, "devices": devices},
        models=[{"name": "qwen2.5:7b", "header": header("qwen2.5:7b")}],
        wanted=[WantedModel("qwen2.5:7b", requests=2)],
        policy=Policy(operator_environment={"CUDA_VISIBLE_DEVICES": "GPU-a", **more}),
        version=version,
        experience=Experience() if by is None else Experience(said=Said(log)),
    )
    assert basis in ("", plan.basis)
    assert any("OLLAMA_VULKAN=0" in warning for warning in plan.warnings) is (basis == "estimate")


# Source: ollama issue 13981: CUDA has no code for the GPU, and the server names it by Vulkan.
@pytest.mark.parametrize(
    ("version", "environment", "by", "basis", "used"),
    [
        ("0.33.0", {}, "", "estimate", 1),
        ("0.33.0", {"OLLAMA_VULKAN": "0"}, "", "exact", 1),
        ("0.33.0", {}, "Vulkan", "estimate", 2),
        ("0.33.0", {}, "CUDA", "exact", 2),
        ("0.33.0", {}, "cpu", "exact", 1),
    ],
)
def test_a_gpu_that_cuda_leaves_and_vulkan_may_take(
    version: str, environment: dict[str, str], by: str, basis: str, used: int
) -> None:
    old, own = {**GT_710[0], "uuid": "GPU-old"}, {**nvidia("RTX 3060", "8.6", 12288)[0], "uuid": "GPU-own"}
    taken = [("GPU-own", "CUDA"), *([("GPU-old", by)] if by != "cpu" else [])]
    lines = ['msg="server config" env="map[]"', f'msg="Listening on 127.0.0.1:11434 (version {version})"']
    lines += [f'msg="inference compute" id={uuid} library={library} pci_id=""' for uuid, library in taken]
    log = read_server_log([f"time=2026-01-30T10:00:00.000Z level=INFO source=x.go:1 {line}" for line in lines])
    plan = plan_host(
        gpu={"driver_version": "580.95", "system_memory_total_bytes": 64 * GIB, "devices": [old, own]},
        models=[{"name": "qwen2.5:7b", "header": header("qwen2.5:7b")}],
        wanted=[WantedModel("qwen2.5:7b", requests=2)],
        policy=Policy(operator_environment=environment),
        version=version,
        experience=Experience(said=Said(log)) if by else Experience(),
    )
    assert (plan.basis, len(plan.gpus)) == (basis, used)
    assert any("by Vulkan" in warning for warning in plan.warnings) is (basis == "estimate")


def test_a_plan_that_rests_on_vulkan_is_an_estimate() -> None:
    assert planned(RX_7800_XT, None, "0.33.0").basis == "exact"
    assert planned(amd("MI50", "gfx906", 32752), None, "0.33.0").basis == "estimate"


def strix(
    sysfs: Callable[[Any], Path], own_gib: float, shared_gib: float, target: int, available_gib: float
) -> Any:
    """The facts of an AMD processor with a GPU, of whose memory so much is set aside."""
    tree = json.loads((DATA / "amdgpu" / "strix_halo_carveout.json").read_text())
    sizes = {
        "mem_info_vram_total": int(own_gib * GIB),
        "mem_info_vis_vram_total": int(own_gib * GIB),
        "mem_info_vram_used": 300 * MIB,
        "mem_info_gtt_total": int(shared_gib * GIB),
        "mem_info_gtt_used": 20 * MIB,
    }
    for path, content in tree.items():
        size = sizes.get(path.rpartition("/")[2])
        if size is not None:
            tree[path] = str(size)
        elif isinstance(content, str):
            banks = content.replace("size_in_bytes 68719476736", f"size_in_bytes {int(own_gib * GIB)}")
            tree[path] = banks.replace("gfx_target_version 110501", f"gfx_target_version {target}")
    system = SystemMemory(int(available_gib * GIB) + 4 * GIB, int(available_gib * GIB))
    devices = [device.to_dict() for device in read_amdgpu(system, sysfs(tree))]
    return {
        "system_memory_total_bytes": system.total_bytes,
        "system_memory_available_bytes": system.available_bytes,
        "devices": devices,
    }


@pytest.mark.parametrize(
    ("own_gib", "shared_gib", "target", "version", "placement", "words"),
    [
        pytest.param(16, 24, 110500, "0.32.1", "gpu", "the engine may", id="890M with 16 GiB"),
        pytest.param(8, 12, 110003, "0.32.1", "cpu", "OLLAMA_IGPU_ENABLE=1", id="780M with 8 GiB"),
        pytest.param(1, 24, 110500, "0.32.1", "cpu", "OLLAMA_IGPU_ENABLE=1", id="16690"),
        pytest.param(1, 24, 110500, "0.24.0", "gpu", "", id="16690 with 0.24"),
        pytest.param(1, 24, 110501, "0.30.0", "cpu", "OLLAMA_IGPU_ENABLE=1", id="16423"),
        pytest.param(96, 15.6, 110501, "0.30.0", "cpu", "OLLAMA_IGPU_ENABLE=1", id="16423 with 96 GiB"),
        pytest.param(1, 24, 110501, "0.30.1", "gpu", "", id="16423 mended"),
    ],
)
def test_integrated_gpus_of_amd(
    sysfs: Callable[[Any], Path],
    own_gib: float,
    shared_gib: float,
    target: int,
    version: str,
    placement: str,
    words: str,
) -> None:
    plan = plan_host(
        gpu=strix(sysfs, own_gib, shared_gib, target, 44),
        models=[{"name": "llama3.1:8b", "header": header("llama3.1:8b")}],
        wanted=[WantedModel("llama3.1:8b", requests=1)],
        version=version,
    )
    assert plan.placement == placement
    assert any(words in warning for warning in plan.warnings)


LLAMA_70B = header_from_numbers(
    {
        "architecture": "llama",
        "block_count": 80,
        "embedding_length": 8192,
        "feed_forward_length": 28672,
        "head_count": 64,
        "head_count_kv": 8,
        "context_length": 131072,
        "vocabulary_size": 128256,
    }
)


def halo_with_96_gib(sysfs: Callable[[Any], Path], version: str) -> Plan:
    return plan_host(
        gpu=strix(sysfs, 96, 15.6, 110501, 27.5),
        models=[{"name": "llama3.3:70b", "header": LLAMA_70B}],
        wanted=[WantedModel("llama3.3:70b", requests=1)],
        version=version,
    )


# Issue 16462: library=ROCm total="96.0 GiB" available="27.5 GiB".
def test_a_large_carve_out_that_the_engine_does_not_count(sysfs: Callable[[Any], Path]) -> None:
    with pytest.raises(ValueError, match=r"counts the 27\.5 GiB.*upgrade Ollama to 0\.32\.15"):
        halo_with_96_gib(sysfs, "0.30.4")
    assert halo_with_96_gib(sysfs, "0.32.15").placement == "gpu"


# Issue 18201: Ollama counts what a CUDA context can use, 94.97 of the 95.59 GiB that nvidia-smi shows.
@pytest.mark.parametrize(
    ("devices", "context_length"),
    [
        (nvidia("RTX 3060", "8.6", 12288, 4, reserved_mib=368), 32768),
        (nvidia("RTX 4060 Ti 16GB", "8.9", 16380, 3, reserved_mib=400), 32768),
        (nvidia("RTX 4090", "8.9", 24564, 2, reserved_mib=346), 262144),
        (nvidia("A10G", "8.6", 23028, 2, reserved_mib=435), 32768),
    ],
)
def test_the_context_tier_counts_what_cuda_can_use(
    devices: list[dict[str, Any]], context_length: int
) -> None:
    plan = plan_host(
        gpu={"driver_version": "580.95.05", "system_memory_total_bytes": 64 * GIB, "devices": devices},
        models=[{"name": "llama3.2:1b", "header": header("llama3.2:1b")}],
        wanted=[WantedModel("llama3.2:1b", requests=1)],
        version="0.32.1",
        service=Service(running={"PATH": "/usr/bin"}),
    )
    assert plan.today is not None
    assert plan.today.context_length == context_length
