# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other variables of the service do to a plan, in words that name variable, value, file and line."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._variables import (
    estimated_by,
    misread,
    without_effect,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules

OVERRIDE = "/etc/systemd/system/ollama.service.d/override.conf"


def service(**foreign: str) -> Service:
    places = {name: f"{OVERRIDE}:{number}" for number, name in enumerate(foreign, start=2)}
    return Service(foreign=foreign, places=places)


def test_a_variable_of_the_engine_makes_a_plan_an_estimate_and_says_where_it_is_set() -> None:
    elsewhere = service(GGML_CUDA_DISABLE_FUSION="1")
    assert estimated_by(elsewhere.foreign, rules("0.33.0"), {"CUDA"}, elsewhere) == (
        f"GGML_CUDA_DISABLE_FUSION=1 ({OVERRIDE}:2) changes the graph, and with it the compute buffer: the plan is an estimate",
    )


@pytest.mark.parametrize(
    ("name", "version", "libraries", "estimated", "words"),
    [
        ("LLAMA_ARG_N_GPU_LAYERS", "0.33.0", {"CUDA"}, True, ""),
        ("LLAMA_ARG_NO_KV_OFFLOAD", "0.33.0", {"ROCm"}, True, ""),
        ("LLAMA_ARG_NO_KV_OFFLOAD", "0.24.0", {"ROCm"}, False, ""),
        ("LLAMA_ARG_CTX_SIZE", "0.33.0", {"CUDA"}, False, "has no effect; remove it"),
        ("GGML_CUDA_NO_VMM", "0.33.0", {"CUDA"}, False, "nothing reads it"),
        ("HSA_OVERRIDE_GFX_VERSION", "0.33.0", {"ROCm"}, True, ""),
        ("HSA_OVERRIDE_GFX_VERSION", "0.33.0", {"CUDA"}, False, "none is planned with"),
        ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", "0.24.0", {"CUDA"}, True, ""),
        ("GGML_CUDA_DISABLE_FUSION", "0.33.0", {"ROCm", "Vulkan"}, True, ""),
        ("GGML_CUDA_DISABLE_FUSION", "0.33.0", set(), False, "by CUDA or ROCm, and none is planned with"),
        ("LLAMA_ARG_CACHE_RAM", "0.33.0", set(), True, ""),
        ("OLLAMA_NUM_PARALLEL", "0.33.0", {"CUDA"}, False, ""),
    ],
)
def test_what_a_variable_changes_depends_on_version_and_gpus(
    name: str, version: str, libraries: set[str], estimated: bool, words: str
) -> None:
    arguments = ({name: "1"}, rules(version), libraries, Service())
    assert bool(estimated_by(*arguments)) is estimated
    idle = without_effect(*arguments)
    assert bool(idle) is bool(words)
    assert all(words in sentence and name in sentence for sentence in idle)


@pytest.mark.parametrize(
    ("value", "version", "is_told"),
    [("20000000000", "0.33.0", True), ("20000000000", "0.24.0", False), ("512", "0.33.0", False), ("2G", "0.33.0", False),
     ("1048576", "0.33.0", True), ("1048575", "0.33.0", False)],
)  # fmt: skip
def test_what_is_set_aside_for_others_is_not_kept_free_from_0_30_on(value: str, version: str, is_told: bool) -> None:
    elsewhere = service(OLLAMA_GPU_OVERHEAD=value)
    said = without_effect(elsewhere.foreign, rules(version), {"CUDA"}, elsewhere)
    assert [f"({OVERRIDE}:2) keeps no GPU memory free" in one and "LLAMA_ARG_FIT_TARGET" in one for one in said] == [
        True
    ] * is_told


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OLLAMA_NUM_GPU", "99", "num_gpu is a parameter of a request or a Modelfile"),
        ("OLLAMA_GPU_LAYERS", "50", "num_gpu is a parameter"),
        ("OLLAMA_NUM_CTX", "8192", "OLLAMA_CONTEXT_LENGTH"),
        ("OLLAMA_NUM_THREADS", "16", "num_thread"),
        ("OLLAMA_MAX_LOADED_MODEL", "2", "did you mean OLLAMA_MAX_LOADED_MODELS?"),
        ("OLLAMA_GPU_OVERHEAD", "512", "is 512 bytes, next to nothing"),
        ("OLLAMA_KEEP_ALIVE", "forever", "is no duration"),
        ("OLLAMA_FLASH_ATTENTION", "enabled", "Ollama would take it for true"),
    ],
)
def test_what_ollama_ignores_or_misreads_is_named_with_file_and_line(
    name: str, value: str, words: str
) -> None:
    (sentence,) = misread(service(**{name: value}), {}, "0.33.0")
    assert sentence.startswith(f"{OVERRIDE}:2: {name}")
    assert words in sentence
    (of_operator,) = misread(Service(), {name: value}, "0.33.0")
    assert of_operator.startswith(f"ollama_plan_operator_environment: {name}")


def test_what_the_plan_or_the_operator_sets_anew_is_not_held_against_another_file() -> None:
    elsewhere = service(OLLAMA_NUM_PARALLEL="many", OLLAMA_KEEP_ALIVE="forever")
    assert misread(elsewhere, {"OLLAMA_KEEP_ALIVE": "-1"}, "0.33.0") == ()


def test_what_is_no_setting_of_ollama_is_left_alone() -> None:
    others = service(PATH="/bin", FOO="x", OLLAMA_HOST="0.0.0.0", OLLAMA_API_KEY="x", OLLAMA_EXPERIMENT="y")
    assert misread(others, {}, "0.33.0") == ()
