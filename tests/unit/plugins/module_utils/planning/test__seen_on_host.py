# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan counts with what the server's log says that loads took, and only ever with more."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    Launched,
    LoggedBuffer,
    LoggedLoad,
    ModelHistory,
    ServerLog,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _seen_on_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import chosen_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import goal_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Experience, read_inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import judge_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Plan
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import SeenLoad
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen_on_host import (
    SeenOnHost,
    is_safe_by_the_rules,
    seen_on_host,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import scheduler_model
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

GPU = {"devices": [{"memory_total_bytes": 12 * GIB}]}
LLAMA = shape("llama3.1:8b")


def planned(said: Said | None = None, **experience: Any) -> Plan:
    known = Experience(said=said or Said(), **experience)
    return plan_host(gpu=GPU, models=[LLAMA.to_dict()], version="0.33.0", experience=known)


def said(plan: Plan, *, more_bytes: int, at_least: bool = False) -> Said:
    """A log of the planned load, which took so much more of compute buffers."""
    (model,) = plan.models
    (share,) = model.gpus
    total = model.context_length * model.num_parallel
    launched = Launched(LLAMA.digest, total, model.num_parallel, model.batch, "", "auto", -1, False, False, False)
    buffers = (
        LoggedBuffer("CUDA0", "weights", share.weights_bytes),
        LoggedBuffer("CUDA0", "kv_cache", share.kv_cache_bytes),
        LoggedBuffer("CUDA0", "compute", share.compute_bytes + more_bytes),
    )
    load = LoggedLoad(launched, "2026-11-28T02:00:00Z", 1, 33, 33, (), (), buffers)
    history = ModelHistory(LLAMA.digest, loads=15, evicted=14, spilled=1)
    return Said(ServerLog(version="0.33.0", loads=(load,), models=(history,)), at_least)


def test_what_took_as_foretold_changes_nothing():
    plan = planned()
    again = planned(said(plan, more_bytes=0))
    assert (again.environment, again.basis, again.observed) == (plan.environment, "exact", ())
    assert {row.kind for row in again.seen} == {"weights", "kv_cache", "compute"}


def test_a_little_more_is_counted_with_and_called_observed():
    plan = planned()
    again = planned(said(plan, more_bytes=8 * MIB))
    assert again.environment == plan.environment
    assert again.basis == "observed"
    assert again.models[0].gpus[0].compute_bytes == plan.models[0].gpus[0].compute_bytes + 8 * MIB
    assert any(
        "took 8 MiB more of GPU 0 for its compute buffer than foretold" in warning
        for warning in again.warnings
    )
    # A later start of the server has no such line any more.
    assert planned(observed=again.observed).basis == "observed"


def test_what_runs_today_is_told_by_the_rules_alone():
    running = Service(running={"OLLAMA_CONTEXT_LENGTH": "8192", "OLLAMA_NUM_PARALLEL": "4"})
    policy = Policy(num_parallel=4, context_length=8192)
    arguments = {"gpu": GPU, "models": [LLAMA.to_dict()], "version": "0.33.0", "service": running, "policy": policy}
    plan = plan_host(**arguments)
    again = plan_host(**arguments, experience=Experience(said=said(plan, more_bytes=200 * MIB)))
    assert again.basis == "observed"
    assert again.gpus[0].planned_bytes == plan.gpus[0].planned_bytes + 200 * MIB
    assert again.today.gpu_bytes == plan.today.gpu_bytes


def test_much_more_makes_the_plan_give_up_what_does_not_fit():
    plan = planned()
    again = planned(said(plan, more_bytes=6 * GIB))
    assert again.safe
    assert again.environment != plan.environment


@pytest.mark.parametrize("more_bytes", [-(2**20), -(2**28), 20 * GIB])
def test_less_and_more_than_the_gpu_has_change_no_figure(more_bytes):
    plan = planned()
    again = planned(said(plan, more_bytes=more_bytes))
    assert (again.environment, again.models, again.observed) == (plan.environment, plan.models, ())


@pytest.mark.parametrize(
    ("at_least", "sentence"),
    [
        (False, "llama3.1:8b was evicted 14 times and was left partly to the CPU once (such loads are not compared"),
        (True, "llama3.1:8b was evicted at least 14 times and was left partly to the CPU at least once (such loads are not"),
    ],
)  # fmt: skip
def test_evictions_and_spills_are_told(at_least, sentence):
    plan = planned(said(planned(), more_bytes=0, at_least=at_least))
    assert [one for one in plan.warnings if one.startswith(sentence) and one.endswith("since the server was started")]
    assert (plan.history[0].model, plan.history[0].loads, plan.history[0].evicted) == ("llama3.1:8b", 15, 14)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("", "llama3.1:8b could not be loaded twice since the server was started"),
        (
            "unable to load model: it does not fit.",
            "llama3.1:8b could not be loaded twice (unable to load model: it does not fit) since the server was started",
        ),
    ],
)
def test_what_the_server_refused_to_load_is_told_with_its_own_words(error, sentence):
    log = ServerLog(version="0.33.0", models=(ModelHistory(LLAMA.digest, failed=2, error=error),))
    assert sentence in planned(Said(log)).warnings


INPUTS = SimpleNamespace(
    demands=(), others=(scheduler_model(LLAMA),), host=SimpleNamespace(gpus=()), rules=rules("0.33.0")
)


@pytest.mark.parametrize(
    ("counts", "sentences"),
    [
        ({"loads": 3}, []),
        ({"evicted": 1}, ["llama3.1:8b was evicted once since the server was started"]),
        (
            {"spilled": 3},
            [
                "llama3.1:8b was left partly to the CPU 3 times (such loads are not compared with what is foretold) since the "
                "server was started"
            ],
        ),
        ({"failed": 2}, ["llama3.1:8b could not be loaded twice since the server was started"]),
    ],
)
def test_only_what_went_wrong_is_warned_of(counts, sentences):
    log = ServerLog(version="0.33.0", models=(ModelHistory(LLAMA.digest, **counts),))
    assert list(seen_on_host(INPUTS, Said(log), ()).warnings) == sentences


def test_a_model_has_its_name_or_that_of_its_file():
    log = ServerLog(version="0.33.0", models=(ModelHistory(LLAMA.digest), ModelHistory("sha256-other")))
    assert [one.model for one in seen_on_host(INPUTS, Said(log), ()).history] == ["llama3.1:8b", "sha256-other"]
    assert seen_on_host(INPUTS, Said(ServerLog(version="0.33.0")), ()) == SeenOnHost()


def test_of_many_differences_the_five_largest_are_told(monkeypatch):
    rows = [
        SeenLoad(
            *("m", LLAMA.digest, "compute", 0, 8192, 4, 512, "f16", "auto", "0.33.0", 10488, "exact", 64 * MIB),
            *(64 * MIB + more * MIB, "T", True, False),
        )
        for more in (1, -7, 3, 2, -5, 6, 4)
    ]
    log = ServerLog(version="0.33.0", models=(ModelHistory(LLAMA.digest),))
    monkeypatch.setattr(_seen_on_host, "compared", lambda *_given: tuple(rows))
    *told, last = seen_on_host(INPUTS, Said(log), ()).warnings
    sizes = [one.split(" took ")[1].split(" of ")[0] for one in told]
    assert sizes == ["7 MiB less", "6 MiB more", "5 MiB less", "4 MiB more", "3 MiB more"]
    assert last == "2 more buffers were not as foretold: see seen"
    monkeypatch.setattr(_seen_on_host, "compared", lambda *_given: tuple(rows[:5]))
    assert len(seen_on_host(INPUTS, Said(log), ()).warnings) == 5


@pytest.mark.parametrize("wanted", [(), (WantedModel("llama3.1:8b"),)], ids=["whichever is asked for", "wanted"])
def test_what_was_chosen_is_held_against_the_rules_alone(wanted):
    inputs = read_inputs(
        gpu=GPU,
        models=[LLAMA.to_dict()],
        wanted=wanted,
        policy=Policy(),
        version="0.33.0",
        service=Service(),
        unplannable={},
    )
    chosen = chosen_for(inputs, goal_for(inputs), judge_for(inputs))
    more = replace(chosen.choice, candidate=replace(chosen.choice.candidate, parallel=64))
    in_order = replace(more, order=("llama3.1:8b",))
    assert is_safe_by_the_rules(chosen, inputs)
    assert is_safe_by_the_rules(replace(chosen, choice=replace(chosen.choice, order=in_order.order)), inputs)
    for unsafe in (more, in_order):
        assert not is_safe_by_the_rules(replace(chosen, choice=unsafe), inputs)
        # Whatever says of itself that it is not safe promises nothing.
        assert is_safe_by_the_rules(replace(chosen, choice=unsafe, unsafe="it spills"), inputs)
