# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which wanted models are kept where not all fit, and what would make them fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Demand, Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._misfit import (
    largest_combination,
    misfit_sentence,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import Verdict
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel

GIB = 1 << 30
CACHE = {"f16": 4, "q8_0": 2, "q4_0": 1}


class RoomJudge:
    """A judge by one number in GiB: a model takes its file and, for each 1024 tokens of each slot, 4 of f16 cache."""

    def __init__(self, room: int, *, has_gpus: bool = True, one_gpu: int | None = None, cache=CACHE) -> None:
        self.room, self.one_gpu, self.cache = room, one_gpu, cache
        self.host = type("Host", (), {"gpus": (0,) * has_gpus, "remedies": ()})()
        self.asked_of_one_gpu: list[object] = []

    def taken(self, models, candidate):
        cache = candidate.parallel * candidate.context_length // 1024 * self.cache[candidate.kv_cache_type]
        return sum(model.file_bytes // GIB + cache for model in models)

    def runners(self, models, _setting):
        return tuple(models)

    def is_hopeless(self, models, candidate, _loaded):
        return self.taken(models, candidate) > self.room

    def any_order(self, models, candidate):
        return Verdict(self.taken(models, candidate) <= self.room)

    def some_order(self, models, candidate):
        return self.any_order(models, candidate)

    def bytes_of_one_gpu(self, _models, candidate):
        self.asked_of_one_gpu.append(candidate)
        return self.one_gpu

    system_memory_bytes = bytes_of_one_gpu


def demand(name: str, file_gib: int, priority: int | None = 0) -> Demand:
    model = SchedulerModel(name, name, file_gib * GIB, 0, 131072, 32)
    return Demand(model, None if priority is None else WantedModel(name, priority=priority))


def goal(*demands: Demand, **changes: object) -> Goal:
    plain = Goal(tuple(one.model for one in demands), True, (4, 2), (4096, 8192), ("f16",), (False,))
    return replace(plain, **changes)


# At the least, two slots of 4096 tokens, a model takes 32 besides its file.
@pytest.mark.parametrize(
    ("demands", "room", "kept"),
    [
        ([demand("large", 9), demand("small", 1)], 33 + 41, ["small", "large"]),
        ([demand("large", 9), demand("small", 1)], 33 + 41 - 1, ["small"]),
        ([demand("large", 9, priority=1), demand("small", 1)], 33 + 41 - 1, ["large"]),
        ([demand("large", 9), demand("small", 1, priority=-1)], 33 + 41 - 1, ["large"]),
        # Whoever does not say is of the usual priority.
        ([demand("large", 9, priority=None), demand("small", 1, priority=-1)], 33 + 41 - 1, ["large"]),
        # One that does not fit does not stop those after it.
        ([demand("huge", 99, priority=1), demand("small", 1)], 40, ["small"]),
        ([demand("huge", 99)], 40, []),
    ],
)
def test_the_urgent_are_kept_first_then_the_small(demands, room, kept):
    found = largest_combination((RoomJudge(room),), goal(*demands), demands)
    assert [one.model.name for one in found] == kept


TWO = (demand("a", 1), demand("b", 1))


@pytest.mark.parametrize(
    ("demands", "kept", "sentence"),
    [
        (TWO, ("a",), "the wanted models a, b cannot be loaded together: why; a can; what would make it possible: "),
        (
            TWO,
            (),
            "the wanted models a, b cannot be loaded together: why; none of them can be loaded alone; what would",
        ),
        (TWO[:1], (), "the wanted models a cannot be loaded: why; what would make it possible: "),
    ],
)
def test_what_is_refused_says_what_could_be_loaded(demands, kept, sentence):
    assert misfit_sentence(RoomJudge(1), goal(*demands), kept, "why").startswith(sentence)


SHORTER = "a context of 8192 tokens (ollama_plan_context_length)"
QUANTISED = "a q8_0 KV cache (ollama_plan_kv_cache_types)"
NOWHERE = "a host with more GPU memory"
# One model, two slots: 8 for each 1024 tokens of f16, 4 of q8_0, 2 of q4_0, and 1 for the file.
LONG = {"context_lengths": (16384, 32768)}


@pytest.mark.parametrize(
    ("room", "changes", "remedies"),
    [
        # 16384 tokens take 129; the powers of two below it are tried, the longest first, down to Ollama's own 4096.
        (128, LONG, [SHORTER, QUANTISED, NOWHERE]),
        (65, LONG, [SHORTER, QUANTISED, NOWHERE]),
        # A better cache with a shorter context comes before a worse one without; either has to allow more than f16 does.
        (
            64,
            LONG,
            [
                "a context of 4096 tokens (ollama_plan_context_length)",
                "a q8_0 KV cache with a context of 8192 tokens (ollama_plan_kv_cache_types)",
                NOWHERE,
            ],
        ),
        (
            32,
            LONG,
            ["a q8_0 KV cache with a context of 4096 tokens (ollama_plan_kv_cache_types)", NOWHERE],
        ),
        (8, LONG, [NOWHERE]),
        (9, LONG, ["a q4_0 KV cache with a context of 4096 tokens (ollama_plan_kv_cache_types)", NOWHERE]),
        # At 4096 tokens no shorter context is proposed.
        (32, {}, [QUANTISED, NOWHERE]),
        # Between powers of two the next one below.
        (65, {"context_lengths": (10240,)}, [SHORTER, QUANTISED, NOWHERE]),
        (65, {"context_lengths": (8193,)}, [SHORTER, QUANTISED, NOWHERE]),
        (8, {"context_lengths": (4097,)}, [NOWHERE]),
        # What is tried already is no remedy.
        (32, {"kv_cache_types": ("f16", "q8_0", "q4_0")}, [NOWHERE]),
    ],
)
def test_remedies_are_those_that_would_do(room, changes, remedies):
    sentence = misfit_sentence(RoomJudge(room), goal(demand("a", 1), **changes), (), "why")
    assert sentence.split("what would make it possible: ")[1].split("; ") == remedies


def test_a_cache_that_allows_no_longer_context_is_no_remedy():
    judge = RoomJudge(65, cache={"f16": 4, "q8_0": 4, "q4_0": 3})
    assert misfit_sentence(judge, goal(demand("a", 1), **LONG), (), "why").endswith(f": {SHORTER}; {NOWHERE}")


@pytest.mark.parametrize(
    ("has_gpus", "needed", "remedy"),
    [
        (True, 20 * GIB, "a host with one GPU of 20.0 GiB free"),
        (False, 20 * GIB, "a host with 20 GiB of system memory available"),
        (False, 20 * GIB + 1, "a host with 21 GiB of system memory available"),
        (False, None, "another model"),
        (True, None, NOWHERE),
    ],
)
def test_another_host_always_helps(has_gpus, needed, remedy):
    judge = RoomJudge(1, has_gpus=has_gpus, one_gpu=needed)
    types = ("f16", "q8_0", "q4_0")
    assert misfit_sentence(judge, goal(demand("a", 1), kv_cache_types=types), (), "why").endswith(f": {remedy}")
    (candidate,) = judge.asked_of_one_gpu
    # With the least of everything that may be tried.
    assert (candidate.parallel, candidate.context_length, candidate.kv_cache_type) == (2, 4096, "q4_0")
