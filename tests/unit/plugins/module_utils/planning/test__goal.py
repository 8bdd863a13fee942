# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a search may try, by what is asked and what the models are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import (
    Demand,
    goal_of,
    longest_context,
    parallels,
    requests_in_flight,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules

PLAIN = SchedulerModel("a", "a", 1 << 30, 0, 131072, 32, family="llama")
SHORT = replace(PLAIN, context_length_trained=8192)
UNTOLD = replace(PLAIN, context_length_trained=0)
FIXED = replace(PLAIN, num_ctx=2048)
EMBEDDING = replace(PLAIN, is_embedding=True)
ONE_SLOT = replace(PLAIN, family="qwen35")
RULES = rules("0.33.0")


def installed(*models: SchedulerModel) -> tuple[Demand, ...]:
    return tuple(map(Demand, models))


def wanted(model: SchedulerModel = PLAIN, **asked: int) -> Demand:
    return Demand(model, WantedModel(model.name, **asked))


@pytest.mark.parametrize(
    ("demands", "requests"),
    [
        (installed(PLAIN), 4),
        ([wanted(requests=2)], 2),
        ([wanted(requests=2), wanted(requests=3)], 3),
        ([wanted(requests=2), wanted()], 4),
        # Ollama gives these one slot, whatever is asked of them.
        ([wanted(EMBEDDING, requests=9)], 1),
        ([wanted(ONE_SLOT, requests=9)], 1),
        ([wanted(EMBEDDING, requests=9), wanted(requests=2)], 2),
        ((), 1),
    ],
)
def test_the_model_that_serves_most_at_once_says_how_many_requests_there_are(demands, requests):
    assert requests_in_flight(demands, Policy(requests=4), RULES) == requests


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"requests": 3}, (3, 2, 1)),
        ({"requests": 1}, (1,)),
        ({"requests": 8, "max_parallel": 2}, (2, 1)),
        ({"requests": 3, "min_parallel": 2}, (3, 2)),
        # The operator's bounds win over what is asked.
        ({"requests": 1, "min_parallel": 2}, (2,)),
        ({"requests": 3, "num_parallel": 7}, (7,)),
    ],
)
def test_parallel_values_go_from_what_is_asked_down(options, values):
    assert parallels(installed(PLAIN), Policy(**options), RULES) == values


TIER, USEFUL, FLOOR, ALLOWED = (
    "it is the most that Ollama itself would take for this host",
    "no model is known to make use of more",
    "it is the least that is asked for",
    "it is the most that ollama_plan_max_context_length allows",
)


@pytest.mark.parametrize(
    ("demands", "options", "tier", "longest"),
    [
        # What Ollama itself would take is no limit of the hardware.
        (installed(PLAIN), {}, 32768, (131072, USEFUL)),
        (installed(PLAIN), {}, 262144, (131072, USEFUL)),
        (installed(SHORT), {}, 32768, (8192, USEFUL)),
        (installed(SHORT, PLAIN), {}, 32768, (131072, USEFUL)),
        # A length that is no power of two is reached by the next one.
        (installed(replace(PLAIN, context_length_trained=8193)), {}, 32768, (16384, USEFUL)),
        (installed(replace(PLAIN, context_length_trained=8191)), {}, 32768, (8192, USEFUL)),
        # Whoever does not say what it was trained for gets what Ollama itself would take, or what the operator allows.
        (installed(UNTOLD), {}, 32768, (32768, USEFUL)),
        (installed(SHORT, UNTOLD), {}, 32768, (32768, USEFUL)),
        (installed(PLAIN, UNTOLD), {}, 32768, (131072, USEFUL)),
        (installed(UNTOLD), {"max_context_length": 65536}, 32768, (65536, ALLOWED)),
        # A Modelfile's own context takes nothing from the environment.
        (installed(FIXED), {}, 32768, (4096, FLOOR)),
        (installed(FIXED, SHORT), {}, 32768, (8192, USEFUL)),
        (installed(replace(UNTOLD, num_ctx=2048), SHORT), {}, 32768, (8192, USEFUL)),
        (installed(PLAIN), {"max_context_length": 16384}, 32768, (16384, ALLOWED)),
        (installed(SHORT), {"max_context_length": 16384}, 32768, (8192, USEFUL)),
        (installed(PLAIN), {"max_context_length": 65536}, 32768, (65536, ALLOWED)),
        (installed(PLAIN), {"max_context_length": 4096}, 32768, (4096, ALLOWED)),
        # What is asked for wins over what models make use of.
        (installed(SHORT), {"min_context_length": 65536}, 32768, (65536, FLOOR)),
        ([wanted(SHORT, context_length=65536), wanted(SHORT)], {}, 32768, (65536, FLOOR)),
        ([wanted(context_length=8192), wanted()], {}, 32768, (131072, USEFUL)),
        ([wanted(context_length=8192)], {}, 32768, (8192, "it is the longest that is asked for")),
        ([wanted(context_length=2048)], {}, 32768, (4096, "it is the longest that is asked for")),
        ([wanted(context_length=8192)], {"context_length": 6000}, 32768, (6000, "it is the operator's own value")),
        ((), {}, 32768, (4096, FLOOR)),
    ],
)
def test_the_longest_context_has_its_reason(demands, options, tier, longest):
    assert longest_context(demands, Policy(**options), tier) == longest


@pytest.mark.parametrize(
    ("demands", "options", "longest"),
    [
        (installed(PLAIN), {}, (16384, TIER)),
        (installed(SHORT), {}, (8192, USEFUL)),
        (installed(PLAIN), {"max_context_length": 65536}, (65536, ALLOWED)),
        (installed(PLAIN), {"min_context_length": 65536}, (65536, FLOOR)),
    ],
)
def test_without_a_gpu_no_longer_context_is_tried_than_ollama_itself_would_take(demands, options, longest):
    assert longest_context(demands, Policy(**options), 16384, has_gpus=False) == longest


@pytest.mark.parametrize(
    ("demands", "options", "lengths"),
    [
        (installed(PLAIN), {}, (4096, 8192, 16384, 32768, 65536, 131072)),
        (installed(SHORT), {}, (4096, 8192)),
        (installed(PLAIN), {"min_context_length": 5000}, (5000, 8192, 16384, 32768, 65536, 131072)),
        (installed(PLAIN), {"max_context_length": 10000}, (4096, 8192, 10000)),
        (installed(PLAIN), {"context_length": 6000}, (6000,)),
        ([wanted(context_length=8192), wanted()], {}, (8192, 16384, 32768, 65536, 131072)),
        ([wanted(context_length=8192)], {}, (8192,)),
        ([wanted(context_length=8192)], {"lower_context": True}, (4096, 8192)),
        ([wanted(context_length=16384)], {"lower_context": True, "min_context_length": 8192}, (8192, 16384)),
        # The operator's own value may be less than the least, and is lowered no further.
        (installed(PLAIN), {"context_length": 2048, "lower_context": True}, (2048,)),
    ],
)
def test_context_lengths_are_doubled_from_the_least_to_the_longest(demands, options, lengths):
    goal = goal_of(demands, Policy(**options), RULES, gpu_count=1, tier=32768)
    assert goal.context_lengths == lengths


@pytest.mark.parametrize(
    ("spread", "gpu_count", "spreads"),
    [
        ("auto", 1, (False,)),
        ("auto", 2, (False, True)),
        ("always", 1, (True,)),
        ("always", 2, (True,)),
        ("never", 2, (False,)),
        ("auto", 0, (False,)),
    ],
)
def test_whole_models_are_tried_before_divided_ones_where_there_are_gpus_to_divide_over(spread, gpu_count, spreads):
    goal = goal_of(installed(PLAIN), Policy(spread=spread), RULES, gpu_count=gpu_count, tier=4096)
    assert goal.spreads == spreads


def test_a_goal_has_its_models_and_what_is_asked_of_them():
    policy = Policy(requests=2, kv_cache_types=("f16", "q8_0"), max_loaded_models=2)
    goal = goal_of([*installed(SHORT), wanted()], policy, RULES, gpu_count=1, tier=32768)
    assert (goal.models, goal.wanted, goal.parallels) == ((SHORT, PLAIN), True, (2, 1))
    assert (goal.kv_cache_types, goal.least_loaded, goal.longest_because) == (("f16", "q8_0"), 2, USEFUL)
    plain = goal_of(installed(PLAIN), Policy(), RULES, gpu_count=1, tier=32768)
    assert (plain.wanted, plain.least_loaded) == (False, 1)


@pytest.mark.parametrize(
    ("policy", "least"),
    [
        (Policy(requests=3), Candidate(1, 4096, "f16")),
        (Policy(requests=3, min_parallel=2, min_context_length=8192), Candidate(2, 8192, "f16")),
        (Policy(kv_cache_types=("f16", "q8_0", "q4_0")), Candidate(1, 4096, "q4_0")),
        # Whole models where they may be.
        (Policy(spread="always"), Candidate(1, 4096, spread=True)),
    ],
)
def test_the_least_that_may_be_tried(policy, least):
    assert goal_of(installed(PLAIN), policy, RULES, gpu_count=2, tier=32768).least == least
