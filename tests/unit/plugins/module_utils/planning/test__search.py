# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the safe settings the search finds, and what it asks for that."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._search import (
    best_choice,
    promising,
    safe_choice,
    some_choice,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import Verdict
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel

IN_ORDER = ("b", "a")


def model(name: str, key: str = "") -> SchedulerModel:
    return SchedulerModel(name, key or name, 1 << 30, 0, 131072, 32)


A, B, C = map(model, "abc")
# What a thousand tokens of each type of cache take of the judge's room.
CACHE = {"f16": 4, "q8_0": 2, "q4_0": 1}


@dataclass
class RoomJudge:
    """A judge by one number: each model takes its slots times its thousands of tokens times the type of its cache.

    `in_order_only`: above so much room taken, models are safe in the order of their names, backwards.
    """

    room: int
    in_order_only: int = 1 << 62
    asked: list[Candidate] = field(default_factory=list)

    def taken(self, count: int, candidate: Candidate) -> int:
        return count * candidate.parallel * (candidate.context_length // 1024) * CACHE[candidate.kv_cache_type]

    def runners(self, models, _setting):
        return tuple({one.key: one for one in models}.values())

    def is_hopeless(self, _models, candidate, loaded):
        self.asked.append(candidate)
        return self.taken(loaded, candidate) > self.room

    def any_order(self, models, candidate):
        taken = self.taken(len(self.runners(models, candidate)), candidate)
        return Verdict(taken <= min(self.room, self.in_order_only))

    def some_order(self, models, candidate):
        order = tuple(sorted((one.name for one in models), reverse=True))
        return Verdict(self.is_safe_in(order, candidate), order)

    def is_safe_in(self, order, candidate):
        return self.taken(len(order), candidate) <= self.room

    def most_loaded(self, models, candidate, most, least=1):
        fit = self.room // self.taken(1, candidate)
        loaded = min(fit, most, len(self.runners(models, candidate)))
        return loaded if loaded >= least else 0


def goal(*models: SchedulerModel, wanted: bool = True, **changes: object) -> Goal:
    values = {
        "parallels": (2, 1),
        "context_lengths": (4096, 8192, 16384),
        "kv_cache_types": ("f16",),
        "spreads": (False,),
        **changes,
    }
    return Goal(models=models, wanted=wanted, **values)


# By hand: a model with one slot takes 16, 32, 64 at 4096, 8192, 16384 tokens of f16, and twice as much with two slots.
@pytest.mark.parametrize(
    ("room", "changes", "choice"),
    [
        (256, {}, Choice(Candidate(2, 16384), 2)),
        (255, {}, Choice(Candidate(2, 8192), 2)),
        # Two slots with less context come before one slot with more.
        (64, {}, Choice(Candidate(2, 4096), 2)),
        (63, {}, Choice(Candidate(1, 4096), 2)),
        (31, {}, None),
        # A longer context comes before a better cache, and that before whole models.
        (64, {"kv_cache_types": ("f16", "q8_0")}, Choice(Candidate(2, 8192, "q8_0"), 2)),
        (256, {"kv_cache_types": ("f16", "q8_0")}, Choice(Candidate(2, 16384), 2)),
        (256, {"spreads": (False, True)}, Choice(Candidate(2, 16384), 2)),
    ],
)
def test_wanted_models_get_the_best_settings_under_which_all_fit(room, changes, choice):
    assert best_choice([RoomJudge(room)], goal(A, B, **changes)) == choice


def test_an_order_to_keep_comes_before_fewer_requests_but_after_less_context():
    assert best_choice([RoomJudge(256, in_order_only=64)], goal(A, B)) == Choice(Candidate(2, 4096), 2)
    assert best_choice([RoomJudge(256, in_order_only=63)], goal(A, B)) == Choice(Candidate(2, 16384), 2, IN_ORDER)


def test_every_host_has_to_be_safe():
    assert best_choice([RoomJudge(256), RoomJudge(128)], goal(A, B)) == Choice(Candidate(2, 8192), 2)
    in_order = [RoomJudge(256, in_order_only=1), RoomJudge(128, in_order_only=1)]
    assert best_choice(in_order, goal(A, B)) == Choice(Candidate(2, 8192), 2, IN_ORDER)
    assert best_choice([RoomJudge(256), RoomJudge(32)], goal(A, B, wanted=False)) == Choice(Candidate(2, 4096), 1)


# Of three models none of which is wanted, the shortest context says how many are loaded: 16 each with one slot.
@pytest.mark.parametrize(
    ("room", "changes", "choice"),
    [
        (384, {}, Choice(Candidate(2, 16384), 3)),
        (383, {}, Choice(Candidate(2, 8192), 3)),
        (95, {}, Choice(Candidate(2, 4096), 2)),
        (128, {}, Choice(Candidate(2, 4096), 3)),
        (32, {}, Choice(Candidate(2, 4096), 1)),
        (31, {}, Choice(Candidate(1, 4096), 1)),
        (15, {}, None),
        # More models come before more context, and before a better cache.
        (64, {"kv_cache_types": ("f16", "q8_0")}, Choice(Candidate(2, 4096, "q8_0"), 3)),
        (96, {"kv_cache_types": ("f16", "q8_0")}, Choice(Candidate(2, 8192, "q8_0"), 3)),
        (47, {"kv_cache_types": ("f16", "q8_0")}, Choice(Candidate(2, 4096, "q8_0"), 2)),
        (96, {}, Choice(Candidate(2, 4096), 3)),
        # So many are asked for: fewer slots then.
        (64, {"least_loaded": 3}, Choice(Candidate(1, 4096), 3)),
        (47, {"least_loaded": 3}, None),
        # More than there are cannot be asked for.
        (96, {"least_loaded": 9}, Choice(Candidate(2, 4096), 3)),
    ],
)
def test_models_of_which_none_is_wanted_are_loaded_as_many_as_fit(room, changes, choice):
    assert best_choice([RoomJudge(room)], goal(A, B, C, wanted=False, **changes)) == choice


def test_a_worse_cache_that_allows_no_more_models_is_not_taken():
    class Alike(RoomJudge):
        def taken(self, count, candidate):
            return super().taken(count, Candidate(candidate.parallel, candidate.context_length))

    types = {"wanted": False, "kv_cache_types": ("f16", "q8_0", "q4_0")}
    assert best_choice([Alike(64)], goal(A, B, C, **types)) == Choice(Candidate(2, 4096), 2)


def test_tags_of_one_file_count_once():
    assert best_choice([RoomJudge(1 << 20)], goal(A, model("z", "a"))).loaded == 1


def test_without_models_there_is_nothing_to_choose():
    assert best_choice([RoomJudge(1 << 20)], goal()) is None


def test_models_are_divided_only_where_nothing_else_is_safe():
    class OnlyDivided(RoomJudge):
        def most_loaded(self, models, candidate, most, least=1):
            return super().most_loaded(models, candidate, most, least) if candidate.spread else 0

    spreads = {"wanted": False, "spreads": (False, True)}
    assert best_choice([RoomJudge(1 << 20)], goal(A, **spreads)) == Choice(Candidate(2, 16384), 1)
    assert best_choice([OnlyDivided(1 << 20)], goal(A, **spreads)) == Choice(Candidate(2, 16384, spread=True), 1)


def test_what_is_hopeless_is_left_out_and_the_best_comes_first():
    groups = list(promising([RoomJudge(64)], goal(A, B, kv_cache_types=("f16", "q8_0"))))
    assert groups == [
        [Candidate(2, 8192, "q8_0"), Candidate(2, 4096), Candidate(2, 4096, "q8_0")],
        [
            *(Candidate(1, 16384, "q8_0"), Candidate(1, 8192), Candidate(1, 8192, "q8_0")),
            *(Candidate(1, 4096), Candidate(1, 4096, "q8_0")),
        ],
    ]


def test_the_longest_context_that_is_not_hopeless_is_found_by_halves():
    lengths = tuple(1024 << step for step in range(15))
    judge = RoomJudge(1024)
    (found,) = promising([judge], goal(A, parallels=(1,), context_lengths=lengths))
    assert [candidate.context_length for candidate in found] == list(lengths[8::-1])
    assert len(judge.asked) == 4


@pytest.mark.parametrize(
    ("room", "likely", "found"),
    [
        (256, None, Candidate(2, 16384)),
        # What is likely is tried first, also where something better would do.
        (256, Candidate(2, 4096), Candidate(2, 4096)),
        (64, Candidate(2, 16384), Candidate(2, 4096)),
        (31, Candidate(1, 4096), None),
        # What may not be tried is not found.
        (256, Candidate(3, 4096), Candidate(2, 16384)),
    ],
)
def test_some_settings_are_found_where_there_are_any(room, likely, found):
    assert some_choice([RoomJudge(room)], goal(A, B), likely) == found
    assert some_choice([RoomJudge(room, in_order_only=1)], goal(A, B), likely) == found


@pytest.mark.parametrize(
    ("judge", "asked", "candidate", "loaded", "choice"),
    [
        (RoomJudge(64), goal(A, B), Candidate(2, 4096), 2, Choice(Candidate(2, 4096), 2)),
        (RoomJudge(63), goal(A, B), Candidate(2, 4096), 2, None),
        (RoomJudge(64, in_order_only=1), goal(A, B), Candidate(2, 4096), 2, Choice(Candidate(2, 4096), 2, IN_ORDER)),
        # What may not be tried is no choice, however safe it is.
        (RoomJudge(64), goal(A, B), Candidate(3, 4096), 2, None),
        (RoomJudge(64), goal(A, B), Candidate(1, 2048), 2, None),
        (RoomJudge(64), goal(A, B), Candidate(1, 4096, "q8_0"), 2, None),
        (RoomJudge(64), goal(A, B), Candidate(1, 4096, spread=True), 2, None),
        # As many as are asked for, where so many are safe.
        (RoomJudge(96), goal(A, B, C, wanted=False), Candidate(1, 4096), 2, Choice(Candidate(1, 4096), 2)),
        (RoomJudge(16), goal(A, B, C, wanted=False), Candidate(1, 4096), 2, Choice(Candidate(1, 4096), 1)),
    ],
)
def test_these_very_settings_are_a_choice_where_they_may_be_tried_and_are_safe(judge, asked, candidate, loaded, choice):
    assert safe_choice(judge, asked, candidate, loaded) == choice
