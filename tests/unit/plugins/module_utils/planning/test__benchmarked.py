# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark changes in a plan, and what it must not."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._measured import Measured
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._benchmarked import (
    Lesson,
    measured_overhead,
    useful_slots,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Experience, read_inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.tests.unit.data import header

CARD = {"name": "NVIDIA GeForce RTX 4090", "uuid": "GPU-1", "compute_capability": "8.9"}
GPU = {
    "driver_version": "570.1",
    "system_memory_total_bytes": 64 << 30,
    "devices": [{**CARD, "memory_total_bytes": 24 << 30}],
}
DIGEST = "sha256-" + "a" * 64


@pytest.fixture(scope="module")
def model():
    return shape_from_header(header("llama3.1:8b"), name="llama3.1:8b", digest=DIGEST).to_dict()


@pytest.fixture(scope="module")
def plan(model):
    def make(measured=None, gpu=None, **policy):
        return plan_host(
            gpu=gpu or GPU,
            models=[model],
            policy=policy_from_dict(policy),
            version="0.33.0",
            experience=Experience(measured=measured or {}),
        )

    return make


@pytest.fixture(scope="module")
def benchmark(plan):
    """A benchmark of this very host, under the plan that it has without one."""
    context_length = plan().context_length

    def make(parallel, **conditions):
        return {
            "format": 1,
            "measured_at": "2026-01-01T00:00:00Z",
            "knee": {"parallel": parallel, "reason": f"{parallel} at once gave the most"},
            "conditions": {
                "gpus": [{"name": CARD["name"], "uuid": CARD["uuid"]}],
                "driver_version": "570.1",
                "ollama_version": "0.33.0",
                "models": {"llama3.1:8b": DIGEST},
                "context_length": context_length,
                "kv_cache_type": "f16",
                **conditions,
            },
            "correction": {"cuda_context_bytes": 300 << 20, "compute_excess_bytes": 7 << 20},
        }

    return make


def test_fewer_slots_are_planned_where_more_bring_nothing(plan, benchmark):
    assert plan().num_parallel == 4
    measured = plan(benchmark(2))
    assert measured.num_parallel == 2
    assert measured.environment["OLLAMA_NUM_PARALLEL"] == "2"
    assert measured.reasons[0] == (
        "OLLAMA_NUM_PARALLEL=2 is what is worth having, measured here at 2026-01-01T00:00:00Z: "
        "2 at once gave the most."
    )
    assert measured.reasons[1].startswith("OLLAMA_MAX_LOADED_MODELS=1: ")
    assert measured.context_length >= plan().context_length
    assert measured.safe


def test_the_next_step_names_the_benchmark_where_that_is_what_limits(plan, benchmark):
    worth = "a benchmark found 2 to be worth having, of 4 that are asked for"
    step = plan(benchmark(2)).limits[0]
    assert (step.step, step.value, step.possible) == ("parallel", 3, False)
    assert step.reason.startswith(f"{worth}; with this context, ")
    step = plan(benchmark(2, context_length=4096), max_context_length=4096).limits[0]
    assert (step.value, step.possible, step.reason) == (3, True, worth)
    assert "benchmark" not in plan().limits[0].reason
    assert not any("benchmark" in step.reason for step in plan(benchmark(2)).limits[1:])


def test_a_benchmark_that_doubts_itself_limits_nothing(plan, benchmark):
    unsteady = benchmark(2)
    unsteady["knee"]["note"] = "repeated measurements lie 46% apart, more than the 5% that decide: measure more rounds"
    measured, plain = plan(unsteady), plan()
    assert (measured.environment, measured.reasons, measured.limits) == (
        plain.environment,
        plain.reasons,
        plain.limits,
    )
    (warning,) = set(measured.warnings) - set(plain.warnings)
    assert warning.startswith("the benchmark limits nothing: repeated measurements lie 46% apart")
    # What a runner takes was measured all the same.
    with_memory = plan(unsteady, use_measured_memory=True)
    assert with_memory.models[0].gpus[0].cuda_context_bytes == 307 << 20
    assert with_memory.num_parallel == 4


@pytest.mark.parametrize("slots", [4, 6])
def test_more_slots_than_the_demand_are_not_planned(plan, benchmark, slots):
    measured = plan(benchmark(slots))
    assert measured.num_parallel == 4
    assert measured.reasons[:-1] == plan().reasons
    assert f"up to {slots} requests at once" in measured.reasons[-1]


def test_the_operator_s_own_values_win(plan, benchmark):
    own = plan(benchmark(2), num_parallel=3)
    assert own.num_parallel == 3
    assert own.reasons[0] == "OLLAMA_NUM_PARALLEL=3 is the operator's own value."
    at_least = plan(benchmark(1), min_parallel=3)
    assert at_least.num_parallel == 3
    assert "1 is worth having" in at_least.reasons[0]


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"gpus": [{"name": CARD["name"], "uuid": "GPU-9"}]}, "GPU GPU-9"),
        ({"models": {"llama3.1:8b": "sha256-bb"}}, "llama3.1:8b has changed"),
        ({"models": {}}, "llama3.1:8b is planned and was not measured"),
        ({"ollama_version": "0.30.0"}, "Ollama was 0.30.0"),
        ({"context_length": 1234}, "the context length was 1234"),
        # One that is tried too, and shorter than the planned.
        ({"context_length": 4096}, "the context length was 4096"),
    ],
)
def test_a_benchmark_under_other_conditions_is_ignored_with_a_warning(plan, benchmark, conditions, said):
    measured, plain = plan(benchmark(2, **conditions)), plan()
    assert (measured.environment, measured.reasons) == (plain.environment, plain.reasons)
    (warning,) = set(measured.warnings) - set(plain.warnings)
    assert "is ignored" in warning
    assert said in warning


def test_another_context_that_is_asked_for_is_another_condition(plan, benchmark):
    measured = plan(benchmark(2), context_length=4096)
    assert measured.num_parallel == 4
    assert any("the context length was" in warning for warning in measured.warnings)


def test_a_benchmark_under_the_longer_context_that_fewer_slots_allow_holds(plan, benchmark):
    first = plan(benchmark(2))
    assert first.context_length > plan().context_length
    again = plan(benchmark(2, context_length=first.context_length))
    assert (again.environment, again.warnings) == (first.environment, first.warnings)


def test_measured_memory_is_planned_with_only_where_asked(plan, benchmark):
    def context_bytes(made):
        return made.models[0].gpus[0].cuda_context_bytes

    assert context_bytes(plan(benchmark(2))) == context_bytes(plan()) == 600 << 20
    measured = plan(benchmark(2), use_measured_memory=True)
    assert context_bytes(measured) == 307 << 20
    assert any("307 MiB" in reason for reason in measured.reasons)
    assert context_bytes(plan(benchmark(9), use_measured_memory=True)) == 307 << 20


def test_the_memory_of_a_benchmark_that_is_ignored_is_not_planned_with(plan, benchmark):
    other = benchmark(2, driver_version="580.1")
    assert plan(other, use_measured_memory=True).models == plan().models


@pytest.mark.parametrize(
    ("policy", "conditions", "context_length", "slots"),
    [
        ({}, {"context_length": 8192}, 8192, {"llama3.1:8b": 3}),
        ({}, {"context_length": 8192}, 4096, {"llama3.1:8b": 3}),
        ({"min_parallel": 5}, {"context_length": 8192}, 8192, {"llama3.1:8b": 5}),
        # More context than was measured, another cache, and the operator's own value.
        ({}, {"context_length": 8192}, 8193, {}),
        ({}, {"context_length": 8192, "kv_cache_type": "q8_0"}, 8192, {}),
        ({"num_parallel": 4}, {"context_length": 8192}, 8192, {}),
        # A cache that may be chosen holds, in whatever place; a context that is no number is none.
        (
            {"kv_cache_types": ["f16", "q8_0"]},
            {"context_length": 8192, "kv_cache_type": "q8_0"},
            8192,
            {"llama3.1:8b": 3},
        ),
        ({}, {"context_length": "8192"}, 8192, {}),
    ],
)
def test_slots_that_are_worth_having_are_known_for_each_model(model, benchmark, policy, conditions, context_length, slots):
    inputs = read_inputs(
        gpu=GPU,
        models=[model],
        wanted=wanted_from_list([{"name": "llama3.1:8b", "context_length": context_length}]),
        policy=policy_from_dict(policy),
        version="0.33.0",
        service=Service(),
        unplannable={},
    )
    assert useful_slots(inputs, GPU, benchmark(3, **conditions)) == slots


def test_of_models_with_one_slot_and_by_a_benchmark_that_doubts_itself_nothing_is_known(model, benchmark):
    embedding = shape_from_header(header("mxbai-embed-large"), name="mxbai-embed-large").to_dict()
    inputs = read_inputs(
        gpu=GPU,
        models=[embedding, model],
        wanted=(),
        policy=policy_from_dict({}),
        version="0.33.0",
        service=Service(),
        unplannable={},
    )
    assert useful_slots(inputs, GPU, benchmark(3)) == {"llama3.1:8b": 3}
    unsteady = benchmark(3)
    unsteady["knee"]["note"] = "measure more rounds"
    for nothing in (unsteady, {}, {"conditions": None}, {"problem": "it is torn"}):
        assert useful_slots(inputs, GPU, nothing) == {}


def test_fewer_slots_than_are_worth_having_may_be_all_that_fits():
    lesson = Lesson(decided=Measured(3, "measured here"))
    assert lesson.reason_of(3) == "OLLAMA_NUM_PARALLEL=3 is what is worth having, measured here."
    assert lesson.reason_of(2) == "OLLAMA_NUM_PARALLEL=2 is planned; 3 is worth having, measured here."
    assert Lesson().reason_of(3) == ""


@pytest.mark.parametrize(
    ("policy", "changed", "mib"),
    [
        ({}, {}, 307),
        ({}, {"models": {"another": "sha256-b"}, "context_length": 999}, 307),
        ({"num_parallel": 4}, {}, 307),
        ({}, {"driver_version": "1"}, None),
        ({}, {"kv_cache_type": "q8_0"}, None),
        ({"kv_cache_types": ["f16", "q8_0"]}, {"kv_cache_type": "q8_0"}, 307),
    ],
)
def test_memory_that_some_plan_of_the_host_would_go_by_is_known(model, benchmark, policy, changed, mib):
    inputs = read_inputs(
        gpu=GPU,
        models=[model],
        wanted=(),
        policy=policy_from_dict(policy),
        version="0.33.0",
        service=Service(),
        unplannable={},
    )
    assert measured_overhead(inputs, GPU, benchmark(3, **changed)) == (mib and mib << 20)


@pytest.mark.parametrize("result", [{}, {"conditions": 5}, {"problem": "torn", "conditions": {}}])
def test_a_result_that_is_none_tells_of_no_memory(model, result):
    inputs = read_inputs(
        gpu=GPU, models=[model], wanted=(), policy=policy_from_dict({}), version="0.33.0", service=Service(), unplannable={}
    )
    assert measured_overhead(inputs, GPU, result) is None
