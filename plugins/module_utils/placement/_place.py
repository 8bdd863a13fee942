# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a demand and the hosts of a fleet to what each host is to hold.

The line of steps: hosts in groups, patterns, the best cover, as much room as that leaves, and a proof for every host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._choose import Best, Gap, best_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    CHANGES,
    FULLNESS,
    HOSTS,
    MOVES,
    Cover,
    HostPattern,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._fleet import (
    Fleet,
    FleetHost,
    grouped,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._generate import Generator
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Solve
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._patterns import Patterns
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._prover import Proof, Prover

# Of so many parallel values at the most the one is chosen that leaves most room.
MOST_LEVELS = 12


@dataclass(frozen=True)
class Limits:
    """How long may be looked for patterns, and how long the solver may take, in seconds of a clock."""

    clock: Callable[[], float]
    pattern_seconds: float = 120.0
    solver_seconds: float = 30.0


@dataclass(frozen=True)
class PlacedHost:
    """What a host is to hold, with how many slots of each model, and what the planner says of it.

    `moves`: the models to pull and those to load. `changes`: whether it runs otherwise now.
    """

    name: str
    slots: Mapping[str, int]
    parallel: int
    proof: Proof
    to_pull: tuple[str, ...]
    to_load: tuple[str, ...]
    changes: bool


@dataclass(frozen=True)
class Supply:
    """What a model gets: slots and hosts, and the slots that are left when the host with most of them is lost.

    `short_hosts`: of replicas that are spread those count that have a value of their own.
    """

    demand: FleetDemand
    slots: int
    hosts: int
    slots_without_one: int
    short_slots: int
    short_hosts: int


@dataclass(frozen=True)
class Placement:
    """Which host holds what. `gaps`: what the solver had no time to prove. `left_out`: why hosts take no part, by name.

    `is_complete`: no pattern was left out for lack of time.
    """

    fleet: Fleet
    hosts: tuple[PlacedHost, ...]
    supplies: tuple[Supply, ...]
    gaps: tuple[Gap, ...]
    is_complete: bool
    survives: bool
    kinds: tuple[Patterns, ...] = field(repr=False)

    @property
    def planner_calls(self) -> int:
        """How often the planner was asked."""
        return sum(patterns.calls for patterns in self.kinds)

    @property
    def is_met(self) -> bool:
        """Whether every demand is met."""
        return not any(supply.short_slots or supply.short_hosts for supply in self.supplies)


def place(fleet: Fleet, solve: Solve, limits: Limits, *, survive: bool) -> Placement:
    """The best placement of the demand on the fleet.

    Raises: TimeoutError where the solver found none in time.
    """
    provers = [Prover(host.judged) for host in fleet.kinds]
    kinds = [
        Patterns(prover, _useful_requests(fleet.demands, host)) for prover, host in zip(provers, fleet.kinds)
    ]
    started = limits.clock()
    generator = Generator(fleet.demands, fleet.groups, kinds, survive=survive)
    is_complete = generator.generate(solve, lambda: limits.clock() - started > limits.pattern_seconds)
    used, gaps = _cover(fleet, generator, kinds, provers, solve, limits, survive=survive)
    hosts, unlike = _proven(fleet, used, provers)
    if unlike:
        return _without_likeness(fleet, unlike, solve, limits, survive=survive)
    return Placement(
        fleet=fleet,
        hosts=tuple(sorted(hosts, key=lambda host: list(fleet.hosts).index(host.name))),
        supplies=tuple(_supply(demand, hosts, fleet) for demand in fleet.demands),
        gaps=tuple(gaps),
        is_complete=is_complete,
        survives=survive,
        kinds=tuple(kinds),
    )


def _useful_requests(demands: Sequence[FleetDemand], host: FleetHost) -> dict[str, int]:
    """Of each model the most slots that are of any use on a host like this one."""
    return {demand.name: min(demand.requests, host.useful.get(demand.name, demand.requests)) for demand in demands}


def _cover(
    fleet: Fleet,
    generator: Generator,
    kinds: Sequence[Patterns],
    provers: Sequence[Prover],
    solve: Solve,
    limits: Limits,
    *,
    survive: bool,
) -> tuple[list[tuple[HostPattern, int]], list[Gap]]:
    """The patterns that are used, and how often."""
    until = limits.clock() + limits.solver_seconds
    patterns = list(generator.patterns.values())
    cover = Cover(fleet.demands, fleet.groups, patterns, survive=survive)
    best = best_of(cover, (MOVES, HOSTS, CHANGES), solve, limits.clock, until, survive=survive)
    used = _used(cover, best)
    if not used:
        return [], list(best.gaps)
    roomier = _roomier(fleet, used, generator, kinds, provers)
    within = _with_room(fleet, used, roomier, solve, limits.clock, until, survive=survive)
    return within, list(best.gaps)


def _used(cover: Cover, best: Best) -> list[tuple[HostPattern, int]]:
    counts = [round(best.values[column]) for column in cover.uses]
    return [(pattern, count) for pattern, count in zip(cover.patterns, counts) if count]


def _roomier(
    fleet: Fleet,
    used: Sequence[tuple[HostPattern, int]],
    generator: Generator,
    kinds: Sequence[Patterns],
    provers: Sequence[Prover],
) -> list[HostPattern]:
    """The used sets with fewer slots too, each with the room that it leaves."""
    hosts_with: dict[str, int] = {}
    for pattern, count in used:
        for name in pattern.names:
            hosts_with[name] = hosts_with.get(name, 0) + count
    shares = [
        -(-demand.requests // hosts_with[demand.name])
        for demand in fleet.demands
        if demand.name in hosts_with
    ]
    roomier: dict[tuple[int, frozenset[str], int], HostPattern] = {}
    for pattern, _count in used:
        kind = fleet.groups[pattern.group].kind
        for parallel in _levels(provers[kind].least_parallel, pattern.parallel, shares):
            if parallel != pattern.parallel and not kinds[kind].is_safe(pattern.names, parallel):
                continue
            one = generator.pattern(pattern.group, pattern.names, parallel)
            proof = provers[kind].proof(pattern.names, parallel)
            # A load that was seen to take more than foretold may be unsafe with fewer slots alone.
            if proof is not None:
                key = (pattern.group, pattern.names, parallel)
                roomier[key] = replace(one, free_share=proof.free_share)
    return list(roomier.values())


def _levels(least: int, most: int, shares: Sequence[int]) -> list[int]:
    """Parallel values to choose from: the largest, each model's share, and some between."""
    step = max(1, -(-(most - least + 1) // MOST_LEVELS))
    levels = {*range(most, least - 1, -step), *(share for share in shares if least <= share < most)}
    return sorted(levels, reverse=True)


def _with_room(
    fleet: Fleet,
    used: Sequence[tuple[HostPattern, int]],
    roomier: Sequence[HostPattern],
    solve: Solve,
    clock: Callable[[], float],
    until: float,
    *,
    survive: bool,
) -> list[tuple[HostPattern, int]]:
    """The same sets on as many hosts, with the slots that leave most room."""
    cover = Cover(fleet.demands, fleet.groups, roomier, survive=survive)
    for (group, names), count in _counts(used).items():
        columns = [
            column
            for column, pattern in zip(cover.uses, roomier)
            if (pattern.group, pattern.names) == (group, names)
        ]
        cover.problem.row(dict.fromkeys(columns, 1.0), least=float(count), most=float(count))
    try:
        best = best_of(cover, (CHANGES, FULLNESS), solve, clock, max(until, clock() + 2.0), survive=survive)
    except TimeoutError:
        return list(used)
    return _used(cover, best) or list(used)


def _counts(used: Sequence[tuple[HostPattern, int]]) -> dict[tuple[int, frozenset[str]], int]:
    counts: dict[tuple[int, frozenset[str]], int] = {}
    for pattern, count in used:
        key = (pattern.group, pattern.names)
        counts[key] = counts.get(key, 0) + count
    return counts


def _proven(
    fleet: Fleet, used: Sequence[tuple[HostPattern, int]], provers: Sequence[Prover]
) -> tuple[list[PlacedHost], list[str]]:
    """The hosts with what each holds, proven as each was read; and those that are not like the others after all."""
    placed, unlike = [], []
    proofs: dict[object, Proof | None] = {}
    left = {index: list(group.hosts) for index, group in enumerate(fleet.groups)}
    for pattern, count in used:
        for name in [left[pattern.group].pop(0) for _one in range(count)]:
            host = fleet.hosts[name]
            key = (fleet.groups[pattern.group].kind, host.exact.host.gpus, pattern.names, pattern.parallel)
            if key not in proofs:
                proofs[key] = _proof(host, provers[fleet.groups[pattern.group].kind], pattern)
            proof = proofs[key]
            if proof is None:
                unlike.append(name)
                continue
            placed.append(_placed(host, pattern, proof))
    return placed, unlike


def _proof(host: FleetHost, prover: Prover, pattern: HostPattern) -> Proof | None:
    if host.exact is not host.judged:
        prover = Prover(host.exact)
    return prover.proof(pattern.names, pattern.parallel)


def _placed(host: FleetHost, pattern: HostPattern, proof: Proof) -> PlacedHost:
    names = sorted(pattern.names)
    return PlacedHost(
        name=host.name,
        slots={name: pattern.slots[name] for name in names},
        parallel=pattern.parallel,
        proof=proof,
        to_pull=tuple(name for name in names if name not in host.held.installed),
        to_load=tuple(name for name in names if name not in host.held.models),
        changes=pattern.changes,
    )


def _supply(demand: FleetDemand, hosts: Sequence[PlacedHost], fleet: Fleet) -> Supply:
    slots = [host.slots[demand.name] for host in hosts if demand.name in host.slots]
    replicas = len(slots)
    if demand.spread and demand.replicas > 1:
        values = {fleet.hosts[one.name].values.get(demand.spread) for one in hosts if demand.name in one.slots}
        replicas = len(values - {None, ""})
    return Supply(
        demand=demand,
        slots=sum(slots),
        hosts=len(slots),
        slots_without_one=sum(slots) - max(slots, default=0),
        short_slots=max(demand.requests - sum(slots), 0),
        short_hosts=max(demand.replicas - replicas, 0),
    )


def _without_likeness(
    fleet: Fleet, unlike: Sequence[str], solve: Solve, limits: Limits, *, survive: bool
) -> Placement:
    """Places again where what is safe on hosts like these is not safe on each of them: as they were read, then without them."""
    hosts, left_out = dict(fleet.hosts), dict(fleet.left_out)
    for name in unlike:
        host = hosts[name]
        if host.exact is host.judged:
            del hosts[name]
            left_out[name] = "what is safe on hosts like it is not safe on it"
        else:
            hosts[name] = replace(host, judged=host.exact)
    return place(grouped(fleet.demands, hosts, left_out), solve, limits, survive=survive)
