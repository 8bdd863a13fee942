# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs today is judged as a plan is, and what the plan changes of it is said in its operator's terms."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import ServerLog
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Eviction, Plan
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.tests.unit.data import shape


def planned(running: dict[str, str] | None, *names: str, gpus: tuple[int, ...] = (24,), **options: Any) -> Plan:
    return plan_host(
        gpu={"devices": [{"memory_total_bytes": size * GIB} for size in gpus]},
        models=[shape(name).to_dict() for name in names],
        version="0.33.0",
        service=Service(running=running or {}),
        **options,
    )


def test_without_a_service_nothing_is_said_of_today():
    assert planned(None, "llama3.1:8b").today is None


def test_the_values_in_effect_are_ollamas_own_where_none_are_set():
    today = planned({"PATH": "/bin"}, "llama3.1:8b").today
    assert (today.num_parallel, today.context_length, today.max_loaded_models) == (1, 32768, 3)
    assert today.sentences[0] == "1 request at once for each model, 32768 tokens for each request, at most 3 models loaded"


def test_the_context_that_the_server_said_goes_before_the_rule():
    said = Said(ServerLog(version="0.33.0", default_context_length=4096))
    assert planned({"PATH": "/bin"}, "llama3.1:8b", said=said).today.context_length == 4096
    set_anyway = planned({"OLLAMA_CONTEXT_LENGTH": "8192"}, "llama3.1:8b", said=said).today
    assert set_anyway.context_length == 8192


def test_who_evicts_whom_and_what_spills():
    running = {"OLLAMA_MAX_LOADED_MODELS": "1", "OLLAMA_CONTEXT_LENGTH": "8192"}
    today = planned(running, "llama3.2:3b", "gemma3:4b").today
    assert today.evictions == (Eviction("llama3.2:3b", "gemma3:4b"),)
    assert "gemma3:4b evicts llama3.2:3b" in today.sentences
    today = planned({"OLLAMA_NUM_PARALLEL": "16", "OLLAMA_CONTEXT_LENGTH": "32768"}, "llama3.1:8b", gpus=(12,)).today
    assert today.spills == ("llama3.1:8b",)
    assert today.together == 0
    assert "llama3.1:8b does not lie wholly on the GPU" in today.sentences


def test_what_runs_is_judged_by_the_rules_of_the_version_that_is_asked_about():
    running = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_MAX_LOADED_MODELS": "2", "OLLAMA_CONTEXT_LENGTH": "8192"}
    today = {
        version: plan_host(
            gpu={"devices": [{"memory_total_bytes": 24124 << 20}]},
            models=[shape(name).to_dict() for name in ("qwen2.5:14b", "gemma3:4b")],
            version=version,
            service=Service(running=running),
        ).today
        for version in ("0.24.0", "0.33.0")
    }
    assert "all 2 models fit together, whichever is asked for first" in today["0.24.0"].sentences
    assert "gemma3:4b evicts qwen2.5:14b" in today["0.33.0"].sentences


def test_models_that_fit_together():
    running = {"OLLAMA_CONTEXT_LENGTH": "4096"}
    today = planned(running, "llama3.2:3b", "gemma3:4b").today
    assert (today.together, today.evictions) == (2, ())
    assert "all 2 models fit together, whichever is asked for first" in today.sentences
    assert today.gpu_bytes > 4 * GIB


def test_a_shorter_context_comes_first_with_its_price_and_the_way_out():
    plan = planned({"PATH": "/bin"}, "qwen3:14b")
    assert plan.context_length < 32768
    first = plan.difference[0]
    assert first.startswith(f"each request gets {plan.context_length} tokens of context, today 32768: ")
    assert f"that is the price of {plan.num_parallel} slots (1 x " in first
    assert f" or {plan.num_parallel} x {plan.context_length})" in first
    assert "ollama_plan_requests=1" in first
    assert any(reason.startswith("Slots or context: 1 x ") for reason in plan.reasons)


def test_a_context_below_ollamas_own_is_said_also_where_nothing_runs():
    plan = planned(None, "qwen3:14b")
    (sentence,) = plan.difference
    assert f"tokens of context, by Ollama itself {32768}: that is the price of" in sentence


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"context_length": 8192}, "it is the operator's own value; set another ollama_plan_context_length"),
        ({"max_context_length": 8192}, "ollama_plan_max_context_length allows no more; raise it"),
    ],
)
def test_a_context_that_the_operator_made_shorter_is_said_to_be_so(policy, words):
    plan = planned({"OLLAMA_CONTEXT_LENGTH": "16384"}, "llama3.1:8b", policy=Policy(**policy))
    assert plan.difference[0] == f"each request gets 8192 tokens of context, today 16384: {words}"


def test_the_same_values_make_no_difference():
    plan = planned({"PATH": "/bin"}, "llama3.1:8b")
    again = planned(dict(plan.environment), "llama3.1:8b")
    assert again.environment == plan.environment
    assert [one for one in again.difference if "tokens of context" not in one] == []


def test_the_differences_are_requests_context_models_and_memory():
    running = {"OLLAMA_CONTEXT_LENGTH": "4096", "OLLAMA_MAX_LOADED_MODELS": "1"}
    told = planned(running, "llama3.2:3b", "gemma3:4b").difference
    assert "requests at once for each model: 1 today, 4 planned" in told
    assert "models kept loaded together: 1 today, 2 planned" in told
    assert any(one.startswith("context for each request: 4096 today, ") for one in told)
    assert any(one.startswith("GPU memory of loaded models: ") for one in told)


def test_a_context_beyond_what_models_were_trained_for_is_told_as_what_they_use_and_once():
    # llama3.1:8b was trained for 131072 tokens.
    plan = planned({"OLLAMA_CONTEXT_LENGTH": "262144"}, "llama3.1:8b")
    assert "131072 tokens for each request" in plan.today.sentences[0]
    told = [one for one in plan.difference if "context" in one]
    assert len(told) == 1
    assert ", today 131072: " in told[0]
