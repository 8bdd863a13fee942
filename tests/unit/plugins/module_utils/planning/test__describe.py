# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan says of each model and each GPU is one and the same, whether it is safe or not."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Plan
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    Policy,
    WantedModel,
    policy_from_dict,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._present import plan_lines
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from hypothesis import assume, given, settings
from hypothesis import strategies as st

GIB = 1 << 30
MIB = 1 << 20
ERAS = ("0.10.0", "0.11.0", "0.12.6", "0.24.0", "0.30.0", "0.33.0")
MODELS = ("llama3.2_1b", "gemma3_4b", "llama3.1_8b", "gpt-oss_20b", "qwen2.5_32b", "qwen3.5_9b", "mxbai-embed-large")
PARTS = ("weights_bytes", "kv_cache_bytes", "compute_bytes", "projector_bytes", "projector_compute_bytes", "cuda_context_bytes")


def planned(
    sizes_mib: list[int],
    names: list[str],
    policy: Policy,
    version: str = "0.33.0",
    capability: str = "8.6",
    wanted: bool = True,
) -> Plan:
    devices = [
        {"memory_total_bytes": size * MIB, "memory_free_bytes": size * MIB, "compute_capability": capability}
        for size in sizes_mib
    ]
    return plan_host(
        gpu={"system_memory_total_bytes": 128 * GIB, "devices": devices},
        models=[shape(name).to_dict() for name in names],
        wanted=[WantedModel(shape(name).name) for name in names] if wanted else [],
        policy=policy,
        version=version,
    )


policies = st.builds(
    Policy,
    requests=st.integers(1, 4),
    num_parallel=st.sampled_from((None, None, 1, 8)),
    max_context_length=st.sampled_from((8192, 65536)),
    kv_cache_types=st.sampled_from((("f16",), ("q8_0",))),
    spread=st.sampled_from(("auto", "always", "never")),
    operator_environment=st.sampled_from(
        ({}, {}, {"OLLAMA_FLASH_ATTENTION": "0"}, {"LLAMA_ARG_FIT_TARGET": "256"}, {"OLLAMA_KEEP_ALIVE": "0"})
    ),
    on_misfit=st.just("subset"),
)


@given(
    st.lists(st.integers(3 * 1024, 48 * 1024), min_size=1, max_size=4),
    st.lists(st.sampled_from(MODELS), min_size=1, max_size=3, unique=True),
    policies,
    st.sampled_from(ERAS),
    st.sampled_from(("8.6", "8.6", "5.2", "6.1")),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_what_models_take_of_a_gpu_is_what_is_planned_on_it(
    sizes_mib: list[int], names: list[str], policy: Policy, version: str, capability: str, wanted: bool
) -> None:
    try:
        plan = planned(sizes_mib, names, policy, version, capability, wanted)
    except ValueError as refusal:
        # A quantised cache without flash attention is refused, and what does not fit.
        refused = r"the wanted models .* cannot be loaded|operator_environment turns OLLAMA_FLASH_ATTENTION off"
        assume(not re.match(refused, str(refusal)))
        raise
    of_models: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(PARTS, 0))
    for model in plan.models:
        for share in model.gpus if not model.evicted_by else ():
            for part in PARTS:
                of_models[share.index][part] += getattr(share, part)
    for gpu in plan.gpus:
        assert gpu.parts_bytes == gpu.planned_bytes
        assert gpu.others_bytes + gpu.planned_bytes + gpu.free_bytes == gpu.total_bytes
        if wanted:
            assert of_models[gpu.index] == {part: getattr(gpu, part) for part in PARTS}
    if plan.safe:
        assert not any(model.system_memory_layers or model.evicted_by for model in plan.models)


@pytest.mark.parametrize("version", ERAS)
def test_of_a_model_over_two_gpus_each_layer_lies_somewhere(version: str) -> None:
    plan = planned([16384, 16384], ["qwen2.5_32b"], policy_from_dict({"context_length": 8192}), version)
    (model,) = plan.models
    assert plan.safe
    assert sum(share.layers for share in model.gpus) == shape("qwen2.5_32b").block_count + 1
    assert sum(share.total_bytes for share in model.gpus) == sum(gpu.planned_bytes for gpu in plan.gpus)


@pytest.mark.parametrize("version", ERAS)
def test_a_spilled_model_is_shown_where_it_lies(version: str) -> None:
    plan = planned([8192], ["llama3.1_8b"], policy_from_dict({"num_parallel": 8, "context_length": 8192}), version)
    (model,) = plan.models
    (share,) = model.gpus
    assert not plan.safe
    assert share.total_bytes == plan.gpus[0].planned_bytes <= 8 * GIB
    assert share.layers + model.system_memory_layers == 33
    held = share.weights_bytes + share.kv_cache_bytes
    of_all_layers = shape("llama3.1_8b").text_bytes + 8 * 8192 * 131072
    assert of_all_layers - MIB < held + model.system_memory_bytes < of_all_layers + 128 * MIB
    rows = [line.split() for line in plan_lines(plan.to_dict(), "h")]
    assert ["CPU,", str(model.system_memory_layers), "layers"] in [row[:3] for row in rows]


def test_a_model_that_another_evicts_takes_nothing_in_the_end() -> None:
    policy = policy_from_dict({"num_parallel": 8, "context_length": 8192})
    plan = planned([14 * 1024], ["llama3.1_8b", "gemma3_4b"], policy)
    first, second = sorted(plan.models, key=lambda model: not model.evicted_by)
    assert not plan.safe
    assert (first.evicted_by, second.evicted_by) == (second.name, "")
    assert sum(share.total_bytes for share in second.gpus) == plan.gpus[0].planned_bytes
    assert any("until evicted" in line for line in plan_lines(plan.to_dict(), "h"))


def test_models_that_are_unloaded_at_once_are_planned_as_those_that_stay() -> None:
    plans = []
    for keep_alive in ("0", "5m", "-1"):
        policy = policy_from_dict({"requests": 8, "operator_environment": {"OLLAMA_KEEP_ALIVE": keep_alive}})
        plan = planned([24 << 10], ["llama3.1_8b", "gemma3_4b"], policy)
        plans.append((plan.num_parallel, plan.context_length, plan.gpus))
    assert plans[0] == plans[1] == plans[2]
    assert plans[0][2][0].planned_bytes > 0


def on_the_cpu(system_gib: int, names: list[str], **policy: object) -> Plan:
    return plan_host(
        gpu={"system_memory_total_bytes": system_gib * GIB, "devices": []},
        models=[shape(name).to_dict() for name in names],
        wanted=[WantedModel(shape(name).name) for name in names],
        policy=policy_from_dict(policy),
        version="0.33.0",
    )


def test_without_a_gpu_it_is_judged_by_the_memory_that_is_shown() -> None:
    parallels = []
    for system_gib in range(61, 70):
        plan = on_the_cpu(system_gib, ["mixtral_8x7b", "command-r_35b", "gemma4_26b"], requests=3, context_length=4096)
        parallels.append(plan.num_parallel)
        assert plan.safe
        assert sum(model.system_memory_bytes for model in plan.models) <= system_gib * GIB
    assert parallels == sorted(parallels)
    assert len(set(parallels)) > 1


def test_what_the_engine_refuses_on_a_cpu_is_a_reason_and_not_the_end() -> None:
    plan = on_the_cpu(64, ["phi4_14b"], requests=4, kv_cache_types=["f16", "q8_0"], context_length=16384)
    assert plan.kv_cache_type == "f16"
    with pytest.raises(ValueError, match=r"phi4:14b cannot be loaded: phi4:14b does not start: the engine refuses"):
        on_the_cpu(64, ["phi4_14b"], num_parallel=4, min_parallel=4, max_parallel=4, kv_cache_types=["q8_0"])


def test_a_model_that_the_engine_refuses_is_shown_with_its_words():
    plan = planned([24 << 10], ["phi4_14b"], policy_from_dict({"num_parallel": 4, "kv_cache_types": ["q8_0"]}))
    (model,) = plan.models
    assert not plan.safe
    assert (model.planned, model.gpus, model.context_length) == (True, (), 0)
    assert model.note.startswith("The engine refuses phi4:14b: ")


@pytest.mark.parametrize("version", ERAS)
def test_the_next_step_costs_more_whether_it_fits_or_not(version: str) -> None:
    policy = policy_from_dict({"requests": 1, "context_length": 16384})
    fits, does_not = (planned([size_gib << 10] * 2, ["qwen2.5_32b"], policy, version) for size_gib in (48, 15))
    assert [limit.possible for limit in fits.limits[:2]] == [True, True]
    assert not does_not.limits[1].possible
    for limit in (*fits.limits[:2], *does_not.limits[:2]):
        assert limit.cost_bytes is not None
        assert limit.cost_bytes > GIB
