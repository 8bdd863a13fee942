# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of public overrides that change what the engine does: what a plan says of them."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.tests.unit.data import header

GIB = 1 << 30
RTX_3060 = {"name": "RTX 3060", "compute_capability": "8.6", "memory_total_bytes": 12 * GIB}
OVERRIDE = "/etc/systemd/system/ollama.service.d/override.conf"


# Sources: ollama pull request 9073, issue 16536; llama.cpp issues 18159, 20472; overrides in public repositories.
@pytest.mark.parametrize("is_operators", [True, False])
@pytest.mark.parametrize(
    ("environment", "placement", "basis", "words"),
    [
        ({}, "gpu", "exact", ""),
        ({"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"}, "gpu", "estimate", "GGML_CUDA_ENABLE_UNIFIED_MEMORY=1"),
        ({"GGML_CUDA_DISABLE_FUSION": "1"}, "gpu", "estimate", "GGML_CUDA_DISABLE_FUSION=1"),
        ({"GGML_CUDA_NO_VMM": "1"}, "gpu", "exact", "GGML_CUDA_NO_VMM=1"),
        ({"OLLAMA_LLM_LIBRARY": "cpu"}, "cpu", "exact", "OLLAMA_LLM_LIBRARY=cpu"),
        ({"OLLAMA_VULKAN": "1", "OLLAMA_LLM_LIBRARY": "vulkan"}, "gpu", "estimate", "by Vulkan"),
        ({"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}, "gpu", "exact", "HSA_OVERRIDE_GFX_VERSION=10.3.0"),
        ({"LLAMA_ARG_N_GPU_LAYERS": "10"}, "gpu", "estimate", "LLAMA_ARG_N_GPU_LAYERS=10"),
        ({"LLAMA_ARG_CTX_SIZE": "2048"}, "gpu", "exact", "LLAMA_ARG_CTX_SIZE=2048"),
        ({"LLAMA_ARG_NO_KV_OFFLOAD": "1"}, "gpu", "estimate", "LLAMA_ARG_NO_KV_OFFLOAD=1"),
        ({"LLAMA_ARG_CACHE_RAM": "0"}, "gpu", "exact", ""),
        ({"LLAMA_ARG_CACHE_IDLE_SLOTS": "1"}, "gpu", "estimate", "LLAMA_ARG_CACHE_IDLE_SLOTS=1"),
        ({"OLLAMA_NUM_GPU": "99"}, "gpu", "exact", "OLLAMA_NUM_GPU is no setting of Ollama"),
        ({"OLLAMA_GPU_OVERHEAD": "512"}, "gpu", "exact", "OLLAMA_GPU_OVERHEAD=512 is 512 bytes"),
    ],
)
def test_a_plan_counts_with_a_variable_or_says_that_it_cannot(
    environment: dict[str, str], placement: str, basis: str, words: str, is_operators: bool
) -> None:
    places = {name: f"{OVERRIDE}:{line}" for line, name in enumerate(environment, start=2)}
    plan = plan_host(
        gpu={"system_memory_total_bytes": 64 * GIB, "devices": [RTX_3060]},
        models=[{"name": "qwen2.5:14b", "header": header("qwen2.5:14b")}],
        wanted=[WantedModel("qwen2.5:14b", requests=2)],
        policy=Policy(operator_environment=environment) if is_operators else Policy(),
        service=Service() if is_operators else Service(foreign=environment, places=places),
        version="0.33.0",
    )
    assert (plan.placement, plan.basis) == (placement, basis)
    saying = [warning for warning in plan.warnings if words and words in warning]
    assert bool(saying) is bool(words)
    if words and not is_operators and placement == "gpu" and "Vulkan" not in words:
        assert OVERRIDE in saying[0]


# Sources: ollama issues 18264, 18072 and 17351: 8 GiB of system memory for a model that lies wholly on a GPU, by llama-server's
# own default; pull request home-ops 13936: three models of a host with 6 GiB.
@pytest.mark.parametrize(
    ("gib", "environment", "version", "most"),
    [
        (6, {}, "0.33.0", "up to 8.0 GiB"),
        (16, {}, "0.33.0", "up to 8.0 GiB"),
        (18, {}, "0.33.0", ""),
        (6, {"LLAMA_ARG_CACHE_RAM": "512"}, "0.33.0", ""),
        (6, {"LLAMA_ARG_CACHE_RAM": "4096"}, "0.33.0", "up to 4.0 GiB"),
        (64, {"LLAMA_ARG_CACHE_RAM": "-1"}, "0.33.0", "whatever there is"),
        (6, {"LLAMA_ARG_CACHE_RAM": "much"}, "0.33.0", "up to 8.0 GiB"),
        (6, {}, "0.24.0", ""),
    ],
)
def test_past_prompts_that_may_not_fit_system_memory_are_told(
    gib: int, environment: dict[str, str], version: str, most: str
) -> None:
    names = ("llama3.2:1b", "llama3.2:3b", "nomic-embed-text")
    plan = plan_host(
        gpu={"system_memory_total_bytes": gib * GIB, "devices": [RTX_3060]},
        models=[{"name": name, "header": header(name)} for name in names],
        wanted=[WantedModel(name, requests=1) for name in names],
        policy=Policy(operator_environment=environment, context_length=4096),
        version=version,
    )
    said = [warning for warning in plan.warnings if "past prompts in system memory" in warning]
    assert bool(said) is bool(most)
    assert all(f"each loaded model keeps past prompts in system memory, {most} beside" in one for one in said)
