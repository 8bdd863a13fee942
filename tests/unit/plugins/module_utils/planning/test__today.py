# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs today is judged as a plan is, and what the plan changes of it is said in its operator's terms."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import ServerLog
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _today
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Experience
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Eviction, Plan, Today
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._today import differences
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import model


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
    assert planned({"PATH": "/bin"}, "llama3.1:8b", experience=Experience(said=said)).today.context_length == 4096
    set_anyway = planned({"OLLAMA_CONTEXT_LENGTH": "8192"}, "llama3.1:8b", experience=Experience(said=said)).today
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


A, B = model("a"), model("b")
TODAY = Today(2, 3, 8192, "f16", together=2, spills=(), evictions=(), gpu_bytes=5 * GIB, sentences=())


def told(today: Today | None, candidate: Candidate, *, ends: str = "", gpu_bytes: int = 5 * GIB, **changes: Any) -> list[str]:
    values: dict[str, Any] = {"loaded": 2, "policy": Policy(), "unsafe": "", "models": (A, B), **changes}
    chosen = Chosen(
        SimpleNamespace(policy=values["policy"], automatic_context_length=8192),
        None,
        Goal(values["models"], True, (2, 1), (8192,), ("f16",), (False,)),
        Choice(candidate, values["loaded"]),
        unsafe=values["unsafe"],
    )
    return list(differences(today, chosen, gpu_bytes, ends))


ENDS = "1 x 16384 or 2 x 8192"
BETWEEN = f"slots or context: {ENDS} is safe; OLLAMA_NUM_PARALLEL (ollama_plan_requests) decides between them"
SHORTER = "each request gets 4096 tokens of context, today 8192: "


@pytest.mark.parametrize(
    ("today", "candidate", "options", "sentences"),
    [
        (TODAY, Candidate(2, 8192), {}, []),
        (TODAY, Candidate(4, 8192), {}, ["requests at once for each model: 2 today, 4 planned"]),
        (TODAY, Candidate(2, 16384), {}, ["context for each request: 8192 today, 16384 planned"]),
        (TODAY, Candidate(2, 8192), {"loaded": 1}, ["models kept loaded together: 2 today, 1 planned"]),
        (
            TODAY,
            Candidate(2, 8192),
            {"policy": Policy(max_loaded_models=5)},
            ["models kept loaded together: 2 today, 5 planned"],
        ),
        # Of what is safe together no more stay than are allowed to.
        (replace(TODAY, max_loaded_models=1), Candidate(2, 8192), {}, ["models kept loaded together: 1 today, 2 planned"]),
        (TODAY, Candidate(2, 8192), {"gpu_bytes": 6 * GIB}, ["GPU memory of loaded models: 5.0 GiB today, 6.0 GiB planned"]),
        (TODAY, Candidate(2, 8192), {"gpu_bytes": 4 * GIB}, ["GPU memory of loaded models: 5.0 GiB today, 4.0 GiB planned"]),
        # No more than its digits tell.
        (TODAY, Candidate(2, 8192), {"gpu_bytes": 5 * GIB + 1}, []),
        (TODAY, Candidate(2, 8192), {"ends": ENDS}, []),
        (TODAY, Candidate(4, 8192), {"ends": ENDS}, [BETWEEN, "requests at once for each model: 2 today, 4 planned"]),
        (
            TODAY,
            Candidate(2, 4096),
            {},
            [
                f"{SHORTER}more does not fit beside the models that are kept; with ollama_plan_wanted name fewer, or set "
                "ollama_plan_context_length=8192 to have it checked"
            ],
        ),
        (
            TODAY,
            Candidate(2, 4096),
            {"loaded": 1},
            [
                f"{SHORTER}more does not fit; set ollama_plan_context_length=8192 to have it checked",
                "models kept loaded together: 2 today, 1 planned",
            ],
        ),
        (
            TODAY,
            Candidate(2, 4096),
            {"policy": Policy(max_context_length=8191)},
            [f"{SHORTER}ollama_plan_max_context_length allows no more; raise it"],
        ),
        (
            TODAY,
            Candidate(2, 4096),
            {"policy": Policy(max_context_length=8192), "ends": ENDS},
            [
                f"{SHORTER}that is the price of 2 slots ({ENDS}); with ollama_plan_requests=1 a request gets more, and with "
                "ollama_plan_context_length=8192 it keeps what it has where that fits"
            ],
        ),
        # Where nothing runs, Ollama's own choice is what would.
        (None, Candidate(2, 8192), {}, []),
        (None, Candidate(2, 8192), {"ends": ENDS}, [BETWEEN]),
        (
            None,
            Candidate(2, 16384),
            {},
            ["each request gets 16384 tokens of context, by Ollama itself 8192: there is memory for it"],
        ),
        (None, Candidate(2, 16384), {"unsafe": "it spills"}, []),
        # A Modelfile that sets num_ctx has its own, whatever is planned.
        (TODAY, Candidate(2, 4096), {"models": (replace(A, num_ctx=512),)}, []),
    ],
)
def test_what_the_plan_changes(today, candidate, options, sentences):
    assert told(today, candidate, **options) == sentences


@pytest.mark.parametrize(
    ("together", "models", "sentences"),
    [
        (2, (A, B), ["all 2 models fit together, whichever is asked for first"]),
        (1, (A, B), ["any 1 of the 2 models are safe together, any 2 are not"]),
        (0, (A, B), ["not every one of the 2 models is safe alone"]),
        (1, (A,), []),
        (0, (A,), []),
        # Of a context that no model makes use of, what is set is told.
        (1, (replace(A, num_ctx=512),), []),
    ],
)
def test_how_many_models_of_today_fit_together(together, models, sentences):
    values = "2 requests at once for each model, 8192 tokens for each request, at most 3 models loaded"
    assert list(_today._sentences(replace(TODAY, together=together), models)) == [values, *sentences]


def test_of_many_models_16_are_loaded_in_turn():
    assert _today.MOST_LOADED_IN_TURN == 16


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


def test_without_a_gpu_nothing_spills_and_what_does_not_start_does_not_lie_on_one():
    running = {"OLLAMA_CONTEXT_LENGTH": "4096", "OLLAMA_NUM_PARALLEL": "4", "OLLAMA_KV_CACHE_TYPE": "q8_0"}
    on_cpu = planned({"OLLAMA_CONTEXT_LENGTH": "4096"}, "llama3.2:3b", gpus=()).today
    assert (on_cpu.spills, on_cpu.gpu_bytes) == ((), 0)
    refused = planned({**running, "OLLAMA_FLASH_ATTENTION": "1"}, "phi4:14b").today
    assert (refused.spills, refused.together, refused.gpu_bytes) == (("phi4:14b",), 0, 0)


def test_where_there_is_nothing_to_choose_between_nothing_is_said_of_it():
    plan = planned(None, "qwen3:14b", policy=Policy(num_parallel=8, context_length=32768))
    assert not plan.safe
    longest = planned(None, "llama3.2:3b", gpus=(80,))
    assert (longest.num_parallel, longest.context_length) == (4, 131072)
    nothing = planned(None, policy=Policy(min_parallel=2))
    for made in (longest, nothing):
        assert not [one for one in (*made.reasons, *made.difference) if "lots or context" in one]
    assert not [one for one in (*plan.reasons, *plan.difference) if "lots or context" in one]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_single_slot_may_have_more_context_beside_other_models_too(is_wanted):
    names = ("llama3.1:8b", "qwen3:8b")
    wanted = [WantedModel(name) for name in names] if is_wanted else ()
    plan = planned(None, *names, wanted=wanted)
    (sentence,) = (one for one in plan.reasons if one.startswith("Slots or context: "))
    longest = int(sentence.split()[5])
    assert longest > plan.context_length

    def fits(context_length):
        own = Policy(requests=1, num_parallel=1, context_length=context_length)
        try:
            alone = planned(None, *names, wanted=wanted, policy=own)
        except ValueError:
            return False
        return alone.safe and alone.max_loaded_models >= plan.max_loaded_models

    assert fits(longest)
    assert not fits(2 * longest)
