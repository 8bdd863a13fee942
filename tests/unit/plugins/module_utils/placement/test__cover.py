# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demand on a fleet as rows and columns: what each objective counts, what survival and spreading ask for."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    CHANGES,
    FULLNESS,
    HOSTS,
    MOVES,
    SURVIVE,
    Cover,
    Group,
    Held,
    HostPattern,
    is_zero,
    total,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver

BOTH = frozenset(("a", "b"))
HELD = Held(models=frozenset("a"), installed=BOTH, parallel=2, context_length=4096)
GROUPS = (
    Group(0, BOTH, HELD, ("h1", "h2"), {"rack": "1"}),
    Group(1, BOTH, Held(), ("h3",), {"rack": "2"}),
)


def pattern(group, names, parallel, **others):
    return HostPattern(group, frozenset(names), parallel, dict.fromkeys(names, parallel), **others)


def least(cover, costs):
    cover.minimise(costs)
    return solver()(cover.problem, 10.0)


def test_moves_are_models_to_pull_and_models_to_load() -> None:
    assert [GROUPS[0].moves(names) for names in ("", "a", "b", "ab")] == [0, 0, 1, 1]
    assert [GROUPS[1].moves(names) for names in ("a", "ab")] == [2, 4]


def test_each_objective_counts_its_own() -> None:
    patterns = [pattern(0, "ab", 2, changes=False, free_share=0.25), pattern(1, "b", 4)]
    cover = Cover([FleetDemand("a", 1), FleetDemand("b", 1)], GROUPS, patterns, survive=False)
    first, second = cover.uses
    assert cover.costs(MOVES) == {first: 1.0, second: 2.0}
    assert cover.costs(HOSTS) == {first: 1.0, second: 1.0}
    assert cover.costs(CHANGES) == {second: 1.0}
    assert cover.costs(FULLNESS) == {first: 0.75, second: 1.0}
    assert cover.costs(SURVIVE) == {}


def test_a_group_has_no_more_hosts_than_it_has() -> None:
    cover = Cover([FleetDemand("a", 100)], GROUPS, [pattern(0, "a", 4), pattern(1, "a", 8)], survive=False)
    solution = least(cover, cover.short_costs(["a"]))
    assert solution.objective == 100 - 2 * 4 - 8


def test_replicas_that_are_missing_count_beside_slots() -> None:
    cover = Cover(
        [FleetDemand("a", 2, replicas=5)], GROUPS, [pattern(0, "a", 4), pattern(1, "a", 8)], survive=False
    )
    assert least(cover, cover.short_costs(["a"])).objective == 2


@pytest.mark.parametrize(("replicas", "missing"), [(2, 0), (3, 1)])
def test_spread_replicas_lie_under_different_values(replicas, missing) -> None:
    demand = FleetDemand("a", 1, replicas=replicas, spread="rack")
    cover = Cover([demand], GROUPS, [pattern(0, "a", 4), pattern(1, "a", 8)], survive=False)
    assert least(cover, cover.short_costs(["a"])).objective == missing


def test_hosts_without_the_variable_are_under_none_of_its_values() -> None:
    groups = [Group(0, BOTH, Held(), ("h1",)), Group(0, BOTH, Held(), ("h2",), {"rack": ""})]
    demand = FleetDemand("a", 1, replicas=1, spread="rack")
    cover = Cover([demand], groups, [pattern(0, "a", 1), pattern(1, "a", 1)], survive=False)
    assert least(cover, cover.short_costs(["a"])).objective == 0
    demand = FleetDemand("a", 1, replicas=2, spread="rack")
    cover = Cover([demand], groups, [pattern(0, "a", 1), pattern(1, "a", 1)], survive=False)
    assert least(cover, cover.short_costs(["a"])).objective == 2


@pytest.mark.parametrize(
    ("requests", "missing"),
    [
        (8, 0),  # 4 + 4 are left of 4 + 4 + 8
        (9, 1),
        (16, 8),
    ],
)
def test_survival_counts_the_slots_without_the_host_that_has_most(requests, missing) -> None:
    cover = Cover(
        [FleetDemand("a", requests)], GROUPS, [pattern(0, "a", 4), pattern(1, "a", 8)], survive=True
    )
    cover.keep(cover.short_costs(["a"]), 0.0)
    assert round(least(cover, cover.costs(SURVIVE)).objective, 6) == missing


def test_what_is_kept_is_no_worse_from_then_on() -> None:
    cover = Cover([FleetDemand("a", 4)], GROUPS, [pattern(0, "a", 4), pattern(1, "a", 8)], survive=False)
    cover.keep(cover.short_costs(["a"]), 0.0)
    solution = least(cover, cover.costs(HOSTS))
    assert total(cover.costs(HOSTS), solution.values) == 1.0


def test_what_is_almost_nothing_is_nothing() -> None:
    assert is_zero(1e-7)
    assert not is_zero(1e-5)
