# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every plan, whatever the host, the models and the wishes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import cycle, permutations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    KV_CACHE_TYPES,
    Policy,
    WantedModel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import start_server
from ansible_collections.gpufleet.ollama.tests.unit.data import shape as installed
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

GIB = 1 << 30
MIB = 1 << 20
MODELS = (
    "llama3.2_1b",
    "gemma3_4b",
    "llama3.1_8b",
    "phi4_14b",
    "gpt-oss_20b",
    "gemma3_27b",
    "qwen2.5_32b",
    "mxbai-embed-large",
    "qwen3_4b",
)
# Models that can use any context looked for, and that have as many slots as the plan says.
LONG_MODELS = ("llama3.2_1b", "gemma3_4b", "llama3.1_8b", "gpt-oss_20b", "gemma3_27b")
VERSION = "0.33.0"
MISFIT = r"^the wanted models .* cannot be loaded.*; what would make it possible: "
MOST_ORDERS = 24
ALTERNATIONS = 4


def described(memory_mib, free_percent=100, others_mib=(0,)):
    """GPU facts of a host with GPUs of so many MiB, of each of which other processes hold some."""
    return {
        "system_memory_total_bytes": 128 * GIB,
        "devices": [
            {
                "memory_total_bytes": size * MIB,
                "memory_free_bytes": size * MIB * free_percent // 100 - others * MIB,
                "compute_capability": "8.6",
            }
            for size, others in zip(memory_mib, cycle(others_mib))
        ],
    }


hosts = st.lists(st.integers(4 * 1024, 96 * 1024), min_size=1, max_size=4)
some_models = st.lists(st.sampled_from(MODELS), min_size=1, max_size=4, unique=True)
policies = st.builds(
    Policy,
    requests=st.integers(1, 5),
    headroom_bytes=st.sampled_from((0, 0, 512 * MIB, 3 * GIB)),
    kv_cache_types=st.sampled_from((("f16",), ("f16", "q8_0"), ("f16", "q8_0", "q4_0"))),
    spread=st.sampled_from(("auto", "auto", "always", "never")),
    max_context_length=st.sampled_from((None, 8192, 65536)),
    on_misfit=st.just("subset"),
)


def planned(gpu, names, wanted, policy, service=None):
    """The plan; None where the host can load none of the wanted models."""
    shapes = [installed(name) for name in names]
    try:
        return plan_host(
            gpu=gpu,
            models=[shape.to_dict() for shape in shapes],
            wanted=[WantedModel(shape.name) for shape in shapes] if wanted else [],
            policy=policy,
            version=VERSION,
            service=service,
        )
    except ValueError as refusal:
        return None if re.search(MISFIT, str(refusal)) else pytest.fail(f"no clear refusal: {refusal}")


def server_of(plan, gpu):
    """Ollama with the environment of the plan on that host."""
    gpus = [
        SchedulerGpu(
            index,
            device["memory_total_bytes"],
            device["memory_free_bytes"],
            compute_capability=device["compute_capability"],
        )
        for index, device in enumerate(gpu["devices"])
    ]
    return start_server(VERSION, plan.environment, gpus, gpu["system_memory_total_bytes"])


def orders_of(plan, names):
    """The orders in which a plan must be safe, as shapes."""
    by_name = {installed(name).name: installed(name) for name in names}
    if plan.order_matters:
        return [[by_name[name] for name in plan.load_order]]
    loadable = plan.load_order or [model.name for model in plan.models if model.planned]
    count = plan.max_loaded_models
    found = list(permutations([by_name[name] for name in loadable], min(count, len(loadable))))
    return found[:: max(len(found) // MOST_ORDERS, 1)]


def assert_safe(plan, gpu, order, policy):
    """No outcome of loading the models in this order evicts, spills or eats up what is to stay free."""
    servers = [server_of(plan, gpu)]
    for shape in order:
        after = []
        for server in servers:
            for loaded, outcome in server.possible_loads(shape):
                assert not outcome.failure, outcome
                assert not outcome.evicted, outcome
                assert not outcome.spilled, outcome
                after.append(loaded)
        servers = after
    for server in servers:
        used = {position for runner in server.runners for position in runner.placement}
        for position, free in enumerate(server.free_bytes()):
            assert position not in used or free >= 1024 * MIB + policy.headroom_bytes


@given(hosts, st.integers(50, 100), some_models, st.booleans(), policies)
@settings(deadline=None, max_examples=40)
def test_the_scheduler_neither_evicts_nor_spills_under_a_safe_plan(memory, free, names, wanted, policy):
    gpu = described(memory, free)
    plan = planned(gpu, names, wanted, policy)
    assume(plan is not None and plan.safe)
    for order in orders_of(plan, names):
        assert_safe(plan, gpu, order, policy)


@given(hosts, some_models, st.booleans(), policies)
@settings(deadline=None, max_examples=40)
def test_a_plan_fits_by_the_memory_rooms_own_figures(memory, names, wanted, policy):
    plan = planned(described(memory), names, wanted, policy)
    assume(plan is not None and plan.safe)
    taken = dict.fromkeys(range(len(memory)), 0)
    for model in plan.models:
        for share in model.gpus:
            taken[share.index] += share.total_bytes
            assert share.total_bytes + 1024 * MIB + policy.headroom_bytes <= memory[share.index] * MIB
    for gpu in plan.gpus:
        assert gpu.total_bytes == gpu.others_bytes + gpu.planned_bytes + gpu.free_bytes
        if wanted:
            assert gpu.planned_bytes == taken[gpu.index]


@given(hosts, some_models, st.booleans(), policies)
@settings(deadline=None, max_examples=40)
def test_the_plan_that_runs_is_the_plan_of_the_next_run(memory, names, wanted, policy):
    plan = planned(described(memory), names, wanted, policy)
    assume(plan is not None)
    ours = Service(running=plan.environment, managed=plan.environment)
    again = planned(described(memory), names, wanted, policy, ours)
    assert again.environment == plan.environment
    assert again.load_order == plan.load_order


@given(hosts, some_models, st.booleans(), policies, st.integers(-60, 60), st.sampled_from((None, 0, 1, 2, 3)))
@example(
    [4096, 4096, 29450, 4096],
    ["llama3.1_8b", "gemma3_4b"],
    False,
    Policy(requests=1, kv_cache_types=("f16", "q8_0", "q4_0"), spread="always", on_misfit="subset"),
    -44,
    None,
)
@settings(deadline=None, max_examples=40)
def test_a_few_mib_do_not_change_a_plan_back_and_forth(memory, names, wanted, policy, drift, drifting):
    """After at most one change a plan stays, while free memory of all GPUs, or of one, goes up and down by a little."""
    steady = described(memory, others_mib=(500,))
    drifted = described(memory, others_mib=[500 + drift * (drifting in (None, one)) for one in range(4)])
    service, seen = None, []
    for gpu in (steady, drifted) * ALTERNATIONS:
        plan = planned(gpu, names, wanted, policy, service)
        assume(plan is not None)
        service = Service(running=plan.environment, managed=plan.environment)
        seen.append(plan.environment)
    assert len({json.dumps(one, sort_keys=True) for one in seen[1:]}) == 1


readings = st.lists(
    st.lists(st.integers(440, 560), min_size=4, max_size=4),
    min_size=2 * ALTERNATIONS,
    max_size=2 * ALTERNATIONS,
)


@given(hosts, some_models, st.booleans(), policies, readings)
@example(
    [8383, 8383, 8383],
    ["llama3.1_8b", "qwen3_4b", "phi4_14b"],
    True,
    Policy(requests=3, spread="never", on_misfit="subset"),
    [[558, 491, 542], [485, 533, 535], [453, 508, 472], [445, 462, 550], [521, 528, 494], [443, 556, 448]],
)
@example(
    [17914, 14177, 8922, 23072],
    ["qwen3_4b", "phi4_14b", "qwen2.5_32b"],
    True,
    Policy(requests=4, max_context_length=8192, kv_cache_types=("f16", "q8_0"), on_misfit="subset"),
    [[494, 453, 457, 503], [459, 490, 483, 509], [544, 503, 529, 451], [482, 506, 488, 554]],
)
@settings(deadline=None, max_examples=40)
def test_readings_that_vary_on_each_gpu_do_not_bring_back_what_a_plan_has_left(
    memory, names, wanted, policy, others
):
    """Whatever the order of the readings; between two GPUs the difference is what moves layers."""
    service, seen = None, []
    for reading in others:
        plan = planned(described(memory, others_mib=reading), names, wanted, policy, service)
        assume(plan is not None)
        service = Service(running=plan.environment, managed=plan.environment)
        environment = json.dumps(plan.environment, sort_keys=True)
        if seen[-1:] != [environment]:
            seen.append(environment)
    assert len(set(seen)) == len(seen)


def worth(plan):
    """How good a plan is, by the objective of the search; a refusal is worth least."""
    if plan is None or not plan.safe:
        return ()
    return (
        sum(model.planned for model in plan.models),
        plan.num_parallel,
        not plan.order_matters,
        plan.max_loaded_models,
        plan.context_length,
        -KV_CACHE_TYPES.index(plan.kv_cache_type),
        not plan.spread,
    )


def behaviour(plan, gpu, names):
    """What becomes of each model under a plan's settings: GPUs, batch, shares, whether the split is the usual one."""
    decided = set()
    for order in orders_of(plan, names):
        server = server_of(plan, gpu)
        for shape in order:
            server, outcome = server.load(shape)
            decided.add(
                (outcome.model, outcome.placement, outcome.batch, outcome.gpu_bytes, outcome.refitted)
            )
    return decided


@given(hosts, some_models, st.booleans(), policies, st.integers(0, 3), st.integers(1, 24 * 1024))
@settings(deadline=None, max_examples=40)
def test_more_memory_never_lowers_a_plan_unless_ollama_then_decides_otherwise(
    memory, names, wanted, policy, grown, more
):
    """Where it does, the same settings bring another batch, other GPUs or other shares on the larger host."""
    larger = list(memory)
    larger[grown % len(memory)] += more
    before, after = (planned(described(one), names, wanted, policy) for one in (memory, larger))
    if worth(after) < worth(before):
        assert behaviour(before, described(memory), names) != behaviour(before, described(larger), names)


@given(
    hosts,
    st.lists(st.sampled_from(LONG_MODELS), min_size=2, max_size=4, unique=True),
    st.booleans(),
    policies,
)
@example(
    [17087, 28059],
    ["gemma3_4b", "gemma3_27b", "llama3.1_8b"],
    True,
    Policy(requests=5, max_context_length=8192, kv_cache_types=("f16", "q8_0", "q4_0"), spread="never"),
)
@example(
    [36972],
    ["gpt-oss_20b", "gemma3_27b", "gemma3_4b"],
    True,
    Policy(requests=1, max_context_length=65536, kv_cache_types=("f16", "q8_0", "q4_0"), spread="always"),
)
@settings(deadline=None, max_examples=40)
def test_one_more_model_never_raises_a_plan_unless_ollama_then_decides_otherwise(
    memory, names, wanted, policy
):
    """Where it does, the same settings bring fewer models another batch, other GPUs or other shares.

    A plan that needs an order of loading is worth less than any that does not, and may have more context.
    """
    policy = replace(policy, on_misfit="fail")
    gpu = described(memory)
    fewer, more = (planned(gpu, some, wanted, policy) for some in (names[:-1], names))
    assume(more is not None and more.safe)
    served = {model.name for model in more.models if model.planned}
    assume(served == {installed(name).name for name in names})
    values = [
        (
            plan.num_parallel,
            not plan.order_matters,
            min(plan.max_loaded_models, len(names) - 1),
            plan.context_length,
        )
        if plan
        else ()
        for plan in (fewer, more)
    ]
    if values[1] > values[0]:
        alone = {installed(name).name: server_of(more, gpu).load(installed(name))[1] for name in names[:-1]}
        beside = {known[:3] for known in behaviour(more, gpu, names)}
        assert any(
            (name, one.placement, one.batch) not in beside or one.spilled for name, one in alone.items()
        )


def lowered_somewhere(names, wanted, policy, memory, grown):
    """Every time that 96 MiB more on one GPU lower the plan: what becomes of the models before and after."""
    found = []
    before = None
    for more in range(0, 4096, 96):
        sizes = [size + more * (position == grown) for position, size in enumerate(memory)]
        gpu = described(sizes)
        plan = planned(gpu, names, wanted, policy)
        if before and worth(plan) < worth(before[1]):
            found.append((behaviour(before[1], before[0], names), behaviour(before[1], gpu, names)))
        before = (gpu, plan)
    return found


class TestMoreMemoryLowersAPlan:
    """The rules of Ollama and its engine by which that happens, each on hosts where it does."""

    def test_where_the_shares_of_free_memory_move_a_layer_to_the_smaller_gpu(self):
        """A model is split by the GPUs' shares: more on one GPU gives it layers that then do not fit there."""
        found = lowered_somewhere(("gemma3_27b",), True, Policy(requests=1), [15484, 8016], 1)
        assert found
        for before, after in found:
            assert {known[:3] for known in before} == {known[:3] for known in after}
            assert before != after

    def test_where_a_model_now_goes_to_a_single_gpu(self):
        """A model that was split fits one GPU by Ollama's prediction, and takes that GPU from the others."""
        names = ("qwen3_4b", "phi4_14b")
        found = lowered_somewhere(names, True, Policy(requests=4), [23676, 16184], 0)
        changes = [(old, new) for before, after in found for old in before - after for new in after - before]
        assert any(len(old[1]) > 1 == len(new[1]) for old, new in changes if old[0] == new[0])

    def test_where_ollama_takes_a_larger_batch(self):
        """More free memory lets Ollama compute more tokens at once, and the larger buffer leaves less to others."""
        names = ("gpt-oss_20b", "gemma3_4b", "gemma3_27b")
        found = lowered_somewhere(names, True, Policy(requests=1), [24076, 24576], 1)
        changes = [(old, new) for before, after in found for old in before - after for new in after - before]
        assert any(new[2] > old[2] for old, new in changes if old[0] == new[0])
