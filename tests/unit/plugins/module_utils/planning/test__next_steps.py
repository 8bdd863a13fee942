# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one more of each value costs, and why it was not taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import CUDA_CONTEXT_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._next_steps import (
    CONTEXT,
    MODELS,
    PARALLEL,
    limits_of,
    used_bytes,
    verdict_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Limit
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import (
    MIB,
    model,
    simulation,
)

ONE = Candidate(1, 4096)
A, B, C = (model(name) for name in "abc")
SIZES = {"a": 1000, "b": 500, "c": 2000}
MARGIN = 1024


def judge_of(*gpus_mib: float, models=(A, B, C), **sizes: int) -> Judge:
    return Judge(simulation(list(gpus_mib), list(models), **{**SIZES, **sizes}))


def real_judge_of(*gpus_mib: float, model: SchedulerModel) -> Judge:
    """A judge to whom the memory rules say what the model takes."""
    context_mib = CUDA_CONTEXT_BYTES // MIB
    return Judge(simulation(list(gpus_mib), [model], overhead_mib=context_mib, engine=MemoryEngine()))


def goal(*models, wanted=True, **changes) -> Goal:
    return replace(Goal(models, wanted, (2, 1), (4096, 8192), ("f16",), (False,), longest_because="so"), **changes)


@pytest.mark.parametrize(
    ("models", "sizes", "used_mib"),
    [
        ((A,), {}, 1000),
        ((A, B), {}, 1500),
        # What does not start takes nothing that could be told.
        ((A, B), {"b": -1}, None),
        ((), {}, 0),
    ],
)
def test_models_take_together_what_each_takes_alone(models, sizes, used_mib):
    used = used_bytes(judge_of(8000, models=models or (A,), **sizes), models, ONE)
    assert used == (None if used_mib is None else used_mib * MIB)


def test_what_spills_counts_wholly_and_without_gpu_the_systems_memory_does():
    one = scheduler_model(shape("llama3.2:1b"))
    spilled = real_judge_of(2000, model=one)
    assert spilled.alone_outcome(one, ONE).spilled
    # tests/data/engine_memory.csv: 4096 tokens, one slot, f16, flash attention, batch 512 on a GPU.
    measured_mib = 1444.4241
    assert used_bytes(spilled, (one,), ONE) / MIB == pytest.approx(measured_mib + CUDA_CONTEXT_BYTES / MIB, abs=0.001)
    # The same on a CPU.
    assert used_bytes(real_judge_of(model=one), (one,), ONE) / MIB == pytest.approx(1448.9159, abs=0.001)


@pytest.mark.parametrize(
    ("gpu_mib", "asked", "loaded", "is_safe", "reason"),
    [
        (1500 + MARGIN, goal(A, B), 2, True, ""),
        (1500 + MARGIN - 1, goal(A, B), 2, False, "leaves"),
        # Any one of them, or any two.
        (1000 + MARGIN, goal(A, B, wanted=False), 1, True, ""),
        (1000 + MARGIN - 1, goal(A, B, wanted=False), 1, False, "a leaves"),
        (1500 + MARGIN, goal(A, B, wanted=False), 2, True, ""),
        (1500 + MARGIN - 1, goal(A, B, wanted=False), 2, False, "leaves"),
    ],
)
def test_wanted_models_are_judged_together_and_others_in_any_combination(gpu_mib, asked, loaded, is_safe, reason):
    verdict = verdict_of(judge_of(gpu_mib, models=(A, B)), asked, ONE, loaded)
    assert verdict.is_safe is is_safe
    assert reason in verdict.reason


def steps(judge: Judge, asked: Goal, choice: Choice, others=()) -> dict[str, Limit]:
    return {limit.step: limit for limit in limits_of(judge, asked, choice, others)}


def test_the_next_steps_are_one_slot_twice_the_context_and_one_model():
    found = steps(judge_of(9000), goal(A, B), Choice(Candidate(3, 4096), 2), (C,))
    assert [(one.step, one.value) for one in found.values()] == [(PARALLEL, 4), (CONTEXT, 8192), (MODELS, 3)]


def test_steps_that_change_nothing_have_their_reason():
    """The sizes are a table's: more slots and more context cost nothing."""
    found = steps(judge_of(9000, models=(A,)), goal(A), Choice(ONE, 1))
    assert found[PARALLEL] == Limit(PARALLEL, 2, True, 0, "Ollama gives these models a single slot")
    assert found[CONTEXT] == Limit(
        CONTEXT, 8192, True, 0, "no planned model takes more: it was not trained for it, or its Modelfile sets num_ctx"
    )


def test_steps_that_cost_something_have_theirs():
    real = scheduler_model(shape("llama3.2:1b"))
    judge = real_judge_of(0, model=real)
    found = steps(judge, goal(real, parallels=(1,), context_lengths=(4096,)), Choice(ONE, 1))
    # 4096 more tokens of 16 layers with keys and values of 8 heads of 64 elements.
    cache_mib = 4096 * 16 * 2 * 8 * 64 * 2 / MIB
    # Above 4096 tokens Ollama takes a batch of 1024. tests/data/engine_memory.csv has the compute buffers: 64.0 MiB now,
    # 128.0 with two slots and that batch, and twice 68.0, those of half the batch, with 8192 tokens.
    for step, compute_mib in ((PARALLEL, 128.0197), (CONTEXT, 2 * 68.0099)):
        assert found[step].cost_bytes / MIB == pytest.approx(cache_mib + compute_mib - 64.0099, abs=0.001)
        assert not found[step].possible


def test_what_would_fit_was_not_asked_for(plan):
    planned = plan([24], ["llama3.2:1b"], requests=2, max_context_length=8192)
    found = {limit.step: limit for limit in planned.limits}
    assert found[PARALLEL].reason == "2 requests at once are asked for"
    assert found[CONTEXT].reason == (
        "8192 is the longest that was tried: it is the most that ollama_plan_max_context_length allows"
    )
    assert found[PARALLEL].possible
    assert found[CONTEXT].possible


@pytest.mark.parametrize(
    ("gpu_mib", "asked", "loaded", "others", "limit"),
    [
        (9000, goal(A), 1, (), Limit(MODELS, 2, False, None, "no other model is installed")),
        # Another tag of a planned file is no further model.
        (9000, goal(A), 1, (replace(A, name="tag"),), Limit(MODELS, 2, False, None, "no other model is installed")),
        (9000, goal(A), 1, (B,), Limit(MODELS, 2, True, 500 * MIB, "b would fit beside them but is not wanted")),
        # Of several the one with the smallest file.
        (
            9000,
            goal(A),
            1,
            (replace(C, file_bytes=200 * MIB), B),
            Limit(MODELS, 2, True, 500 * MIB, "b would fit beside them but is not wanted"),
        ),
        (9000, goal(A, B, wanted=False), 2, (C,), Limit(MODELS, 3, False, None, "no more models are installed")),
        # Any two cost at least the smaller of them.
        (9000, goal(A, B, wanted=False), 1, (), Limit(MODELS, 2, True, 500 * MIB, "so many are not asked for")),
    ],
)
def test_one_more_model_is_the_smallest_there_is(gpu_mib, asked, loaded, others, limit):
    judge = judge_of(gpu_mib, models=(*asked.models, *others))
    assert steps(judge, asked, Choice(ONE, loaded), others)[MODELS] == limit


@pytest.mark.parametrize(("missing", "possible"), [(0, True), (1, False)])
def test_one_more_model_has_to_be_safe_beside_the_planned(missing, possible):
    judge = judge_of(1500 + MARGIN - missing, models=(A, B))
    limit = steps(judge, goal(A), Choice(ONE, 1), (B,))[MODELS]
    assert limit.possible is possible
    assert ("would fit" in limit.reason) is possible


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        # Twice the context was tried, and left for what lasts; or it was not tried, for the reason of the goal.
        ({}, ("2 requests at once are asked for", "it fits only just, and might not with a little less free memory")),
        ({"context_lengths": (4096,)}, ("2 requests at once are asked for", "4096 is the longest that was tried: so")),
    ],
)
def test_steps_that_fit_were_not_taken_for_a_reason(changes, reasons):
    real = scheduler_model(shape("llama3.2:1b"))
    found = steps(real_judge_of(24000, model=real), goal(real, **changes), Choice(ONE, 1))
    assert (found[PARALLEL].reason, found[CONTEXT].reason) == reasons
    assert found[PARALLEL].possible
    assert found[CONTEXT].possible


def test_what_a_step_costs_is_not_known_where_a_model_then_does_not_start():
    """The engine refuses a quantised cache of this model with more than a slot."""
    real = scheduler_model(shape("phi4:14b"))
    quantised = Candidate(1, 4096, "q8_0")
    judge = real_judge_of(24000, model=real)
    assert used_bytes(judge, (real,), quantised) is not None
    found = steps(judge, goal(real, kv_cache_types=("q8_0",)), Choice(quantised, 1))
    assert (found[PARALLEL].possible, found[PARALLEL].cost_bytes) == (False, None)


def test_one_more_model_costs_as_much_as_the_smallest_that_starts():
    judge = judge_of(9000, models=(A, B), b=-1)
    limit = steps(judge, goal(A, B, wanted=False), Choice(ONE, 1))[MODELS]
    assert (limit.possible, limit.cost_bytes) == (False, 1000 * MIB)
