# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would let a fleet meet its demand: more hosts, a smaller cache, a shorter context; each proven by the planner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._choose import Stages
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    HOSTS,
    Cover,
    Group,
    Held,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._fleet import (
    Fleet,
    FleetHost,
    grouped,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._generate import Generator
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Solve
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._place import (
    Limits,
    Placement,
    place,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import LEAST_CONTEXT_LENGTH

# For all remedies together, in seconds; what there is no time for is not offered.
MOST_SECONDS = 60.0


def remedies(placement: Placement, solve: Solve, limits: Limits) -> list[str]:
    """What would close the gap of a placement that does not meet its demand, one sentence each."""
    until = limits.clock() + MOST_SECONDS

    def is_late() -> bool:
        return limits.clock() > until

    found = [*_more_hosts(placement, solve, limits, is_late)]
    within = replace(limits, pattern_seconds=MOST_SECONDS / 4, solver_seconds=MOST_SECONDS / 6)
    for remedy in (_smaller_cache, _shorter_context):
        sentence = "" if is_late() else remedy(placement, solve, within)
        if sentence:
            found.append(sentence)
    return found


def _more_hosts(placement: Placement, solve: Solve, limits: Limits, is_late: Callable[[], bool]) -> list[str]:
    """For each kind of hosts, how many more of it would do."""
    found = []
    for index, kind in enumerate(placement.fleet.kinds):
        if is_late():
            break
        count = _count_of_more(placement, index, solve, limits, is_late)
        if count:
            hosts = "one more host" if count == 1 else f"{count} more hosts"
            found.append(f"{hosts} like {kind.name} ({kind.label})")
    return found


def _count_of_more(
    placement: Placement, kind: int, solve: Solve, limits: Limits, is_late: Callable[[], bool]
) -> int:
    """The fewest hosts of a kind that close the gap; 0 where no number of them does."""
    fleet = placement.fleet
    most = sum(max(supply.short_slots, supply.short_hosts) for supply in placement.supplies)
    spreads = {demand.spread for demand in fleet.demands if demand.spread}
    # Each of the new hosts may stand where none has stood before.
    news = [
        Group(
            kind=kind,
            may_hold=fleet.kinds[kind].may_hold,
            held=Held(),
            hosts=tuple(f"{name}+{one}" for one in range(count)),
            values=dict.fromkeys(spreads, name),
        )
        for name, count in (
            [(f"new {one}", 1) for one in range(min(most, 8))] if spreads else [("new", most)]
        )
    ]
    groups = (*fleet.groups, *news)
    generator = Generator(fleet.demands, groups, placement.kinds, survive=False)
    generator.generate(solve, is_late)
    cover = Cover(fleet.demands, groups, list(generator.patterns.values()), survive=False)
    stages = Stages(cover, solve, limits.clock, limits.clock() + limits.solver_seconds / 3)
    short = cover.short_costs([demand.name for demand in fleet.demands])
    new = {
        column: cost
        for column, cost in cover.costs(HOSTS).items()
        if cover.patterns[column].group >= len(fleet.groups)
    }
    try:
        if stages.least("demand", lambda _cover: short, 1) > 1e-6:
            return 0
        return round(stages.least(HOSTS, lambda _cover: new, 0))
    except TimeoutError:
        return 0


def _changed(fleet: Fleet, change: Callable[[FleetHost], FleetHost]) -> Fleet:
    return grouped(fleet.demands, {name: change(host) for name, host in fleet.hosts.items()}, fleet.left_out)


def _smaller_cache(placement: Placement, solve: Solve, limits: Limits) -> str:
    def change(host: FleetHost) -> FleetHost:
        types = tuple(dict.fromkeys((*host.exact.policy.kv_cache_types, "q8_0")))
        policy = replace(host.exact.policy, kv_cache_types=types)
        return replace(
            host, exact=replace(host.exact, policy=policy), judged=replace(host.judged, policy=policy)
        )

    if all("q8_0" in host.exact.policy.kv_cache_types for host in placement.fleet.hosts.values()):
        return ""
    fleet = _changed(placement.fleet, change)
    return _if_met(fleet, solve, limits, "a q8_0 KV cache (ollama_plan_kv_cache_types: [f16, q8_0])")


def _shorter_context(placement: Placement, solve: Solve, limits: Limits) -> str:
    """The longest context of half, a quarter and so on with which the models that lack slots have enough."""
    short = {
        supply.demand.name: supply.demand.context_length
        for supply in placement.supplies
        if supply.short_slots
    }
    divisor = 2
    while short and max(short.values()) // divisor >= LEAST_CONTEXT_LENGTH:
        lengths = {
            name: max(length // divisor, min(length, LEAST_CONTEXT_LENGTH)) for name, length in short.items()
        }
        shorter = {name: length for name, length in lengths.items() if length < short[name]}
        told = " and ".join(f"{length} tokens for {name}" for name, length in sorted(shorter.items()))
        sentence = _if_met(_with_contexts(placement.fleet, lengths), solve, limits, f"a context of {told}")
        if sentence:
            return sentence
        divisor *= 2
    return ""


def _with_contexts(fleet: Fleet, lengths: dict[str, int]) -> Fleet:
    def change(host: FleetHost) -> FleetHost:
        demands = tuple(
            replace(demand, wanted=replace(demand.wanted, context_length=lengths[demand.model.name]))
            if demand.wanted and demand.model.name in lengths
            else demand
            for demand in host.exact.demands
        )
        return replace(
            host, exact=replace(host.exact, demands=demands), judged=replace(host.judged, demands=demands)
        )

    changed = _changed(fleet, change)
    demands = tuple(
        replace(demand, context_length=lengths.get(demand.name, demand.context_length))
        for demand in fleet.demands
    )
    return replace(changed, demands=demands)


def _if_met(fleet: Fleet, solve: Solve, limits: Limits, sentence: str) -> str:
    try:
        return sentence if place(fleet, solve, limits, survive=False).is_met else ""
    except TimeoutError:
        return ""
