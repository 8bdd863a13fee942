# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which patterns an objective asks for where not all are made, and what it is at least, whatever patterns there are.

Column generation, objective by objective: where the solver's prices ask for no other pattern, the problem without whole numbers
bounds the one with them, and a better solution consists of patterns that cost no more than what lies between the two.
Source: Baldacci, Christofides and Mingozzi, "An exact algorithm for the vehicle routing problem based on the set
partitioning formulation with additional cuts", Mathematical Programming 115 (2008), which calls these the reduced set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._choose import CostsOf, Kept
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    CHANGES,
    HOSTS,
    MOVES,
    Cover,
    Group,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._generate import Generator, Priced
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Solve


class Widener:
    """Adds to the patterns of a generator until `is_time_out`."""

    def __init__(
        self,
        demands: Sequence[FleetDemand],
        groups: Sequence[Group],
        generator: Generator,
        solve: Solve,
        is_time_out: Callable[[], bool],
        *,
        survive: bool,
    ) -> None:
        self._demands = demands
        self._groups = groups
        self._generator = generator
        self._solve = solve
        self._is_time_out = is_time_out
        self._survive = survive
        self.is_complete = True
        self._priced: Priced | None = None

    def cover(self) -> Cover:
        """The problem with all patterns so far, in whole numbers."""
        return self._cover(is_relaxed=False)

    def bound(self, name: str, costs_of: CostsOf, kept: Sequence[Kept]) -> float | None:
        """Adds what the solver's prices ask for; what the objective is at least, whatever patterns there are.

        None where there was no time to know, which `is_complete` then tells too.
        """
        self._priced = None
        while not self._is_time_out():
            cover = self._cover(is_relaxed=True)
            rows = [(one.name, cover.keep(one.costs_of(cover), one.most)) for one in kept]
            cover.minimise(costs_of(cover))
            solution = self._solve(cover.problem, 60.0)
            if not solution.prices:
                break
            prices = solution.prices
            of_kept: Mapping[str, float] = {
                one: -prices[row] for one, row in rows if row is not None and one in (MOVES, HOSTS, CHANGES)
            }
            for_move = (name == MOVES) + of_kept.get(MOVES, 0.0)
            # A set that is not made yet is not what runs already.
            for_host = (name in (HOSTS, CHANGES)) + of_kept.get(HOSTS, 0.0) + of_kept.get(CHANGES, 0.0)
            priced = Priced(cover, prices, for_move, for_host)
            is_found = False
            for index in self._generator.asked_groups(for_moves=for_move > 0.0):
                is_new, is_best = self._generator.add_best(index, priced, self._is_time_out)
                if not is_best:
                    self.is_complete = False
                    return None
                is_found = is_found or is_new
            if not is_found:
                self._priced = priced
                return max(solution.objective, 0.0)
        self.is_complete = False
        return None

    def add_within(self, slack: float) -> bool:
        """Adds what a solution may have that is at most so much above the bound; whether it is all there is."""
        if self._priced is None:
            return False
        is_all = True
        for index in self._generator.asked_groups(for_moves=self._priced.for_move > 0.0):
            is_all &= self._generator.add_within(index, self._priced, slack, self._is_time_out)
        return is_all

    def _cover(self, *, is_relaxed: bool) -> Cover:
        patterns = list(self._generator.patterns.values())
        return Cover(
            self._demands,
            self._groups,
            patterns,
            survive=self._survive,
            integer=not is_relaxed,
            levels=not is_relaxed,
        )
