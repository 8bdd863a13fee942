# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings a plan takes: the best safe ones, those that run already, or those that the operator set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._limits import verdict_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._misfit import (
    largest_combination,
    misfit_sentence,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._safety import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._search import (
    Choice,
    Goal,
    best_choice,
    rank,
    safe_choice,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._server_settings import (
    settings_from_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._setting import Setting

# Free memory of a GPU varies by so much from one reading to the next (a desktop, the driver's own bookkeeping).
# Running values are not given up for others that a smaller variation would take away again.
STABLE_WITHIN_BYTES = 128 << 20


@dataclass(frozen=True)
class Chosen:
    """The settings of a plan: `unsafe` says why they are not safe, empty where they are.

    `inputs` and `goal` are without the models that cannot be planned for. `is_kept`: the values run already and
    something slightly better was left for them.
    """

    inputs: Inputs
    judge: Judge
    goal: Goal
    choice: Choice
    unsafe: str = ""
    runs_already: bool = False
    is_kept: bool = False
    warnings: tuple[str, ...] = ()


def chosen_for(inputs: Inputs) -> Chosen:
    """The settings for these inputs.

    Raises: ValueError where the wanted models cannot be loaded together and the policy is to fail.
    """
    judge = inputs.judge()
    if inputs.goal().wanted:
        return _for_wanted(inputs, judge)
    return _for_installed(inputs, judge)


def _for_wanted(inputs: Inputs, judge: Judge) -> Chosen:
    chosen = _best(inputs, judge) or _operators(inputs, judge)
    if chosen:
        return _with_room_for(chosen)
    goal = _free(inputs)
    kept = largest_combination(judge, goal, inputs.demands)
    sentence = misfit_sentence(judge, goal, kept, _why_not(judge, goal))
    if inputs.policy.on_misfit == "fail" or not kept:
        raise ValueError(sentence)
    names = {demand.model.name for demand in kept}
    fewer = inputs.without([name for name in inputs.names if name not in names])
    chosen = _best(fewer, judge) or _operators(fewer, judge)
    if chosen is None:
        raise ValueError(sentence)
    return replace(_with_room_for(chosen), warnings=(sentence,))


def _with_room_for(chosen: Chosen) -> Chosen:
    """What the operator's own number of loaded models does to the wanted ones."""
    most, wanted = chosen.inputs.policy.max_loaded_models, chosen.choice.loaded
    if most is None or most >= wanted:
        return chosen
    reason = f"{wanted} models are wanted, but only {most} may be loaded at once: they evict one another"
    return replace(chosen, unsafe=chosen.unsafe or reason)


def _for_installed(inputs: Inputs, judge: Judge) -> Chosen:
    """For models of which none is wanted by name: those that fit nowhere are left out.

    A model that fits only just is left out too where the service already runs on values without it.
    """
    left_out: dict[str, str] = {}
    chosen = _best(inputs, judge)
    if chosen is None:
        left_out = _misfits(inputs, judge)
        fewer = inputs.without(left_out)
        chosen = _best(fewer, judge) or _operators(fewer, judge) or _nothing_fits(fewer, judge)
    if not chosen.runs_already and inputs.service.running:
        soon = {**left_out, **_misfits(chosen.inputs, _with_less_memory(judge))}
        lasting = _best(inputs.without(soon), judge) if soon != left_out else None
        if lasting and lasting.runs_already:
            chosen, left_out = lasting, soon
    warnings = tuple(f"{name} is left out of the plan: {reason}" for name, reason in left_out.items())
    return replace(chosen, warnings=warnings)


def _misfits(inputs: Inputs, judge: Judge) -> dict[str, str]:
    """The models that are safe alone under no setting that may be tried, with the reason."""
    goal = _free(inputs)
    least = tuple(replace(goal, parallels=(min(goal.parallels),)).settings())
    reasons = {}
    for demand in inputs.demands:
        if not any(judge.alone(demand.model, setting).is_safe for setting in least):
            reasons[demand.model.name] = judge.alone(demand.model, least[0]).reason
    return reasons


def _best(inputs: Inputs, judge: Judge) -> Chosen | None:
    """The best safe settings, or the running ones where they are as good as makes no difference."""
    goal = inputs.goal()
    choice = best_choice(judge, goal)
    if choice is None:
        return None
    running = _running(inputs, judge, goal)
    if running == choice:
        return Chosen(inputs, judge, goal, choice, runs_already=True)
    if running:
        lasting = best_choice(_with_less_memory(judge), goal)
        if lasting is None or rank(running) >= rank(lasting):
            return Chosen(inputs, judge, goal, running, runs_already=True, is_kept=True)
    return Chosen(inputs, judge, goal, choice)


def _with_less_memory(judge: Judge) -> Judge:
    return judge.on(judge.host.with_less_memory(STABLE_WITHIN_BYTES))


def _running(inputs: Inputs, judge: Judge, goal: Goal) -> Choice | None:
    """The values with which the service runs, where they are safe and among those that may be chosen."""
    settings = settings_from_environment(inputs.service.running)
    if not settings.max_loaded_models:
        return None
    setting = Setting(settings.num_parallel, settings.context_length, settings.kv_cache_type, settings.spread)
    choice = safe_choice(judge, goal, setting, settings.max_loaded_models)
    return choice if choice and choice.loaded == settings.max_loaded_models else None


def _operators(inputs: Inputs, judge: Judge) -> Chosen | None:
    """The operator's own values, which are not safe, with the least of everything else."""
    policy = inputs.policy
    if policy.num_parallel is None and policy.max_loaded_models is None:
        return None
    goal = inputs.goal()
    free = best_choice(judge, _free(inputs))
    if free is None:
        return None
    setting = replace(
        free.setting,
        parallel=policy.num_parallel or free.setting.parallel,
        context_length=min(goal.context_lengths),
    )
    verdict = verdict_of(judge, goal, setting, policy.max_loaded_models or free.loaded)
    unsafe = (
        f"{verdict.reason}; safe would be OLLAMA_NUM_PARALLEL={free.setting.parallel} and "
        f"OLLAMA_MAX_LOADED_MODELS={free.loaded}"
    )
    return Chosen(inputs, judge, goal, Choice(setting, free.loaded), unsafe=unsafe)


def _nothing_fits(inputs: Inputs, judge: Judge) -> Chosen:
    """The least of everything, for a host on which there is nothing that could be planned for."""
    goal = inputs.goal()
    setting = Setting(min(goal.parallels), min(goal.context_lengths), goal.kv_cache_types[0], goal.spreads[0])
    reason = "no installed model fits" if inputs.others else ""
    return Chosen(inputs, judge, goal, Choice(setting, goal.least_loaded), unsafe=reason)


def _free(inputs: Inputs) -> Goal:
    """The goal without the values that the operator set for parallel and loaded models."""
    return inputs.goal(replace(inputs.policy, num_parallel=None, max_loaded_models=None))


def _why_not(judge: Judge, goal: Goal) -> str:
    setting = Setting(
        min(goal.parallels), min(goal.context_lengths), goal.kv_cache_types[-1], goal.spreads[0]
    )
    return verdict_of(judge, goal, setting, 1).reason
