# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ollama_plan` answers: a plan with what stands in its way, or one sentence and what is known of the host."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._answer import (
    answer,
    obstacles,
    plan_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.tests.unit.data import header

GPU = {"index": 0, "uuid": "GPU-1", "name": "RTX", "memory_total_bytes": 24 << 30}
FACTS = {"gpufleet_gpu": {"devices": [GPU]}}
GEMMA = {"name": "gemma3:4b", "header": header("gemma3:4b")}
READ = {"ansible_facts": FACTS, "models": {"models": [GEMMA], "loaded": None, "version": "0.33.0"}, "failures": []}
FOR = {"changes": [], "planned_for": {"version": "0.33.0", "engine_build": None, "observed": []}}
OURS = {"uuid": "GPU-1", "name": "RTX"}


def answered(read: dict[str, Any] | None = None, **options: object) -> dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
    return answer({**defaults, **options}, READ if read is None else read, "gpu01")


def test_a_plan_with_all_that_the_roles_ask_it() -> None:
    told = answered({**READ, "service": {"service_id": "8c7d", "stopped": "it is stopped"}})
    plan = told.pop("plan")
    assert plan["environment"]["OLLAMA_NUM_PARALLEL"] == "4"
    assert json.loads(json.dumps(plan)) == plan
    assert told == {
        "changed": False,
        "not_loaded": [],
        "warnings": [],
        "obstacles": [],
        "stopped": "it is stopped",
        "service_id": "8c7d",
        "hardware": {"gone": [], "gone_is_accepted": False, "to_remember": None, "problem": "", **FOR},
    }


def test_whoever_plans_for_many_hosts_is_given_plain_data_and_gives_a_plan_or_a_sentence() -> None:
    options = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
    given: list[dict[str, Any]] = []

    def planner(inputs: dict[str, Any]) -> dict[str, Any]:
        given.append(json.loads(json.dumps(inputs)))
        return plan_of(given[-1]) if len(given) == 1 else {"msg": "there is none"}

    assert answer(options, READ, "gpu01", planner) == answered()
    refused = answer(options, READ, "gpu01", planner)
    assert (refused["failed"], refused["msg"]) == (True, "there is none")
    assert given[0] == given[1]


def test_what_is_wanted_and_not_loaded_is_named() -> None:
    assert answered(wanted=["gemma3:4b"])["not_loaded"] == ["gemma3:4b"]
    loaded = {**READ["models"], "loaded": [{"name": "gemma3:4b", "context_length": 4096}]}
    assert answered({**READ, "models": loaded}, wanted=["gemma3:4b"])["not_loaded"] == []


def test_a_gpu_that_is_gone_may_be_accepted() -> None:
    read = {**READ, "planned_gpus": [OURS, {"uuid": "GPU-2", "name": "A"}]}
    assert answered(read, on_gpu_fault="exclude")["hardware"] == {
        "gone": ["A (GPU-2)"],
        "gone_is_accepted": True,
        "to_remember": [OURS],
        "problem": "",
        **FOR,
    }


def test_what_the_host_does_not_tell_comes_first_among_the_warnings() -> None:
    read = {**READ, "models": {**READ["models"], "unseen": ["bad is no JSON"]}, "service": {"notes": ["not at boot"]}}
    told = answered(read, version="0.99.0")
    assert told["plan"]["warnings"][:2] == ["bad is no JSON", "not at boot"]
    assert len(told["plan"]["warnings"]) > 2
    assert told["warnings"] == [f"gpu01: {warning}" for warning in told["plan"]["warnings"]]


@pytest.mark.parametrize(
    ("apply", "warnings"),
    [(False, ["the plan cannot be applied: it runs in a container", "not at boot"]), (True, ["not at boot"])],
)
def test_a_plan_that_could_not_be_applied_says_so_where_nobody_applies_it(
    apply: bool, warnings: list[str]
) -> None:
    told = answered({**READ, "service": {"refusals": ["it runs in a container"], "notes": ["not at boot"]}}, apply=apply)
    assert told["plan"]["warnings"] == warnings
    assert told["warnings"] == [f"gpu01: {warning}" for warning in warnings]
    assert told["obstacles"] == ["it runs in a container"]


@pytest.mark.parametrize(
    ("read", "options", "sentence"),
    [
        pytest.param(
            {**READ, "failures": ["no store", "damaged"]}, {}, "no store; damaged", id="what could not be read"
        ),
        pytest.param(
            {"models": READ["models"]}, {}, "gpu is required unless gather has gpu: describe the GPUs or have them read",
            id="no GPUs",
        ),
        pytest.param(
            {**READ, "planned_gpus": [OURS, {"uuid": "GPU-2", "name": "A"}], "failures": ["no store"]},
            {},
            "no store; gone since the plan was applied: A (GPU-2)",
            id="and a GPU is gone",
        ),
        pytest.param(
            READ, {"requests": -1}, "requests must be a whole number from 1 to 256, found -1", id="a wish without sense"
        ),
    ],
)
def test_where_there_is_no_plan(read: dict[str, Any], options: dict[str, Any], sentence: str) -> None:
    gpu = (read.get("ansible_facts") or {}).get("gpufleet_gpu", {})
    assert answered(read, **options) == {"failed": True, "msg": sentence, "host": {"gpu": gpu}, "service_id": ""}


@pytest.mark.parametrize("failures", [[], ["no store"]])
def test_what_was_read_is_returned_where_it_is_asked_for(failures: list[str]) -> None:
    told = answered({**READ, "failures": failures}, return_host=True)
    assert told["host"] == {"gpu": FACTS["gpufleet_gpu"], "models": READ["models"]}


def test_what_keeps_a_plan_from_being_applied_is_said_once() -> None:
    service = {
        "refusals": ["it is masked"],
        "problems": ["/y cannot be read", "it is masked"],
        "conflicts": [
            {"variable": "OLLAMA_NUM_PARALLEL", "message": "/x:2 sets it"},
            {"variable": "OLLAMA_DEBUG", "message": "/x:3 sets another"},
        ],
    }
    assert obstacles(service, {"OLLAMA_NUM_PARALLEL": "4"}) == ["it is masked", "/y cannot be read", "/x:2 sets it"]
    assert obstacles({"refusals": None}, {}) == []
