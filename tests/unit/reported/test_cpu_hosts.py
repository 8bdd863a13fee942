# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts without a GPU are planned by the arithmetic of system memory, as a real server was seen to run there."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._from_numbers import header_from_numbers
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Plan
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.tests.unit.data import header

GIB = 1 << 30
NAMES = (
    "llama3.2:1b",
    "llama3.2:3b",
    "gemma3:4b",
    "qwen2.5:7b",
    "gemma3:1b",
    "nomic-embed-text",
    "qwen2.5:14b",
)
# Its heads have 80 elements, of which no quantised cache can be made.
PHI = {
    "name": "phi:2.7b",
    "header": header_from_numbers(
        {
            "architecture": "phi2",
            "block_count": 32,
            "embedding_length": 2560,
            "feed_forward_length": 10240,
            "head_count": 32,
            "head_count_kv": 32,
            "context_length": 2048,
            "vocabulary_size": 51200,
        }
    ),
}


def planned(
    gib: int, models: list[dict[str, Any]], wanted: tuple[str, ...] = (), version: str = "0.33.0", **policy: Any
) -> Plan:
    return plan_host(
        gpu={"system_memory_total_bytes": gib * GIB, "devices": []},
        models=models,
        wanted=[WantedModel(name) for name in wanted],
        policy=Policy(**policy),
        version=version,
    )


@pytest.mark.parametrize("count", range(1, 8))
def test_a_further_model_does_not_lower_how_many_are_loaded(count: int) -> None:
    plan = planned(64, [{"name": name, "header": header(name)} for name in NAMES[:count]])
    assert (plan.safe, plan.max_loaded_models) == (True, count)
    assert not any(
        "there is no GPU" in text for text in (*plan.reasons, *(one.reason for one in plan.limits))
    )


@pytest.mark.parametrize(("gib", "most"), [(16, 1), (20, 2)])
def test_fewer_are_loaded_where_system_memory_does_not_suffice(gib: int, most: int) -> None:
    plan = planned(gib, [{"name": name, "header": header(name)} for name in NAMES])
    assert (plan.safe, plan.max_loaded_models) == (True, most)
    assert f"of system memory, and {gib}.0 GiB are available" in plan.reasons[1]


@pytest.mark.parametrize(
    ("policy", "remedies"),
    [
        ({}, "a host with 3 GiB of system memory available"),
        ({"operator_environment": {"OLLAMA_KV_CACHE_TYPE": "q8_0"}}, "another model"),
    ],
)
def test_a_misfit_asks_for_the_system_memory_that_it_takes(policy: dict[str, Any], remedies: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be loaded") as refusal:
        planned(1, [PHI], ("phi:2.7b",), **policy)
    assert ("q8_0" in str(refusal.value)) is bool(policy)
    assert str(refusal.value).endswith(f"what would make it possible: {remedies}")
    assert "GPU" not in str(refusal.value)


def test_the_cache_that_the_engine_refuses_is_the_remedy_where_there_is_room() -> None:
    with pytest.raises(ValueError, match=r"an? f16 KV cache \(ollama_plan_kv_cache_types\)"):
        planned(8, [PHI], ("phi:2.7b",), operator_environment={"OLLAMA_KV_CACHE_TYPE": "q8_0"})


# ollama issue 13227: 512 GB, no GPU, and every model evicts the one before.
@pytest.mark.parametrize(("version", "most"), [("0.12.6", 2), ("0.13.0", 1), ("0.13.1", 2)])
def test_a_release_that_keeps_one_model_without_a_gpu_is_planned_so(version: str, most: int) -> None:
    plan = planned(512, [{"name": name, "header": header(name)} for name in ("gemma3:1b", "qwen2.5:14b")], version=version)
    assert (plan.safe, plan.max_loaded_models) == (True, most)
    assert ("issues/13227): upgrade it to 0.13.1" in " ".join(plan.reasons)) is (most == 1)


def test_two_wanted_models_of_such_a_release_are_a_misfit_that_names_the_upgrade() -> None:
    models = [{"name": name, "header": header(name)} for name in ("gemma3:1b", "qwen2.5:14b")]
    with pytest.raises(ValueError, match=r"evicts gemma3:1b: without a GPU Ollama 0\.13\.0 evicts .* upgrade it to 0\.13\.1"):
        planned(512, models, ("gemma3:1b", "qwen2.5:14b"), version="0.13.0")


# The unit of an appliance (NeuralDrive's ollama.md) lets Ollama have so much, and the kernel kills it beyond.
def test_a_host_whose_unit_limits_memory_is_planned_within_the_limit() -> None:
    facts = {"system_memory_total_bytes": 64 * GIB, "system_memory_limit_bytes": 16 * GIB, "devices": []}
    models = [{"name": name, "header": header(name)} for name in NAMES]
    plan = plan_host(gpu=facts, models=models, version="0.33.0")
    assert (plan.safe, plan.max_loaded_models) == (True, 1)
    assert "and 16.0 GiB are available" in plan.reasons[1]
    assert any("the service may take 16.0 GiB of system memory" in warning for warning in plan.warnings)
