# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which patterns are made: every one of few, else what prices ask for, and always what hosts hold."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement import _generate
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import Group, Held
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._generate import (
    MOST_ENUMERATED,
    Generator,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._patterns import Patterns
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver

from .test__patterns import Boxes

DEMANDS = (FleetDemand("a", 8), FleetDemand("b", 8), FleetDemand("c", 8))
ALL = frozenset("abc")


def generator(groups, *, room=20, demands=DEMANDS, survive=False):
    boxes = Boxes(room, {"a": 4, "b": 6, "c": 9}, says_least=False)
    requests = {demand.name: demand.requests for demand in demands}
    return Generator(demands, groups, [Patterns(boxes, requests)], survive=survive)


def sets(made, group=0):
    return {"".join(sorted(one.names)): one.parallel for one in made.patterns.values() if one.group == group}


def group(*, held=None, may_hold=ALL, hosts=("h1", "h2"), values=None):
    return Group(0, may_hold, held or Held(), hosts, values or {})


def test_every_set_of_few_is_made_with_the_most_slots() -> None:
    made = generator([group()])
    assert made.generate(solver(), lambda: False)
    assert sets(made) == {"a": 8, "b": 8, "c": 8, "ab": 5, "ac": 3, "bc": 2}


def test_a_group_gets_only_what_it_may_hold() -> None:
    made = generator([group(), group(may_hold=frozenset("ab"))])
    made.generate(solver(), lambda: False)
    assert sets(made, 1).keys() == {"a", "b", "ab"}


def test_what_a_host_holds_is_a_pattern_that_changes_nothing() -> None:
    held = Held(models=frozenset("ab"), installed=ALL, parallel=3, context_length=4096)
    made = generator([group(held=held), group(held=Held(models=frozenset("abc"), parallel=3))])
    made.generate(solver(), lambda: False)
    kept = [one for one in made.patterns.values() if not one.changes]
    assert [(one.group, sorted(one.names), one.parallel) for one in kept] == [(0, ["a", "b"], 3)]


@pytest.mark.parametrize("context", [0, 8192])
def test_another_context_is_a_change(context) -> None:
    held = Held(models=frozenset("ab"), installed=ALL, parallel=3, context_length=context)
    made = generator([group(held=held)])
    made.generate(solver(), lambda: False)
    assert all(one.changes for one in made.patterns.values())


@pytest.mark.parametrize("survive", [False, True])
def test_prices_ask_for_the_sets_that_serve_most(monkeypatch, survive) -> None:
    monkeypatch.setattr(_generate, "MOST_ENUMERATED", 0)
    demands = [FleetDemand("a", 5), FleetDemand("b", 5, replicas=2, spread="rack")]
    both = frozenset("ab")
    groups = [
        group(may_hold=both, hosts=("h1", "h2"), values={"rack": "1"}),
        group(may_hold=both, hosts=("h3",), values={"rack": "2"}),
    ]
    made = generator(groups, demands=demands, survive=survive)
    assert made.generate(solver(), lambda: False)
    assert sets(made)["ab"] == 5


def test_where_there_is_no_time_only_single_models_are_made(monkeypatch) -> None:
    monkeypatch.setattr(_generate, "MOST_ENUMERATED", 0)
    made = generator([group()])
    assert not made.generate(solver(), lambda: True)
    assert sets(made).keys() == {"a", "b", "c"}


def test_as_many_sets_as_a_planner_answers_in_seconds_are_enumerated() -> None:
    assert MOST_ENUMERATED == 600
