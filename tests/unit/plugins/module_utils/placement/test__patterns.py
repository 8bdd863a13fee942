# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sets of models hosts of a kind can hold: the planner is asked seldom, and nothing that fits is missed."""

from __future__ import annotations

from itertools import combinations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._patterns import Patterns, Worth
from hypothesis import given, settings
from hypothesis import strategies as st


class Boxes:
    """Hosts on which models of so many bytes, and one byte more for each slot, have room; it counts the questions."""

    def __init__(self, room, sizes, *, single=(), least=1, most=256, models=9, says_least=True):
        self.room_bytes = room
        self.sizes = sizes
        self.names = frozenset(sizes)
        self.single = frozenset(single)
        self.least_parallel, self.most_parallel, self.most_models = least, most, models
        self.says_least = says_least
        self.asked = []

    def size(self, name, parallel):
        return self.sizes[name] + (1 if name in self.single else parallel)

    def least_bytes(self, name, parallel):
        return self.size(name, parallel) if self.says_least else 0

    def context_length(self, names):
        return 4096

    def is_safe(self, names, parallel):
        self.asked.append((names, parallel))
        return sum(self.size(name, parallel) for name in names) <= self.room_bytes


def patterns(boxes, requests=9):
    return Patterns(boxes, dict.fromkeys(boxes.names, requests))


def test_the_largest_parallel_value_is_what_fits_and_is_of_use() -> None:
    boxes = Boxes(20, {"a": 4, "b": 6})
    assert patterns(boxes, 99).largest(frozenset("a")) == 16
    assert patterns(boxes, 9).largest(frozenset("a")) == 9
    assert patterns(boxes, 99).largest(frozenset("ab")) == 5
    assert patterns(Boxes(20, {"a": 30})).largest(frozenset("a")) == 0


def test_it_lies_within_what_the_operator_allows() -> None:
    assert patterns(Boxes(20, {"a": 4}, most=3)).largest(frozenset("a")) == 3
    assert patterns(Boxes(20, {"a": 4}, least=17)).largest(frozenset("a")) == 0
    assert patterns(Boxes(20, {"a": 4}, least=12), 2).largest(frozenset("a")) == 12
    assert patterns(Boxes(20, {"a": 1, "b": 1}, models=1)).largest(frozenset("ab")) == 0


def test_a_model_with_a_single_slot_needs_no_parallel_value() -> None:
    boxes = Boxes(20, {"a": 4}, single="a")
    assert patterns(boxes).largest(frozenset("a")) == 1
    assert patterns(boxes).slots("a", 7) == 1


def test_slots_beyond_the_requests_are_of_no_use() -> None:
    assert patterns(Boxes(20, {"a": 4}), 3).slots("a", 7) == 3


def test_a_set_with_one_that_does_not_fit_is_not_asked_for() -> None:
    boxes = Boxes(20, {"a": 30, "b": 1}, says_least=False)
    some = patterns(boxes)
    assert not some.is_safe(frozenset("a"), 1)
    assert not some.is_safe(frozenset("ab"), 1)
    assert len(boxes.asked) == 1
    assert some.calls == 1


def test_what_least_memory_rules_out_is_not_asked_for() -> None:
    boxes = Boxes(20, {"a": 30})
    assert patterns(boxes).largest(frozenset("a")) == 0
    assert boxes.asked == []


def test_nothing_is_asked_twice() -> None:
    boxes = Boxes(20, {"a": 4, "b": 6}, says_least=False)
    some = patterns(boxes)
    for _time in range(2):
        some.largest(frozenset("ab"))
    assert len(boxes.asked) == len(set(boxes.asked))


def test_every_set_is_found_or_none_where_they_are_too_many() -> None:
    boxes = Boxes(12, {"a": 4, "b": 6, "c": 9})
    every = {frozenset("a"), frozenset("b"), frozenset("c"), frozenset("ab")}
    assert set(patterns(boxes).every_set(boxes.names, 4)) == every
    assert patterns(boxes).every_set(boxes.names, 3) is None
    assert set(patterns(boxes).every_set(frozenset("ac"), 9)) == {frozenset("a"), frozenset("c")}


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    room=st.integers(2, 30),
    prices=st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), min_size=5, max_size=5),
    requests=st.integers(1, 12),
    says_least=st.booleans(),
    single=st.booleans(),
    least=st.integers(1, 3),
    models=st.integers(1, 5),
)
def test_no_set_is_worth_more_than_the_best(
    sizes, room, prices, requests, says_least, single, least, models
) -> None:
    boxes = Boxes(
        room,
        dict(zip("abcde", sizes)),
        says_least=says_least,
        single="a" if single else "",
        least=least,
        models=models,
    )
    some = patterns(boxes, requests)
    worths = {
        name: Worth(float(per_slot), float(at_all))
        for name, (per_slot, at_all) in zip(sorted(boxes.names), prices)
    }
    names, is_certain = some.best_set(worths, 0.0, lambda: False)
    assert is_certain

    def worth(names):
        parallel = some.largest(names)
        if not parallel:
            return 0.0
        return sum(worths[name].per_slot * some.slots(name, parallel) + worths[name].at_all for name in names)

    every = [
        frozenset(one)
        for count in range(1, len(sizes) + 1)
        for one in combinations(sorted(boxes.names), count)
    ]
    assert worth(names) == pytest.approx(max([0.0, *map(worth, every)]))

    fitting = {one for one in every if some.largest(one)}
    for least_worth in (-5.0, 0.0, 5.0):
        found, is_all = some.sets_within(worths, least_worth, 99, lambda: False)
        assert is_all
        assert len(found) == len(set(found))
        assert set(found) == {one for one in fitting if worth(one) >= least_worth}


def test_a_set_that_is_not_worth_what_a_host_costs_is_none() -> None:
    some = patterns(Boxes(20, {"a": 4}), 5)
    assert some.best_set({"a": Worth(1.0, 0.0)}, 4.9, lambda: False) == (frozenset("a"), True)
    assert some.best_set({"a": Worth(1.0, 0.0)}, 5.0, lambda: False) == (frozenset(), True)


def test_where_time_runs_out_the_answer_is_not_certain() -> None:
    assert patterns(Boxes(20, {"a": 4})).best_set({"a": Worth(1.0, 0.0)}, 0.0, lambda: True)[1] is False


def test_no_more_sets_are_looked_for_than_asked_for_and_no_longer() -> None:
    some = patterns(Boxes(20, {"a": 1, "b": 1, "c": 1}))
    worths = dict.fromkeys("abc", Worth(0.0, 1.0))
    assert [len(found) for found in some.sets_within(worths, 1.0, 7, lambda: False)[:1]] == [7]
    found, is_all = some.sets_within(worths, 1.0, 6, lambda: False)
    assert (len(found), is_all) == (6, False)
    assert some.sets_within(worths, 1.0, 7, lambda: True) == ([], False)
