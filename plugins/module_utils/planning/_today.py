# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a host today, by the same judge as the plan, and what the plan changes of it in its operator's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import (
    PLANNED_VARIABLES,
    Candidate,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Eviction, Today
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import Simulation
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    effective_context,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import Server, start_server
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    settings_from_environment,
)

# So many models are loaded one after the other to see who has to go; of more the plan's first.
MOST_LOADED_IN_TURN = 16
_KEPT_LOADED = {"OLLAMA_KEEP_ALIVE": "-1"}


def today_of(inputs: Inputs, said: Said, engine: MemoryEngine | None = None) -> Today | None:
    """What runs today; None where nothing is known of a service that runs.

    `engine`: one that may remember what models of this host take.
    """
    running = dict(inputs.service.running)
    if not running:
        return None
    settings = settings_from_environment(running)
    models = [demand.model for demand in inputs.demands]
    context = settings.context_length or said.log.default_context_length or inputs.automatic_context_length
    candidate = Candidate(settings.num_parallel, context, settings.kv_cache_type, settings.spread)
    others = {name: value for name, value in running.items() if name not in PLANNED_VARIABLES}
    judge = Judge(
        Simulation(
            inputs.host,
            [*models, *inputs.others],
            version=str(inputs.rules.version),
            environment=others,
            headroom_bytes=0,
            engine=engine,
        )
    )
    server = start_server(
        str(inputs.rules.version),
        {**running, "OLLAMA_CONTEXT_LENGTH": str(context), **_KEPT_LOADED},
        judge.simulation.gpus,
        inputs.host.system_memory_available_bytes,
        engine=judge.simulation.engine,
    )
    most = min(server.max_loaded_models, len(models))
    together = judge.most_loaded(models, candidate, most) if models else 0
    spills, evictions, server = _in_turn(server, models[:MOST_LOADED_IN_TURN])
    today = Today(
        num_parallel=settings.num_parallel,
        max_loaded_models=server.max_loaded_models,
        context_length=context,
        kv_cache_type=settings.kv_cache_type,
        together=together,
        spills=spills,
        evictions=evictions,
        gpu_bytes=sum(runner.memory.gpu_bytes for runner in server.runners),
        sentences=(),
    )
    return replace(today, sentences=_sentences(today, models))


def _in_turn(
    server: Server, models: Sequence[SchedulerModel]
) -> tuple[tuple[str, ...], tuple[Eviction, ...], Server]:
    """Which models spill and which have to go where each is asked for once, one after the other."""
    spills: dict[str, None] = {}
    evictions = []
    for model in models:
        server, outcome = server.load(model)
        evictions += [Eviction(name, model.name) for name in outcome.evicted]
        if server.gpus and (outcome.spilled or outcome.failure):
            spills[model.name] = None
    return tuple(spills), tuple(evictions), server


def _sentences(today: Today, models: Sequence[SchedulerModel]) -> tuple[str, ...]:
    count, tokens = len(models), _usable(today.context_length, models) or today.context_length
    values = f"{_requests(today.num_parallel)} at once for each model, {tokens} tokens for each request"
    told = [f"{values}, at most {today.max_loaded_models} models loaded"]
    if count > 1 and today.together >= count:
        told.append(f"all {count} models fit together, whichever is asked for first")
    elif count > 1:
        told.append(
            f"any {today.together} of the {count} models are safe together, any {today.together + 1} are not"
            if today.together
            else f"not every one of the {count} models is safe alone"
        )
    told += [f"{one.for_model} evicts {one.model}" for one in today.evictions]
    told += [f"{name} does not lie wholly on the GPU" for name in today.spills]
    return tuple(told)


def differences(today: Today | None, chosen: Chosen, gpu_bytes: int, ends: str) -> tuple[str, ...]:
    """What the plan changes, in its operator's terms; a context that becomes shorter comes first, with the reason.

    `ends`: what both_ends() tells.
    """
    candidate, tier = chosen.choice.candidate, chosen.inputs.automatic_context_length
    before = _usable(today.context_length if today else tier, chosen.goal.models)
    after = _usable(candidate.context_length, chosen.goal.models)
    told = []
    if after < before:
        whose = "today" if today else "by Ollama itself"
        told.append(
            f"each request gets {after} tokens of context, {whose} {before}: {_why_shorter(chosen, before, ends)}"
        )
    elif ends and today is None:
        told.append(slots_or_context(ends))
    if today is None:
        if after > before and not chosen.unsafe:
            told.insert(
                0,
                f"each request gets {after} tokens of context, by Ollama itself {before}: there is memory for it",
            )
        return tuple(told)
    loaded = chosen.inputs.policy.max_loaded_models or chosen.choice.loaded
    pairs = (
        ("requests at once for each model", today.num_parallel, candidate.parallel),
        ("context for each request", before, max(before, after)),
        ("models kept loaded together", min(today.together, today.max_loaded_models), loaded),
    )
    told += [f"{what}: {old} today, {new} planned" for what, old, new in pairs if old != new]
    if gib(today.gpu_bytes) != gib(gpu_bytes):
        told.append(f"GPU memory of loaded models: {gib(today.gpu_bytes)} today, {gib(gpu_bytes)} planned")
    if told and ends and after >= before:
        told.insert(0, slots_or_context(ends))
    return tuple(told)


def _usable(context_length: int, models: Sequence[SchedulerModel]) -> int:
    """How much of a context length the models make use of."""
    return max((effective_context(model, context_length) for model in models if not model.num_ctx), default=0)


def _why_shorter(chosen: Chosen, before: int, ends: str) -> str:
    policy, parallel = chosen.inputs.policy, chosen.choice.candidate.parallel
    if policy.context_length is not None:
        return "it is the operator's own value; set another ollama_plan_context_length"
    if policy.max_context_length is not None and policy.max_context_length < before:
        return "ollama_plan_max_context_length allows no more; raise it"
    if ends:
        return (
            f"that is the price of {parallel} slots ({ends}); with ollama_plan_requests=1 a request gets more, and with "
            f"ollama_plan_context_length={before} it keeps what it has where that fits"
        )
    if chosen.choice.loaded == 1:
        return f"more does not fit; set ollama_plan_context_length={before} to have it checked"
    return (
        f"more does not fit beside the models that are kept; with ollama_plan_wanted name fewer, or set "
        f"ollama_plan_context_length={before} to have it checked"
    )


def slots_or_context(ends: str) -> str:
    """What there is to choose between, where both_ends() tells two ends."""
    return f"slots or context: {ends} is safe; OLLAMA_NUM_PARALLEL (ollama_plan_requests) decides between them"


def both_ends(chosen: Chosen) -> str:
    """`1 x 32768 or 4 x 8192`: the longest context of a single slot and that of the plan; empty where they are the same."""
    candidate = chosen.choice.candidate
    if candidate.parallel == 1 or chosen.unsafe:
        return ""
    for length in sorted(chosen.goal.context_lengths, reverse=True):
        if length <= candidate.context_length:
            return ""
        one = Candidate(1, length, candidate.kv_cache_type, candidate.spread)
        if _is_safe(chosen, one):
            return f"1 x {length} or {candidate.parallel} x {candidate.context_length}"
    return ""


def _is_safe(chosen: Chosen, candidate: Candidate) -> bool:
    models = chosen.goal.models
    if chosen.goal.wanted:
        return chosen.judge.some_order(models, candidate).is_safe
    return chosen.judge.most_loaded(models, candidate, chosen.choice.loaded, chosen.choice.loaded) > 0


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
