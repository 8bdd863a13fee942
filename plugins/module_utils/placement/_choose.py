# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which placement is best: one objective after the other, each as good as those before it allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Callable, Mapping, Protocol

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    SURVIVE,
    Cover,
    is_zero,
    total,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Solve


@dataclass(frozen=True)
class Gap:
    """An objective that the solver had no time to prove: what was reached, and what it can at best be."""

    objective: str
    reached: float
    bound: float


@dataclass(frozen=True)
class Best:
    """Values of the columns of a cover, and what was not proven; no values where the time ran out before there were any."""

    values: tuple[float, ...]
    gaps: tuple[Gap, ...]
    cover: Cover


# What each column of a cover adds to an objective.
CostsOf = Callable[[Cover], Mapping[int, float]]


@dataclass(frozen=True)
class Kept:
    """An objective that is not given up for later ones."""

    name: str
    costs_of: CostsOf
    most: float


class Wider(Protocol):
    """Finds patterns that a cover lacks, for one objective after the other: `Widener`."""

    def cover(self) -> Cover:
        """The problem with all patterns so far, in whole numbers."""

    def bound(self, name: str, costs_of: CostsOf, kept: Sequence[Kept]) -> float | None:
        """Adds what the solver's prices ask for; what the objective is at least, whatever patterns there are.

        None where there was no time to know.
        """

    def add_within(self, slack: float) -> bool:
        """Adds what a solution may have that is at most so much above the bound; whether it is all there is."""


# So often patterns are added for an objective before the gap that is left is told.
MOST_ROUNDS = 3
TOLERANCE = 1e-6


class Stages:
    """Minimises objectives of a cover one after the other and keeps each as good as it was reached.

    `until`: the time at which all must be done, as `clock` tells it, without that of `wider`, which is there where the cover
    has not all patterns.
    """

    def __init__(
        self,
        cover: Cover,
        solve: Solve,
        clock: Callable[[], float],
        until: float,
        wider: Wider | None = None,
    ) -> None:
        self.cover = cover
        self._solve = solve
        self._clock = clock
        self._until = until
        self._wider = wider
        self._kept: list[Kept] = []
        self.values: tuple[float, ...] = ()
        self.gaps: list[Gap] = []

    def begin(self, costs: Mapping[int, float]) -> None:
        """Starts from what is best for this, without keeping it."""
        self.cover.minimise(costs)
        self.values = self._solve(self.cover.problem, max(self._until - self._clock(), 1.0) / 2).values

    def least(self, name: str, costs_of: CostsOf, left: int) -> float:
        """The least value of an objective in whole numbers, with `left` others to come; it is kept from now on.

        Raises: TimeoutError where no placement was found in time.
        """
        if self.values and is_zero(total(costs_of(self.cover), self.values)):
            self._keep(Kept(name, costs_of, 0.0))
            return 0.0
        if self._wider is None:
            reached, bound = self._solved(costs_of, left)
        else:
            reached, bound = self._solved_widely(self._wider, name, costs_of, left)
        if reached > bound + TOLERANCE:
            self.gaps.append(Gap(name, reached, bound))
        self._keep(Kept(name, costs_of, reached + TOLERANCE))
        return reached

    def _keep(self, kept: Kept) -> None:
        self._kept.append(kept)
        self.cover.keep(kept.costs_of(self.cover), kept.most)

    def _solved(self, costs_of: CostsOf, left: int, cover: Cover | None = None) -> tuple[float, float]:
        """What is reached of an objective, with the patterns of a cover, and what the solver could at best have reached."""
        cover = cover or self.cover
        costs = costs_of(cover)
        cover.minimise(costs)
        seconds = max(self._until - self._clock(), 1.0) / (left + 1)
        solution = self._solve(cover.problem, seconds)
        if not solution.values and not self.values:
            raise TimeoutError(f"no placement was found in {seconds:.0f} s: raise gpufleet_solver_seconds")
        # Where the time ran out, what was best before may be better for this one, too.
        before = total(costs_of(self.cover), self.values) if self.values else None
        if solution.values and (before is None or total(costs, solution.values) <= before):
            self.cover, self.values = cover, solution.values
        reached = total(costs_of(self.cover), self.values)
        return reached, reached if solution.is_proven else solution.bound

    def _solved_widely(self, wider: Wider, name: str, costs_of: CostsOf, left: int) -> tuple[float, float]:
        """The same with patterns that are added for it; the bound is of all patterns, those too that are never made."""
        price = self._in_its_time(partial(wider.bound, name, costs_of, self._kept))
        reached, of_these = self._solved(costs_of, left, self._widened(wider))
        if price is None:
            return reached, of_these
        least = float(math.ceil(price - TOLERANCE))
        for _round in range(MOST_ROUNDS):
            if reached <= least + TOLERANCE or reached > of_these + TOLERANCE:
                break
            # What is better is so by one at least.
            is_all = self._in_its_time(partial(wider.add_within, reached - 1.0 - price))
            reached, of_these = self._solved(costs_of, left, self._widened(wider))
            if is_all:
                least = of_these
        return reached, min(least, reached)

    def _widened(self, wider: Wider) -> Cover:
        cover = wider.cover()
        if len(cover.patterns) == len(self.cover.patterns):
            return self.cover
        for kept in self._kept:
            cover.keep(kept.costs_of(cover), kept.most)
        return cover

    def _in_its_time(self, work: Callable[[], Any]) -> Any:
        """What is done, in time that is not the solver's."""
        started = self._clock()
        outcome = work()
        self._until += self._clock() - started
        return outcome


def meet_demand(stages: Stages, left: int) -> None:
    """Serves as much as can be, those of higher priority first."""
    demands = stages.cover.demands
    # Most often all can be met, which is one question in place of one for each priority.
    stages.begin(stages.cover.short_costs([demand.name for demand in demands]))
    priorities = sorted({demand.priority for demand in demands}, reverse=True)
    for position, priority in enumerate(priorities):
        names = [demand.name for demand in demands if demand.priority == priority]
        stages.least("demand", partial(Cover.short_costs, names=names), left + len(priorities) - position - 1)


def best_of(
    cover: Cover,
    objectives: Sequence[str],
    solve: Solve,
    clock: Callable[[], float],
    until: float,
    *,
    survive: bool,
    wider: Wider | None = None,
) -> Best:
    """The best placement: what is short first, then what is lost with a host, then the objectives in their order.

    Raises: TimeoutError where no placement was found in time.
    """
    stages = Stages(cover, solve, clock, until, wider)
    meet_demand(stages, len(objectives) + survive)
    if survive:
        stages.least(SURVIVE, partial(Cover.costs, objective=SURVIVE), len(objectives))
    for position, objective in enumerate(objectives):
        costs_of = partial(Cover.costs, objective=objective)
        stages.least(objective, costs_of, len(objectives) - position - 1)
    return Best(stages.values, tuple(stages.gaps), stages.cover)
