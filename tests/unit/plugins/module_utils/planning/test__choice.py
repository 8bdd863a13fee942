# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs is kept or left by how much free memory there is: to the MiB."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import chosen_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import goal_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import read_inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge, judge_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

MIB = 1 << 20
TOTAL = 24 << 30
MODEL = "llama3.1:8b"


def inputs(*free_bytes: int, models=(MODEL,), wanted=(MODEL,), running: Candidate | None = None, loaded=1, **options):
    environment = running.environment(loaded) if running else {}
    return read_inputs(
        gpu={
            "system_memory_total_bytes": 64 << 30,
            "devices": [
                {"memory_total_bytes": TOTAL, "memory_free_bytes": free, "compute_capability": "8.6"}
                for free in free_bytes
            ],
        },
        # With a batch of its own a model takes as much of a GPU that is nearly full as of an idle one.
        models=[replace(shape(name), parameters={"num_batch": 512}).to_dict() for name in models],
        wanted=wanted_from_list(list(wanted)),
        policy=policy_from_dict({"requests": 2, "context_length": 8192, **options}),
        version="0.33.0",
        service=Service(running=environment, managed=environment),
        unplannable={},
    )


def choose(given):
    return chosen_for(given, goal_for(given), judge_for(given))


def needed_bytes(parallel: int, context_length: int = 8192) -> int:
    """Free memory from which on the model is safe with so many slots: what it takes, and what the engine leaves."""
    judge = judge_for(inputs(TOTAL))
    (model,) = judge.simulation.models
    candidate = Candidate(parallel, context_length)
    return sum(judge.alone_outcome(model, candidate).gpu_bytes) + judge.server(candidate).margin_bytes


@pytest.mark.parametrize(
    ("running", "more_mib", "parallel", "is_kept"),
    [
        # Nothing runs: what is safe now is taken, to the byte.
        (None, 0, 2, False),
        (None, -1, 1, False),
        # One slot runs. It stays until two would be safe with 256 MiB less, which is twice what a reading varies by.
        (1, 0, 1, True),
        (1, 127, 1, True),
        (1, 129, 1, True),
        (1, 255, 1, True),
        (1, 256, 2, False),
        # Two slots run, and stay as long as they are safe.
        (2, 0, 2, False),
        (2, -1, 1, False),
        # Three that run are not safe: two are taken that are safe with 128 MiB less, else one.
        (3, 127, 1, False),
        (3, 128, 2, False),
    ],
)
def test_running_values_are_left_for_better_ones_that_will_last(running, more_mib, parallel, is_kept):
    chosen = choose(
        inputs(needed_bytes(2) + more_mib * MIB, running=Candidate(running, 8192) if running else None)
    )
    assert (chosen.choice.candidate.parallel, chosen.is_kept) == (parallel, is_kept)


@pytest.mark.parametrize(
    ("context_length", "more_mib", "runs", "length"),
    [
        # Ollama itself would take 32768 for this GPU. What is longer has to be safe with 128 MiB less too ...
        (65536, 128, False, 65536),
        (65536, 127, False, 32768),
        # ... and stays, once it runs, as long as it is safe.
        (65536, 127, True, 65536),
        (65536, 0, True, 65536),
        (65536, -1, True, 32768),
        # What Ollama itself would take is planned to the byte.
        (32768, 0, False, 32768),
        (32768, -1, False, 16384),
    ],
)
def test_a_context_beyond_ollamas_own_is_planned_where_a_few_mib_less_do_not_take_it_back(
    context_length, more_mib, runs, length
):
    chosen = choose(
        inputs(
            needed_bytes(2, context_length) + more_mib * MIB,
            running=Candidate(2, context_length) if runs else None,
            context_length=None,
        )
    )
    assert chosen.choice.candidate == Candidate(2, length)


def test_what_is_to_last_is_tried_at_readings_around_64_mib_apart(monkeypatch):
    tried = []

    def on(judge, host):
        tried.append([(gpu.memory_free_bytes - free) // MIB for gpu in host.gpus])
        return Judge(judge.simulation.on(host))

    free = needed_bytes(2) + 1000 * MIB
    monkeypatch.setattr(Judge, "on", on)
    choose(inputs(free, running=Candidate(1, 8192)))
    # First what would be better with 256 MiB less; as that is safe, then what is safe with 128 MiB less.
    assert tried == [[change] for change in (-256, -192, -128, -64, 0, 64, 128, -128, -64, 0, 64, 128)]
    del tried[:]
    choose(inputs(free, free, running=Candidate(1, 8192)))
    both = [[change, change] for change in (-256, -192, -128, -64, 0, 64, 128)]
    # Each GPU by itself, and against the other one.
    single = [[-128, 0], [-128, 128], [128, 0], [128, -128], [0, -128], [128, -128], [0, 128], [-128, 128]]
    assert tried == [*both, *single, *both[2:], *single]


@pytest.mark.parametrize(
    ("options", "candidate", "unsafe"),
    [
        ({"num_parallel": 1}, Candidate(1, 8192), ""),
        ({"num_parallel": 64}, Candidate(64, 8192), "safe would be OLLAMA_NUM_PARALLEL=2 and OLLAMA_MAX_LOADED_MODELS=1"),
    ],
)
def test_the_operators_own_value_is_taken_and_judged(options, candidate, unsafe):
    chosen = choose(inputs(needed_bytes(2), **options))
    assert chosen.choice.candidate == candidate
    assert chosen.unsafe.endswith(unsafe)
    assert bool(chosen.unsafe) is bool(unsafe)


SMALL = "llama3.2:1b"


@pytest.mark.parametrize(
    ("most", "unsafe"),
    [
        (None, ""),
        (3, ""),
        (2, ""),
        (1, "2 models are wanted, but only 1 may be loaded at once: they evict one another"),
    ],
)
def test_wanted_models_need_room_to_be_loaded_together(most, unsafe):
    names = (MODEL, SMALL)
    chosen = choose(inputs(TOTAL, models=names, wanted=names, max_loaded_models=most))
    assert (chosen.choice.loaded, chosen.unsafe) == (2, unsafe)


def test_what_fits_nowhere_is_left_out_with_its_reason():
    chosen = choose(inputs(4 << 30, models=(MODEL, SMALL), wanted=()))
    assert [model.name for model in chosen.goal.models] == [SMALL]
    (warning,) = chosen.warnings
    assert warning.startswith(f"{MODEL} is left out of the plan: {MODEL} does not lie wholly in GPU memory: ")


def test_what_is_larger_than_the_host_is_loaded_once_to_say_why(monkeypatch):
    asked = []
    alone = Judge.alone
    monkeypatch.setattr(Judge, "alone", lambda self, *what: asked.append(what) or alone(self, *what))
    given = inputs(4 << 30, models=(MODEL, SMALL), wanted=(), context_length=None)
    assert len(goal_for(given).context_lengths) > 3
    assert [model.name for model in choose(given).goal.models] == [SMALL]
    assert len([model for model, _candidate in asked if model.name == MODEL]) == 1


def test_where_nothing_fits_the_least_of_everything_is_not_safe():
    chosen = choose(inputs(1 << 30, 1 << 30, wanted=(), kv_cache_types=["f16", "q8_0"], min_parallel=1))
    assert chosen.choice.candidate == Candidate(1, 8192, "f16")
    assert (chosen.choice.loaded, chosen.unsafe, chosen.goal.models) == (1, "no installed model fits", ())


def test_wanted_models_that_do_not_fit_together_are_refused_or_the_most_that_do_is_planned():
    names = (MODEL, SMALL)
    with pytest.raises(ValueError, match=f"the wanted models {MODEL}, {SMALL} cannot be loaded together: .*; {SMALL} can"):
        choose(inputs(6 << 30, models=names, wanted=names))
    chosen = choose(inputs(6 << 30, models=names, wanted=names, on_misfit="subset"))
    assert [model.name for model in chosen.goal.models] == [SMALL]
    assert chosen.warnings[0].startswith(f"the wanted models {MODEL}, {SMALL} cannot be loaded together: ")
