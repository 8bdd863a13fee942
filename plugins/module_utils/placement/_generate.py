# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which patterns the solver is given: all of them where they are few, else those that its prices ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    HOSTS,
    MOVES,
    Cover,
    Group,
    HostPattern,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Solve
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._patterns import Patterns, Worth

# Sets of all kinds of hosts together that are simply all asked for; each takes the planner some hundredths of a second.
MOST_ENUMERATED = 600
# So many sets of a group at the most are added at once to close the gap of an objective.
MOST_WITHIN = 100
# What a missing slot costs the solver more than hosts and moves together, for each step of priority.
PENALTY = 100.0
# What comes second counts as little, so that of sets that are as good for the first the better one is found.
MINOR = 0.01


@dataclass(frozen=True)
class Priced:
    """What the solver's prices are for each row of a problem without whole numbers, and what a move and a host cost beside."""

    cover: Cover
    prices: Sequence[float]
    for_move: float
    for_host: float


class Generator:
    """Makes patterns for the groups of a fleet; `kinds` has the sets of each kind of hosts."""

    def __init__(
        self,
        demands: Sequence[FleetDemand],
        groups: Sequence[Group],
        kinds: Sequence[Patterns],
        *,
        survive: bool,
    ) -> None:
        self._demands = demands
        self._groups = groups
        self._kinds = kinds
        self._survive = survive
        self._of_kind: dict[int, list[int]] = {}
        for index, group in enumerate(groups):
            self._of_kind.setdefault(group.kind, []).append(index)
        self.patterns: dict[tuple[int, frozenset[str], int], HostPattern] = {}
        self.has_every_set = False

    def pattern(self, group: int, names: frozenset[str], parallel: int) -> HostPattern:
        """The pattern of a group that holds a set with this parallel value."""
        one = self._groups[group]
        kind = self._kinds[one.kind]
        held = one.held
        runs = held.parallel == parallel and held.context_length == kind.holds.context_length(names)
        return HostPattern(
            group=group,
            names=names,
            parallel=parallel,
            slots={name: kind.slots(name, parallel) for name in names},
            changes=not (names == held.models and runs),
        )

    def add(self, kind: int, names: frozenset[str], parallel: int) -> bool:
        """Adds a set to all groups of a kind; whether there is a group to which it is new."""
        is_new = False
        for group in self._of_kind[kind]:
            key = (group, names, parallel)
            if names <= self._groups[group].may_hold and key not in self.patterns:
                self.patterns[key] = self.pattern(group, names, parallel)
                is_new = True
        return is_new

    def add_held(self) -> None:
        """Adds what hosts hold now, as far as it is asked for and safe."""
        for index, group in enumerate(self._groups):
            names = group.held.models & group.may_hold & self._kinds[group.kind].holds.names
            parallel = group.held.parallel
            if names and parallel and self._kinds[group.kind].is_safe(names, parallel):
                self.patterns.setdefault((index, names, parallel), self.pattern(index, names, parallel))
            if names and self._kinds[group.kind].largest(names):
                self.add(group.kind, names, self._kinds[group.kind].largest(names))

    def generate(self, solve: Solve, is_time_out: Callable[[], bool]) -> bool:
        """Makes the patterns; whether none is missing that the solver would have wanted."""
        self.add_held()
        self.has_every_set = self._every_one()
        if self.has_every_set:
            return True
        for kind, patterns in enumerate(self._kinds):
            for name in sorted(self._allowed(kind)):
                self._add_largest(kind, patterns, frozenset((name,)))
        of_moves = self._priced(MOVES, solve, is_time_out)
        of_hosts = self._priced(HOSTS, solve, is_time_out)
        return of_moves and of_hosts

    def _allowed(self, kind: int) -> frozenset[str]:
        may_hold = (self._groups[group].may_hold for group in self._of_kind[kind])
        return frozenset().union(*may_hold) & self._kinds[kind].holds.names

    def _every_one(self) -> bool:
        left = MOST_ENUMERATED
        for kind, patterns in enumerate(self._kinds):
            before = patterns.calls
            sets = patterns.every_set(self._allowed(kind), left)
            if sets is None:
                return False
            left -= min(patterns.calls - before, len(sets))
            for names in sets:
                self.add(kind, names, patterns.largest(names))
        return True

    def _add_largest(self, kind: int, patterns: Patterns, names: frozenset[str]) -> bool:
        parallel = patterns.largest(names)
        return bool(parallel) and self.add(kind, names, parallel)

    def _priced(self, objective: str, solve: Solve, is_time_out: Callable[[], bool]) -> bool:
        """Adds sets as long as there is one that would make the problem without whole numbers better."""
        while not is_time_out():
            cover = Cover(
                self._demands,
                self._groups,
                list(self.patterns.values()),
                survive=self._survive,
                integer=False,
            )
            cover.minimise(self._costs(cover, objective))
            solution = solve(cover.problem, 60.0)
            if not solution.prices:
                return False
            found, is_certain = False, True
            for_move, for_host = (1.0, MINOR) if objective == MOVES else (MINOR, 1.0)
            priced = Priced(cover, solution.prices, for_move, for_host)
            for index in self.asked_groups(for_moves=objective == MOVES):
                is_new, is_best = self.add_best(index, priced, is_time_out)
                is_certain, found = is_certain and is_best, found or is_new
            if not found:
                return is_certain
        return False

    def _costs(self, cover: Cover, objective: str) -> dict[int, float]:
        minor = HOSTS if objective == MOVES else MOVES
        costs = dict(cover.costs(objective))
        for column, cost in cover.costs(minor).items():
            costs[column] = costs.get(column, 0.0) + MINOR * cost
        priorities = sorted({demand.priority for demand in self._demands})
        for demand in self._demands:
            penalty = PENALTY * (1 + priorities.index(demand.priority))
            costs[cover.shorts[demand.name]] = penalty
            costs[cover.short_hosts[demand.name]] = penalty
            if self._survive:
                costs[cover.shorts_without_one[demand.name]] = PENALTY / 2
        return costs

    def asked_groups(self, *, for_moves: bool) -> list[int]:
        """One group of those for which a set is worth the same, `for_moves` where moves cost something."""
        alike: dict[object, int] = {}
        for index, group in enumerate(self._groups):
            values = tuple(sorted(group.values.items()))
            key: tuple[object, ...] = (group.kind, group.may_hold, values)
            if for_moves:
                key = (*key, group.held.models, group.held.installed)
            alike.setdefault(key, index)
        return list(alike.values())

    def add_best(
        self,
        index: int,
        priced: Priced,
        is_time_out: Callable[[], bool],
    ) -> tuple[bool, bool]:
        """Adds the set that is worth most on a host of a group; whether it is new, and whether no other is worth more."""
        group = self._groups[index]
        patterns = self._kinds[group.kind]
        worths, least_worth = self._worths(index, priced)
        names, is_best = patterns.best_set(worths, least_worth, is_time_out)
        return bool(names) and self._add_largest(group.kind, patterns, names), is_best

    def add_within(
        self,
        index: int,
        priced: Priced,
        slack: float,
        is_time_out: Callable[[], bool],
    ) -> bool:
        """Adds the sets whose worth is at most so much below what they cost; whether these are all."""
        group = self._groups[index]
        patterns = self._kinds[group.kind]
        worths, least_worth = self._worths(index, priced)
        sets, is_all = patterns.sets_within(worths, least_worth - slack, MOST_WITHIN, is_time_out)
        for names in sets:
            self._add_largest(group.kind, patterns, names)
        return is_all

    def _worths(self, index: int, priced: Priced) -> tuple[Mapping[str, Worth], float]:
        """What each model is worth on a host of the group, and what a host costs."""
        group, cover, prices = self._groups[index], priced.cover, priced.prices
        worths = {}
        for demand in self._demands:
            name = demand.name
            if name not in group.may_hold or name not in self._kinds[group.kind].holds.names:
                continue
            per_slot = prices[cover.slot_rows[name]]
            if name in cover.survival_rows:
                per_slot += prices[cover.survival_rows[name]]
            at_all = prices[cover.replica_rows[name]] - priced.for_move * group.moves((name,))
            value = group.values.get(demand.spread, "")
            if (name, value) in cover.spread_rows:
                at_all += prices[cover.spread_rows[name, value]]
            worths[name] = Worth(per_slot, at_all)
        row = cover.group_rows.get(index)
        return worths, priced.for_host - (prices[row] if row is not None else 0.0)
