# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator is told of a plan: for each warning what brings it, and what only just does not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Demand, Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import PlannedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._warnings import (
    blob_warnings,
    client_warnings,
    model_warnings,
    plan_warnings,
    service_warnings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    FOREVER_SECONDS,
    ServerSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import model

GIB = 1 << 30
A = model("a", family="llama", context_length_trained=8192, block_count=32)


@pytest.mark.parametrize(
    ("changes", "asked", "candidate", "beginning"),
    [
        ({}, {}, Candidate(2, 4096), None),
        # num_ctx of the Modelfile wins over what is planned, whichever is more.
        (
            {"num_ctx": 4097},
            {},
            Candidate(2, 4096),
            "the Modelfile of a sets num_ctx 4097, above the planned 4096: it is planned with 4097",
        ),
        ({"num_ctx": 4096}, {}, Candidate(2, 4096), None),
        (
            {"num_ctx": 8193},
            {},
            Candidate(2, 4096),
            "the Modelfile of a sets num_ctx 8193, beyond the 8192 tokens it was trained for",
        ),
        ({"num_ctx": 8192}, {}, Candidate(2, 8192), None),
        (
            {"num_ctx": 4095},
            {},
            Candidate(2, 4096),
            "the Modelfile of a sets num_ctx 4095, which wins over OLLAMA_CONTEXT_LENGTH: its requests get 4095 tokens",
        ),
        # With less than is planned it may still get what is asked of it.
        ({"num_ctx": 2048}, {"context_length": 2048}, Candidate(2, 4096), None),
        ({"num_ctx": 2048}, {"context_length": 2049}, Candidate(2, 4096), "the Modelfile of a sets num_ctx 2048, which wins"),
        ({}, {"context_length": 8192}, Candidate(2, 8192), None),
        (
            {},
            {"context_length": 8193},
            Candidate(2, 8193),
            "a was trained for 8192 tokens of context: it does not get the 8193 asked for",
        ),
        ({"context_length_trained": 0}, {"context_length": 8193}, Candidate(2, 8193), None),
        ({"num_batch": 256}, {}, Candidate(2, 4096), "the Modelfile of a sets num_batch 256: it is planned with that batch"),
        ({"main_gpu": 0}, {}, Candidate(2, 4096), "the Modelfile of a sets main_gpu 0: Ollama puts it on that GPU"),
        # Of 32 layers and the output.
        (
            {"num_gpu": 32},
            {},
            Candidate(2, 4096),
            "the Modelfile of a sets num_gpu 32 of 33 layers: the others run on the CPU by intent",
        ),
        ({"num_gpu": 0}, {}, Candidate(2, 4096), "the Modelfile of a sets num_gpu 0 of 33 layers"),
        ({"num_gpu": 33}, {}, Candidate(2, 4096), None),
        ({"num_gpu": -1}, {}, Candidate(2, 4096), None),
        # qwen35 gets one slot (ollama server/sched.go, load()).
        (
            {"family": "qwen35"},
            {},
            Candidate(2, 4096),
            "a serves one request at a time: Ollama gives its family one slot (qwen35, Ollama 0.33.0), whatever",
        ),
        ({"family": "qwen35"}, {}, Candidate(1, 4096), None),
        (
            {"family": "qwen35"},
            {"requests": 2},
            Candidate(1, 4096),
            "a serves one request at a time: Ollama gives its family one slot",
        ),
        ({"is_embedding": True}, {}, Candidate(2, 4096), None),
        ({"is_embedding": True}, {"requests": 1}, Candidate(2, 4096), None),
        (
            {"is_embedding": True},
            {"requests": 2},
            Candidate(2, 4096),
            "a is an embedding model: Ollama gives it one slot, 2 are asked for",
        ),
        ({"is_embedding": True}, {"context_length": 4096}, Candidate(2, 4096), None),
        ({}, {"requests": 2}, Candidate(2, 4096), None),
    ],
)
def test_what_is_special_about_a_model_is_said(changes, asked, candidate, beginning):
    demand = Demand(replace(A, **changes), WantedModel("a", **asked) if asked else None)
    warnings = model_warnings(demand, candidate, rules("0.33.0"), requests=1)
    if beginning is None:
        assert warnings == []
    else:
        (warning,) = warnings
        assert warning.startswith(beginning)


def test_a_family_with_one_slot_is_warned_of_where_requests_at_once_are_asked_for_of_all():
    demand = Demand(replace(A, family="qwen35"), None)
    assert [len(model_warnings(demand, Candidate(1, 4096), rules("0.33.0"), requests=count)) for count in (1, 2)] == [0, 1]


AHEAD = replace(shape("llama3.1:8b"), numbers={**shape("llama3.1:8b").numbers, "nextn_predict_layers": 1}, ahead_bytes=1)


@pytest.mark.parametrize(
    ("of_model", "version", "is_warned_of"),
    [
        (AHEAD, "0.33.0", True),
        # A Modelfile that sets it has it planned; a version that does not know it does nothing with it.
        (replace(AHEAD, parameters={"draft_num_predict": 1}), "0.33.0", False),
        (AHEAD, "0.24.0", False),
        (replace(AHEAD, ahead_bytes=0), "0.33.0", False),
        (None, "0.33.0", False),
    ],
)
def test_layers_that_would_predict_ahead_where_a_client_has_them_do_so_are_told(of_model, version, is_warned_of):
    warnings = model_warnings(Demand(replace(A, shape=of_model), None), Candidate(1, 4096), rules(version), requests=1)
    assert ["a has layers that predict tokens ahead (MTP)" in one for one in warnings] == [True] * is_warned_of


@pytest.mark.parametrize(
    ("loaded", "running", "is_warned_of"),
    [
        ({"a": 8193}, 4096, True),
        ({"a": 8192}, 4096, False),
        # The service gives so much by itself.
        ({"a": 16384}, 16384, False),
        ({"a": 16385}, 16384, True),
        ({"b": 16384}, 4096, False),
        ({}, 4096, False),
    ],
)
def test_clients_that_ask_for_more_than_is_planned_are_found(loaded, running, is_warned_of):
    planned = [PlannedModel("a", True, context_length=8192)]
    warnings = client_warnings(planned, loaded, running)
    assert bool(warnings) is is_warned_of
    if warnings:
        start = f"a is loaded with {loaded['a']} tokens of context, above the planned 8192: a client asks for them by num_ctx"
        assert warnings[0].startswith(start)


B = model("b", key="a")


@pytest.mark.parametrize(
    ("models", "warnings"),
    [
        ([A, model("c")], []),
        ([model("c"), A, B], ["a, b are tags of one file: they share one runner and count as one model"]),
        (
            [A, replace(B, num_ctx=2048)],
            [
                "a, b are tags of one file with different num_ctx: one of them is loaded at a time, and Ollama reloads it "
                "whenever another tag is asked for"
            ],
        ),
        # server/sched.go, needsReload(): what the engine runs is compared, not what the Modelfiles say.
        (
            [A, replace(B, num_ctx=4096)],
            ["a, b are tags of one file: they share one runner and count as one model"],
        ),
        (
            [replace(A, num_ctx=2048), replace(B, num_ctx=2048)],
            ["a, b are tags of one file: they share one runner and count as one model"],
        ),
        (
            [A, replace(B, side_files=("sha256-1",))],
            [
                "a, b are tags of one file with different projector or adapter: one of them is loaded at a time, and Ollama "
                "reloads it whenever another tag is asked for"
            ],
        ),
        *(
            (
                [replace(A, **{name: first}), replace(B, **{name: second})],
                [
                    f"a, b are tags of one file with different {name}: one of them is loaded at a time, and Ollama reloads it "
                    "whenever another tag is asked for"
                ],
            )
            for name, first, second in (("num_batch", 64, None), ("num_gpu", 0, 1), ("main_gpu", 0, None))
        ),
        (
            [replace(A, num_batch=64, main_gpu=0), B],
            [
                "a, b are tags of one file with different num_batch and main_gpu: one of them is loaded at a time, and Ollama "
                "reloads it whenever another tag is asked for"
            ],
        ),
        # -1 says as little as nothing.
        ([replace(A, num_gpu=-1), B], ["a, b are tags of one file: they share one runner and count as one model"]),
        (
            [replace(A, num_gpu=0), B],
            [
                "a, b are tags of one file: they share one runner and count as one model",
                "the Modelfile of a sets num_gpu 0: where it is loaded first, its runner also serves b with as few layers on "
                "the GPU; set num_gpu in all tags of the file, or in none",
            ],
        ),
    ],
)
def test_tags_of_one_file_are_named(models, warnings):
    assert blob_warnings(models, Candidate(1, 4096)) == warnings


FOREVER = ServerSettings(keep_alive_seconds=FOREVER_SECONDS)
KEPT = (
    "idle models are unloaded after 300 s: set OLLAMA_KEEP_ALIVE=-1 in ollama_plan_operator_environment to keep the wanted"
    " models loaded"
)


@pytest.mark.parametrize(
    ("environment", "settings", "foreign", "keeps_models", "warnings"),
    [
        ({}, FOREVER, {}, True, []),
        ({}, ServerSettings(keep_alive_seconds=300), {}, True, [KEPT]),
        ({}, ServerSettings(keep_alive_seconds=300), {}, False, []),
        (
            {},
            replace(FOREVER, fit=False),
            {},
            False,
            ["LLAMA_ARG_FIT is off: a model that does not fit fails instead of using the CPU"],
        ),
        (
            {"OLLAMA_NUM_PARALLEL": "2"},
            FOREVER,
            {"OLLAMA_NUM_PARALLEL": "4"},
            True,
            ["OLLAMA_NUM_PARALLEL=4 is set elsewhere; the plan sets 2"],
        ),
        ({"OLLAMA_NUM_PARALLEL": "2"}, FOREVER, {"OLLAMA_NUM_PARALLEL": "2"}, True, []),
        ({}, FOREVER, {"OLLAMA_NUM_PARALLEL": "4"}, True, []),
        # What no plan decides may be set by whoever likes.
        ({"OLLAMA_DEBUG": "0"}, FOREVER, {"OLLAMA_DEBUG": "1"}, True, []),
    ],
)
def test_settings_of_the_service_that_work_against_the_plan_are_said(
    environment, settings, foreign, keeps_models, warnings
):
    assert service_warnings(environment, settings, foreign, keeps_models=keeps_models) == warnings


GOAL = Goal((A,), True, (2, 1), (4096,), ("f16",), (False,))


def chosen(goal=GOAL, *, unsafe="", gpus=(0,), loaded=1, total=64 * GIB, available=10 * GIB) -> Chosen:
    host = SimpleNamespace(gpus=gpus, system_memory_total_bytes=total, system_memory_available_bytes=available)
    return Chosen(SimpleNamespace(host=host), None, goal, Choice(Candidate(2, 4096), loaded), unsafe=unsafe)


def planned(*system_gib: int) -> list[PlannedModel]:
    return [PlannedModel(str(size), True, system_memory_bytes=size * GIB) for size in system_gib]


@pytest.mark.parametrize(
    ("plan", "models", "warnings"),
    [
        (chosen(), planned(1), []),
        (chosen(unsafe="it spills"), planned(1), ["the plan is not safe: it spills"]),
        (
            chosen(gpus=()),
            planned(99),
            ["no GPU is planned with: the models run on the CPU, where requests at once share its cores"],
        ),
        (
            chosen(replace(GOAL, models=())),
            [],
            ["no model is installed that could be planned for: plan again when there is one"],
        ),
        # As many as are loaded, those that take most.
        (chosen(), planned(10, 9), []),
        (
            chosen(loaded=2),
            planned(9, 2, 1),
            ["the planned models take 11.0 GiB of system memory besides the GPUs, and 10.0 GiB are available"],
        ),
        (chosen(loaded=2), planned(8, 2, 1), []),
        # Whose memory is not known is not warned of.
        (chosen(total=0, available=0), planned(11), []),
        (
            chosen(replace(GOAL, parallels=(4, 3, 2, 1))),
            planned(1),
            ["4 requests at once are asked for, 2 are safe: the others wait"],
        ),
        (
            chosen(),
            [PlannedModel("a", True, basis="estimate", note="it is new"), PlannedModel("b", True, basis="estimate")],
            ["the memory of a is estimated: it is new", "the memory of b is estimated"],
        ),
        (chosen(), [PlannedModel("a", True, basis="exact", note="it is new")], []),
    ],
)
def test_what_is_to_be_said_of_the_plan_as_a_whole(plan, models, warnings):
    assert plan_warnings(plan, models) == warnings


def test_a_setting_made_elsewhere_is_named_with_file_and_line():
    (warning,) = service_warnings(
        {"OLLAMA_NUM_PARALLEL": "2"},
        ServerSettings(),
        {"OLLAMA_NUM_PARALLEL": "4"},
        keeps_models=False,
        places={"OLLAMA_NUM_PARALLEL": "/d/override.conf:3"},
    )
    assert warning == "OLLAMA_NUM_PARALLEL=4 is set in /d/override.conf:3; the plan sets 2"
