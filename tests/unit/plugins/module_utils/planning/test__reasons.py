# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sentences that say why the values of a plan are what they are."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Limit
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._reasons import reasons_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import model

A, B, C = map(model, "abc")
LIMITS = (
    Limit("parallel", 3, False, 1, "three do not fit"),
    Limit("context", 16384, False, 1, "so much does not fit"),
    Limit("models", 2, False, 1, "they evict one another"),
)
GOAL = Goal((A, B, C), False, (4, 3, 2, 1), (4096, 8192, 16384), ("f16",), (False,), longest_because="it is the most")


def reasons(candidate: Candidate, loaded: int = 1, order=(), is_kept=False, policy=None, **goal) -> tuple[str, ...]:
    asked = replace(GOAL, **goal)
    chosen = Chosen(
        inputs=SimpleNamespace(policy=policy or Policy(), rules=rules("0.33.0")),
        judge=SimpleNamespace(runners=lambda models, _setting: models),
        goal=asked,
        choice=Choice(candidate, loaded, order),
        is_kept=is_kept,
    )
    return reasons_for(chosen, LIMITS)


PARALLEL, MODELS, CONTEXT = range(3)


@pytest.mark.parametrize(
    ("which", "candidate", "options", "sentence"),
    [
        (
            PARALLEL,
            Candidate(2, 8192),
            {},
            "OLLAMA_NUM_PARALLEL=2 is the largest safe value, of 4 that are asked for: with 3, three do not fit.",
        ),
        (
            PARALLEL,
            Candidate(4, 8192),
            {},
            "OLLAMA_NUM_PARALLEL=4 is the smallest value that serves the 4 requests at once that are asked for.",
        ),
        (
            PARALLEL,
            Candidate(1, 8192),
            {"parallels": (1,)},
            "OLLAMA_NUM_PARALLEL=1: no planned model is to serve, or can serve, more than one request at a time.",
        ),
        (
            PARALLEL,
            Candidate(1, 8192),
            {"parallels": (1,), "models": (A, replace(B, family="qwen35"))},
            "OLLAMA_NUM_PARALLEL=1: b serves one request at a time: Ollama gives its family one slot.",
        ),
        (
            PARALLEL,
            Candidate(1, 8192),
            {"parallels": (1,), "models": tuple(replace(one, family="qwen35") for one in (A, B))},
            "OLLAMA_NUM_PARALLEL=1: a, b serve one request at a time: Ollama gives their families one slot.",
        ),
        (
            PARALLEL,
            Candidate(7, 8192),
            {"policy": Policy(num_parallel=7)},
            "OLLAMA_NUM_PARALLEL=7 is the operator's own value.",
        ),
        (
            CONTEXT,
            Candidate(2, 8192),
            {},
            "OLLAMA_CONTEXT_LENGTH=8192 is the longest safe value: with 16384, so much does not fit.",
        ),
        (CONTEXT, Candidate(2, 16384), {}, "OLLAMA_CONTEXT_LENGTH=16384: it is the most."),
        (
            MODELS,
            Candidate(2, 8192),
            {},
            "OLLAMA_MAX_LOADED_MODELS=1: each of the 3 models is safe alone, any two are not: they evict one another.",
        ),
        (
            MODELS,
            Candidate(2, 8192),
            {"loaded": 2},
            "OLLAMA_MAX_LOADED_MODELS=2: any 2 of the 3 models are safe together, any 2 are not: they evict one another.",
        ),
        (
            MODELS,
            Candidate(2, 8192),
            {"loaded": 3},
            "OLLAMA_MAX_LOADED_MODELS=3: all models that can be planned for are safe together in any order.",
        ),
        (
            MODELS,
            Candidate(2, 8192),
            {"loaded": 3, "wanted": True},
            "OLLAMA_MAX_LOADED_MODELS=3 is the number of wanted models, which are safe together.",
        ),
        (
            MODELS,
            Candidate(2, 8192),
            {"loaded": 3, "policy": Policy(max_loaded_models=5)},
            "OLLAMA_MAX_LOADED_MODELS=5 is the operator's own value.",
        ),
    ],
)
def test_each_value_has_its_reason(which, candidate, options, sentence):
    found = reasons(candidate, **options)
    assert len(found) == 3
    assert found[which] == sentence


QUANTISED = "The KV cache is q8_0, because f16 would not allow as much."
DIVIDED = (
    "OLLAMA_SCHED_SPREAD divides every model over all GPUs, because whole models on single GPUs would not be safe together."
)


@pytest.mark.parametrize(
    ("candidate", "options", "more"),
    [
        (Candidate(2, 8192), {"kv_cache_types": ("f16", "q8_0"), "spreads": (False, True)}, ()),
        (Candidate(2, 8192, "q8_0"), {"kv_cache_types": ("f16", "q8_0")}, (QUANTISED,)),
        # What was not chosen needs no reason.
        (Candidate(2, 8192, "q8_0"), {"kv_cache_types": ("q8_0",)}, ()),
        (Candidate(2, 8192, spread=True), {"spreads": (False, True)}, (DIVIDED,)),
        (Candidate(2, 8192, spread=True), {"spreads": (True,)}, ()),
        (Candidate(2, 8192), {"order": ("b", "a")}, ("The models are safe together only when loaded as b, a.",)),
        (
            Candidate(2, 8192),
            {"is_kept": True},
            ("These values run already and are safe; what is better now might not last, so they stay.",),
        ),
    ],
)
def test_what_else_decided_is_said_after_them(candidate, options, more):
    assert reasons(candidate, **options)[3:] == more


def test_without_models_there_is_one_reason():
    assert reasons(Candidate(1, 4096), models=()) == (
        "There is no model to plan for, so the values are the smallest.",
    )
