# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One objective after the other: none is given up for a later one, and what time did not suffice for is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._choose import (
    MOST_ROUNDS,
    Gap,
    best_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    HOSTS,
    MOVES,
    Cover,
    Group,
    Held,
    HostPattern,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Solution
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver

DEMANDS = (FleetDemand("a", 4, priority=2), FleetDemand("b", 4, priority=1))
HELD = Held(models=frozenset("a"), installed=frozenset("ab"))


def cover(hosts, demands=DEMANDS):
    names = tuple(f"h{one}" for one in range(hosts))
    groups = [Group(0, frozenset("ab"), HELD, names)]
    sets = [("a", 4), ("b", 4), ("ab", 2)]
    patterns = [HostPattern(0, frozenset(one), many, dict.fromkeys(one, many)) for one, many in sets]
    return Cover(demands, groups, patterns, survive=False)


def uses(problem, best):
    return [round(best.values[column]) for column in problem.uses]


def chosen(problem, objectives, solve=None):
    return best_of(problem, objectives, solve or solver(), lambda: 0.0, 30.0, survive=False)


def test_the_order_of_objectives_decides() -> None:
    problem = cover(4)
    assert uses(problem, chosen(problem, (MOVES, HOSTS))) == [1, 1, 0]
    problem = cover(4, [FleetDemand("a", 2), FleetDemand("b", 2)])
    assert uses(problem, chosen(problem, (HOSTS, MOVES))) == [0, 0, 1]


def test_what_cannot_all_be_met_is_met_by_priority() -> None:
    problem = cover(1)
    assert uses(problem, chosen(problem, (MOVES, HOSTS))) == [1, 0, 0]
    problem = cover(1, [replace(DEMANDS[0], priority=0), DEMANDS[1]])
    assert uses(problem, chosen(problem, (MOVES, HOSTS))) == [0, 1, 0]


def test_what_was_not_proven_is_a_gap() -> None:
    def hasty(problem, seconds):
        return replace(solver()(problem, seconds), is_proven=False, bound=0.5)

    gaps = chosen(cover(4), (MOVES, HOSTS), hasty).gaps
    assert gaps == (Gap(MOVES, 1.0, 0.5), Gap(HOSTS, 2.0, 0.5))


def test_where_time_runs_out_later_what_was_found_before_stays() -> None:
    answers = iter([solver()])

    def once(problem, seconds):
        solve = next(answers, None)
        return solve(problem, seconds) if solve else Solution((), is_proven=False)

    problem = cover(4)
    best = chosen(problem, (MOVES, HOSTS), once)
    assert sum(uses(problem, best)) >= 2
    assert [gap.objective for gap in best.gaps] == [MOVES, HOSTS]


def test_where_nothing_is_found_in_time_it_is_said_what_to_raise() -> None:
    def never(_problem, _seconds):
        return Solution((), is_proven=False)

    with pytest.raises(TimeoutError, match="raise gpufleet_solver_seconds"):
        chosen(cover(4), (MOVES,), never)


def test_so_often_patterns_are_added_for_an_objective() -> None:
    assert MOST_ROUNDS == 3
