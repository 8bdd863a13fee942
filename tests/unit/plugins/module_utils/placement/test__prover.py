# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner is asked about a set of models on a host, and that its answers are those of the host's plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import demands_from_list
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._fleet import read_fleet
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._prover import Prover
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    WantedModel,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

LLAMA, GEMMA, EMBED = "llama3.1:8b", "gemma3:4b", "mxbai-embed-large"


@pytest.fixture
def prover(host):
    """`prover(24, context=8192, ...)` asks about the three models on a host with such GPUs."""

    def make(*gpus, context=8192, names=(LLAMA, GEMMA, EMBED), **policy):
        demand = [
            {"name": name, "requests": 9, **({} if name == EMBED else {"context_length": context})}
            for name in names
        ]
        fleet = read_fleet(
            demands_from_list(demand), {"h": host(*gpus, models=names, **policy)}, {}, may_pull=True
        )
        return Prover(fleet.hosts["h"].exact)

    return make


@pytest.mark.parametrize("gpus", [[24], [12], [12, 12], [24, 12]])
@pytest.mark.parametrize("names", [[LLAMA], [GEMMA], [LLAMA, GEMMA]])
def test_a_set_is_safe_with_as_many_slots_as_the_host_is_planned_with(prover, described, gpus, names) -> None:
    asked = prover(*gpus)
    plan = None
    try:
        plan = plan_host(
            gpu=described(*gpus, system_gib=256),
            models=[shape(name).to_dict() for name in names],
            wanted=[WantedModel(name, 8192, 64) for name in names],
            version="0.33.0",
        )
    except ValueError:
        assert not asked.is_safe(names, 1)
        return
    assert asked.is_safe(names, plan.num_parallel)
    assert plan.num_parallel == 64 or not asked.is_safe(names, plan.num_parallel + 1)
    proof = asked.proof(names, plan.num_parallel)
    assert [replace(gpu, name="") for gpu in proof.gpus] == [replace(gpu, name="") for gpu in plan.gpus]
    assert (proof.context_length, proof.kv_cache_type) == (plan.context_length, plan.kv_cache_type)


def test_least_memory_is_less_than_what_is_planned_and_grows_with_slots(prover) -> None:
    asked = prover(80)
    for name in (LLAMA, GEMMA, f"{EMBED}:latest"):
        assert 0 < asked.least_bytes(name, 1) < asked.proof([name], 1).planned_bytes
    assert asked.least_bytes(LLAMA, 2) > asked.least_bytes(LLAMA, 1)
    assert asked.least_bytes(f"{EMBED}:latest", 2) == asked.least_bytes(f"{EMBED}:latest", 1)
    assert asked.room_bytes == 80 << 30


def test_a_smaller_cache_that_is_allowed_counts(prover) -> None:
    plain, small = prover(24), prover(24, kv_cache_types=["f16", "q8_0"])
    assert small.least_bytes(LLAMA, 8) < plain.least_bytes(LLAMA, 8)
    most = max(parallel for parallel in range(1, 64) if plain.is_safe([LLAMA], parallel))
    assert small.is_safe([LLAMA], most + 1)
    assert small.proof([LLAMA], most + 1).kv_cache_type == "q8_0"


def test_the_operators_values_bound_what_is_safe(prover) -> None:
    assert not prover(80, max_parallel=4).is_safe([LLAMA], 5)
    assert not prover(80, min_parallel=4).is_safe([LLAMA], 3)
    assert prover(80, num_parallel=3).is_safe([LLAMA], 3)
    assert not prover(80, num_parallel=3).is_safe([LLAMA], 2)
    assert not prover(80, max_loaded_models=1).is_safe([LLAMA, GEMMA], 1)
    assert not prover(80, context_length=4096).is_safe([LLAMA], 1)
    assert prover(80, context_length=16384).is_safe([LLAMA], 1)


def test_two_names_of_one_file_are_never_held_together(host) -> None:
    found = host(80, models=[LLAMA, GEMMA])
    again = {**found.inputs["models"][0], "name": "again:latest"}
    found.inputs["models"].append(again)
    demand = demands_from_list([{"name": name, "requests": 1} for name in (LLAMA, GEMMA, "again")])
    found = replace(found, may_hold=frozenset(one.name for one in demand))
    asked = Prover(read_fleet(demand, {"h": found}, {}, may_pull=True).hosts["h"].exact)
    assert asked.is_safe([LLAMA, GEMMA], 1)
    assert asked.is_safe(["again:latest", GEMMA], 1)
    assert not asked.is_safe([LLAMA, "again:latest"], 1)
    assert not asked.is_safe([LLAMA, "unknown"], 1)


def test_ollama_gives_an_embedding_model_one_slot_and_the_context_is_the_longest_that_is_asked_for(
    prover,
) -> None:
    asked = prover(24)
    assert asked.single == {f"{EMBED}:latest"}
    assert asked.context_length([LLAMA, f"{EMBED}:latest"]) == 8192
    assert asked.context_length([f"{EMBED}:latest"]) == 4096


def test_a_fuller_gpu_leaves_a_smaller_share_free(prover) -> None:
    asked = prover(24)
    shares = [asked.proof([LLAMA], parallel).free_share for parallel in (1, 2, 4)]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < shares[0] < 1
    assert asked.proof([LLAMA], 200) is None
