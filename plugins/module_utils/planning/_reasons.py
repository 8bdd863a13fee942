# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the values of a plan are what they are, in sentences for its operator."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._next_steps import (
    CONTEXT,
    MODELS,
    PARALLEL,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Limit
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import single_slot_models


def reasons_for(chosen: Chosen, limits: Sequence[Limit]) -> tuple[str, ...]:
    """One sentence for each value that the plan sets, and for what else decided it."""
    if not chosen.goal.models:
        return ("There is no model to plan for, so the values are the smallest.",)
    steps = {limit.step: limit for limit in limits}
    reasons = [
        _parallel(chosen, steps[PARALLEL]),
        _models(chosen, steps[MODELS]),
        _context(chosen, steps[CONTEXT]),
    ]
    candidate = chosen.choice.candidate
    if candidate.kv_cache_type != chosen.goal.kv_cache_types[0]:
        reasons.append(f"The KV cache is {candidate.kv_cache_type}, because f16 would not allow as much.")
    if candidate.spread and len(chosen.goal.spreads) > 1:
        reasons.append(
            "OLLAMA_SCHED_SPREAD divides every model over all GPUs, because whole models on single GPUs would not "
            "be safe together."
        )
    if chosen.choice.order:
        reasons.append(f"The models are safe together only when loaded as {', '.join(chosen.choice.order)}.")
    if chosen.is_kept:
        reasons.append(
            "These values run already and are safe; what is better now might not last, so they stay."
        )
    return tuple(reasons)


def _parallel(chosen: Chosen, more: Limit) -> str:
    policy, parallel = chosen.inputs.policy, chosen.choice.candidate.parallel
    name = f"OLLAMA_NUM_PARALLEL={parallel}"
    if policy.num_parallel is not None:
        return f"{name} is the operator's own value."
    asked = max(chosen.goal.parallels)
    single = single_slot_models(chosen.goal.models, chosen.inputs.rules) if asked == 1 else ()
    if single:
        one, its = ("serves", "its family") if len(single) == 1 else ("serve", "their families")
        return f"{name}: {', '.join(single)} {one} one request at a time: Ollama gives {its} one slot."
    if asked == 1:
        return f"{name}: no planned model is to serve, or can serve, more than one request at a time."
    if parallel >= asked:
        return f"{name} is the smallest value that serves the {asked} requests at once that are asked for."
    return (
        f"{name} is the largest safe value, of {asked} that are asked for: with {more.value}, {more.reason}."
    )


def _models(chosen: Chosen, more: Limit) -> str:
    policy, loaded = chosen.inputs.policy, chosen.choice.loaded
    if policy.max_loaded_models is not None:
        return f"OLLAMA_MAX_LOADED_MODELS={policy.max_loaded_models} is the operator's own value."
    name = f"OLLAMA_MAX_LOADED_MODELS={loaded}"
    if chosen.goal.wanted:
        return f"{name} is the number of wanted models, which are safe together."
    count = len(chosen.judge.runners(chosen.goal.models, chosen.choice.candidate))
    if loaded >= count:
        return f"{name}: all models that can be planned for are safe together in any order."
    if loaded == 1:
        return f"{name}: each of the {count} models is safe alone, any two are not: {more.reason}."
    return f"{name}: any {loaded} of the {count} models are safe together, any {more.value} are not: {more.reason}."


def _context(chosen: Chosen, longer: Limit) -> str:
    length = chosen.choice.candidate.context_length
    name = f"OLLAMA_CONTEXT_LENGTH={length}"
    if length >= max(chosen.goal.context_lengths):
        return f"{name}: {chosen.goal.longest_because}."
    longest = "the longest that is taken" if longer.possible else "the longest safe value"
    return f"{name} is {longest}: with {longer.value}, {longer.reason}."
