# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which placement is best: one objective after the other, each as good as those before it allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
    """Values of the columns, and what was not proven; no values where the time ran out before there were any."""

    values: tuple[float, ...]
    gaps: tuple[Gap, ...] = ()


class Stages:
    """Minimises objectives of a cover one after the other and keeps each as good as it was reached.

    `until`: the time at which all must be done, as `clock` tells it.
    """

    def __init__(self, cover: Cover, solve: Solve, clock: Callable[[], float], until: float) -> None:
        self._cover = cover
        self._solve = solve
        self._clock = clock
        self._until = until
        self.values: tuple[float, ...] = ()
        self.gaps: list[Gap] = []

    def begin(self, costs: Mapping[int, float]) -> None:
        """Starts from what is best for this, without keeping it."""
        self._cover.minimise(costs)
        self.values = self._solve(self._cover.problem, max(self._until - self._clock(), 1.0) / 2).values

    def least(self, name: str, costs: Mapping[int, float], left: int) -> float:
        """The least value of an objective, with `left` others to come; it is kept from now on.

        Raises: TimeoutError where no placement was found in time.
        """
        if self.values and is_zero(total(costs, self.values)):
            self._cover.keep(costs, 0.0)
            return 0.0
        self._cover.minimise(costs)
        seconds = max(self._until - self._clock(), 1.0) / (left + 1)
        solution = self._solve(self._cover.problem, seconds)
        if not solution.values and not self.values:
            raise TimeoutError(f"no placement was found in {seconds:.0f} s: raise gpufleet_solver_seconds")
        # Where the time ran out, what was best before may be better for this one, too.
        if solution.values and not (
            self.values and total(costs, self.values) < total(costs, solution.values)
        ):
            self.values = solution.values
        reached = total(costs, self.values)
        if not solution.is_proven:
            self.gaps.append(Gap(name, reached, solution.bound))
        self._cover.keep(costs, reached + 1e-6)
        return reached


def meet_demand(stages: Stages, cover: Cover, left: int) -> None:
    """Serves as much as can be, those of higher priority first."""
    # Most often all can be met, which is one question in place of one for each priority.
    stages.begin(cover.short_costs([demand.name for demand in cover.demands]))
    priorities = sorted({demand.priority for demand in cover.demands}, reverse=True)
    for position, priority in enumerate(priorities):
        of_priority = [demand.name for demand in cover.demands if demand.priority == priority]
        stages.least("demand", cover.short_costs(of_priority), left + len(priorities) - position - 1)


def best_of(
    cover: Cover,
    objectives: Sequence[str],
    solve: Solve,
    clock: Callable[[], float],
    until: float,
    *,
    survive: bool,
) -> Best:
    """The best placement: what is short first, then what is lost with a host, then the objectives in their order.

    Raises: TimeoutError where no placement was found in time.
    """
    stages = Stages(cover, solve, clock, until)
    meet_demand(stages, cover, len(objectives) + survive)
    if survive:
        stages.least(SURVIVE, cover.costs(SURVIVE), len(objectives))
    for position, objective in enumerate(objectives):
        stages.least(objective, cover.costs(objective), len(objectives) - position - 1)
    return Best(stages.values, tuple(stages.gaps))
