# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demand on a fleet as a linear problem: how many hosts of each group hold which set of models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import UNBOUNDED, Problem


@dataclass(frozen=True)
class Held:
    """What a host has now: the models that are loaded or planned there, those that are installed, and how it runs."""

    models: frozenset[str] = frozenset()
    installed: frozenset[str] = frozenset()
    parallel: int = 0
    context_length: int = 0


@dataclass(frozen=True)
class Group:
    """Hosts that are alike in all that a placement looks at.

    `kind`: which hosts can hold the same. `may_hold`: the models that the operator lets them have. `values`: theirs of
    the variables over which demands are spread.
    """

    kind: int
    may_hold: frozenset[str]
    held: Held
    hosts: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)

    def moves(self, names: Collection[str]) -> int:
        """Models to be pulled and models to be loaded where these are to be held."""
        return sum((name not in self.held.models) + (name not in self.held.installed) for name in names)


@dataclass(frozen=True)
class HostPattern:
    """A set of models on a host of a group, with the slots of each.

    `changes`: whether the host runs otherwise now. `free_share`: of its fullest GPU the part that stays free.
    """

    group: int
    names: frozenset[str]
    parallel: int
    slots: Mapping[str, int]
    changes: bool = True
    free_share: float = 0.0


# The objectives in the order in which they count; what is short goes by priority before them.
SURVIVE, MOVES, HOSTS, CHANGES, FULLNESS = "survive", "moves", "hosts", "changes", "fullness"


class Cover:
    """The problem for some patterns, and where in it things stand.

    `uses`: the column of each pattern. `shorts` and `short_hosts`: those of the slots and the hosts that a model lacks.
    Without `integer` it is the problem that a solver prices; without `levels` too it is never worse than with whole numbers,
    whatever other patterns there are.
    """

    def __init__(
        self,
        demands: Sequence[FleetDemand],
        groups: Sequence[Group],
        patterns: Sequence[HostPattern],
        *,
        survive: bool,
        integer: bool = True,
        levels: bool = True,
    ) -> None:
        self.demands = demands
        self.groups = groups
        self.patterns = patterns
        self.problem = Problem()
        self._integer = integer
        self._levels = levels
        # Where the rows of the groups alone bound them, the prices of these are all that counts.
        self.uses = [
            self.problem.column(
                upper=float(len(groups[one.group].hosts)) if integer else UNBOUNDED, integer=integer
            )
            for one in patterns
        ]
        self.shorts = {demand.name: self.problem.column() for demand in demands}
        self.short_hosts = {demand.name: self.problem.column() for demand in demands}
        self.shorts_without_one: dict[str, int] = {}
        self.group_rows: dict[int, int] = {}
        self.slot_rows: dict[str, int] = {}
        self.replica_rows: dict[str, int] = {}
        self.spread_rows: dict[tuple[str, str], int] = {}
        self.survival_rows: dict[str, int] = {}
        self._holding: dict[str, list[int]] = {demand.name: [] for demand in demands}
        for index, pattern in enumerate(patterns):
            for name in pattern.names:
                self._holding[name].append(index)
        self._add_hosts()
        for demand in demands:
            self._add_demand(demand)
            if survive:
                self._add_survival(demand)

    def costs(self, objective: str) -> dict[int, float]:
        """What each column adds to an objective."""
        if objective == SURVIVE:
            return dict.fromkeys(self.shorts_without_one.values(), 1.0)
        costs: dict[int, float] = {}
        for column, pattern in zip(self.uses, self.patterns):
            cost = {
                MOVES: float(self.groups[pattern.group].moves(pattern.names)),
                HOSTS: 1.0,
                CHANGES: float(pattern.changes),
                FULLNESS: 1.0 - pattern.free_share,
            }[objective]
            if cost:
                costs[column] = cost
        return costs

    def short_costs(self, names: Collection[str]) -> dict[int, float]:
        """What is missing of these models, in slots and in hosts."""
        return {columns[name]: 1.0 for columns in (self.shorts, self.short_hosts) for name in names}

    def minimise(self, costs: Mapping[int, float]) -> None:
        """Make this the objective."""
        self.problem.costs = [0.0] * len(self.problem.costs)
        for column, cost in costs.items():
            self.problem.costs[column] = cost

    def keep(self, costs: Mapping[int, float], most: float) -> int | None:
        """From now on let this be no worse; the row that sees to it, None where nothing can make it worse."""
        return self.problem.row(costs, most=most) if costs else None

    def _add_hosts(self) -> None:
        terms: dict[int, dict[int, float]] = {}
        for column, pattern in zip(self.uses, self.patterns):
            terms.setdefault(pattern.group, {})[column] = 1.0
        for group, columns in sorted(terms.items()):
            self.group_rows[group] = self.problem.row(columns, most=float(len(self.groups[group].hosts)))

    def _add_demand(self, demand: FleetDemand) -> None:
        holding = self._holding[demand.name]
        slots = {self.uses[one]: float(self.patterns[one].slots[demand.name]) for one in holding}
        short = self.shorts[demand.name]
        self.slot_rows[demand.name] = self.problem.row({**slots, short: 1.0}, least=float(demand.requests))
        short_hosts = self.short_hosts[demand.name]
        replicas = float(demand.replicas)
        self.replica_rows[demand.name] = self.problem.row(
            {**{self.uses[one]: 1.0 for one in holding}, short_hosts: 1.0}, least=replicas
        )
        if not demand.spread or demand.replicas < 2:
            return
        by_value: dict[str, dict[int, float]] = {}
        for one in holding:
            value = self.groups[self.patterns[one].group].values.get(demand.spread, "")
            if value:
                by_value.setdefault(value, {})[self.uses[one]] = 1.0
        different = {}
        for value, columns in sorted(by_value.items()):
            has_value = self.problem.column(upper=1.0, integer=self._integer)
            self.spread_rows[demand.name, value] = self.problem.row({**columns, has_value: -1.0}, least=0.0)
            different[has_value] = 1.0
        self.problem.row({**different, short_hosts: 1.0}, least=replicas)

    def _add_survival(self, demand: FleetDemand) -> None:
        """The slots without the host that has most of them are to be as many as are asked for."""
        holding = self._holding[demand.name]
        slots = {one: self.patterns[one].slots[demand.name] for one in holding}
        missing = self.shorts_without_one[demand.name] = self.problem.column()
        if not self._levels:
            terms = {self.uses[one]: float(count) for one, count in slots.items()}
            row = self.problem.row({**terms, missing: 1.0}, least=float(demand.requests))
            self.survival_rows[demand.name] = row
            return
        levels = sorted(set(slots.values()))
        # Which number of slots none of its hosts exceeds.
        is_most = {level: self.problem.column(upper=1.0, integer=self._integer) for level in (0, *levels)}
        self.problem.row(dict.fromkeys(is_most.values(), 1.0), least=1.0, most=1.0)
        all_slots: dict[int, float] = {self.uses[one]: float(count) for one, count in slots.items()}
        most = {column: -float(level) for level, column in is_most.items()}
        self.survival_rows[demand.name] = self.problem.row(
            {**all_slots, **most, missing: 1.0}, least=float(demand.requests)
        )
        hosts = sum(len(group.hosts) for group in self.groups)
        for level in (0, *levels[:-1]):
            beyond = {self.uses[one]: 1.0 for one, count in slots.items() if count > level}
            allowing = {column: -float(hosts) for other, column in is_most.items() if other > level}
            self.problem.row({**beyond, **allowing}, most=0.0)


def is_zero(value: float) -> bool:
    """Whether a sum of a solver's values is nothing."""
    return abs(value) < 1e-6


def total(costs: Mapping[int, float], values: Sequence[float]) -> float:
    """An objective's value."""
    return sum(cost * values[column] for column, cost in costs.items())


def unique(patterns: Iterable[HostPattern]) -> list[HostPattern]:
    """The patterns in their order, each once."""
    seen: dict[tuple[int, frozenset[str], int], HostPattern] = {}
    for pattern in patterns:
        seen.setdefault((pattern.group, pattern.names, pattern.parallel), pattern)
    return list(seen.values())
