# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to say and do where the wanted models cannot be loaded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib, gib_above
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Demand
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    KV_CACHE_TYPES,
    LEAST_CONTEXT_LENGTH,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._search import (
    best_choice,
    some_choice,
)


def largest_combination(judges: Sequence[Judge], goal: Goal, demands: Sequence[Demand]) -> tuple[Demand, ...]:
    """Of the wanted models those that can be loaded together: high priority first, then small before large."""
    kept: list[Demand] = []
    safe = None
    for demand in sorted(demands, key=_most_urgent_first):
        # What is safe for most of them is likely to be so for one more.
        found = some_choice(judges, _least(goal, [*kept, demand]), safe)
        if found:
            kept.append(demand)
            safe = found
    return tuple(kept)


def misfit_sentence(judge: Judge, goal: Goal, kept: Sequence[str], reason: str) -> str:
    """Why the wanted models do not fit, which of them do, and what would make all of them fit."""
    wanted = ", ".join(model.name for model in goal.models)
    together = "cannot be loaded together" if len(goal.models) > 1 else "cannot be loaded"
    possible = (
        f"{', '.join(kept)} can"
        if kept
        else "none of them can be loaded alone"
        if len(goal.models) > 1
        else ""
    )
    return (
        f"the wanted models {wanted} {together}: {reason}; "
        f"{possible + '; ' if possible else ''}what would make it possible: {'; '.join(_remedies(judge, goal))}"
    )


def _remedies(judge: Judge, goal: Goal) -> list[str]:
    """What would let all wanted models be loaded, each with the option that allows it."""
    least = _least(goal, None)
    smaller = replace(least, context_lengths=_smaller(min(goal.context_lengths)))
    quantized = [one for one in KV_CACHE_TYPES if one not in goal.kv_cache_types]
    remedies = []
    plain = best_choice((judge,), smaller)
    if plain:
        remedies.append(f"a context of {plain.candidate.context_length} tokens (ollama_plan_context_length)")
    for kv_cache_type in quantized:
        whole = best_choice((judge,), replace(least, kv_cache_types=(kv_cache_type,)))
        choice = whole or best_choice((judge,), replace(smaller, kv_cache_types=(kv_cache_type,)))
        if choice and (plain is None or choice.candidate.context_length > plain.candidate.context_length):
            shorter = "" if whole else f" with a context of {choice.candidate.context_length} tokens"
            remedies.append(f"a {kv_cache_type} KV cache{shorter} (ollama_plan_kv_cache_types)")
            break
    return [*judge.host.remedies, *remedies, _other_host(judge, goal)]


def _other_host(judge: Judge, goal: Goal) -> str:
    if not judge.host.gpus:
        in_all = judge.system_memory_bytes(goal.models, goal.least)
        return (
            "another model"
            if in_all is None
            else f"a host with {gib_above(in_all)} of system memory available"
        )
    needed = judge.bytes_of_one_gpu(goal.models, goal.least)
    return "a host with more GPU memory" if needed is None else f"a host with one GPU of {gib(needed)} free"


def _least(goal: Goal, demands: Sequence[Demand] | None) -> Goal:
    """The goal with the fewest requests at once and the shortest context, for all its models or for some."""
    models = goal.models if demands is None else tuple(demand.model for demand in demands)
    return replace(
        goal, models=models, parallels=(min(goal.parallels),), context_lengths=(min(goal.context_lengths),)
    )


def _smaller(context_length: int) -> tuple[int, ...]:
    lengths = []
    while context_length > LEAST_CONTEXT_LENGTH:
        context_length = 1 << ((context_length - 1).bit_length() - 1)
        lengths.append(context_length)
    return tuple(sorted(lengths))


def _most_urgent_first(demand: Demand) -> tuple[int, int]:
    return (-demand.wanted.priority if demand.wanted else 0, demand.model.file_bytes)
