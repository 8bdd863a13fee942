# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings a plan takes: the best safe ones, those that run already, or those that the operator set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Demand
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

    `inputs` and `goal` are without the models that cannot be planned for. `is_kept`: the values run already,
    and something slightly better was left.
    """

    inputs: Inputs
    judge: Judge
    goal: Goal
    choice: Choice
    unsafe: str = ""
    is_kept: bool = False
    warnings: tuple[str, ...] = ()


def chosen_for(inputs: Inputs) -> Chosen:
    """The settings for these inputs.

    Raises: ValueError where the wanted models cannot be loaded together and the policy is to fail.
    """
    if inputs.goal().wanted:
        return _for_wanted(inputs)
    return _for_installed(inputs)


def _for_wanted(inputs: Inputs) -> Chosen:
    chosen = _best(inputs) or _operators(inputs)
    if chosen:
        return chosen
    goal = _free(inputs)
    judge = inputs.judge()
    kept = largest_combination(judge, goal, inputs.demands)
    sentence = misfit_sentence(judge, goal, kept, _why_not(judge, goal))
    if inputs.policy.on_misfit == "fail" or not kept:
        raise ValueError(sentence)
    fewer = inputs.without([demand for demand in inputs.demands if demand not in kept])
    chosen = _best(fewer) or _operators(fewer)
    if chosen is None:
        raise ValueError(sentence)
    return replace(chosen, warnings=(sentence,))


def _for_installed(inputs: Inputs) -> Chosen:
    """For models of which none is wanted by name: those that fit nowhere are left out."""
    judge, goal = inputs.judge(), _free(inputs)
    least = replace(goal, parallels=(min(goal.parallels),))
    left_out: list[Demand] = []
    warnings = []
    for demand in inputs.demands:
        verdicts = [judge.alone(demand.model, setting) for setting in least.settings()]
        if not any(verdict.is_safe for verdict in verdicts):
            left_out.append(demand)
            warnings.append(f"{demand.model.name} is left out of the plan: {verdicts[0].reason}")
    fewer = inputs.without(left_out)
    chosen = _best(fewer) or _operators(fewer) or _nothing_fits(fewer)
    return replace(chosen, warnings=tuple(warnings))


def _best(inputs: Inputs) -> Chosen | None:
    """The best safe settings, or the running ones where they are as good as makes no difference."""
    judge, goal = inputs.judge(), inputs.goal()
    choice = best_choice(judge, goal)
    if choice is None:
        return None
    running = _running(inputs, judge, goal)
    if running and running != choice:
        reduced = inputs.judge(inputs.host.with_less_memory(STABLE_WITHIN_BYTES))
        lasting = best_choice(reduced, goal)
        if lasting is None or rank(running) >= rank(lasting):
            return Chosen(inputs, judge, goal, running, is_kept=True)
    return Chosen(inputs, judge, goal, choice)


def _running(inputs: Inputs, judge: Judge, goal: Goal) -> Choice | None:
    """The values with which the service runs, where they are safe and among those that may be chosen."""
    settings = settings_from_environment(inputs.service.running)
    setting = Setting(settings.num_parallel, settings.context_length, settings.kv_cache_type, settings.spread)
    loaded = settings.max_loaded_models
    choice = safe_choice(judge, goal, setting, loaded) if loaded else None
    return choice if choice and choice.loaded == loaded else None


def _operators(inputs: Inputs) -> Chosen | None:
    """The operator's own values, which are not safe, with the least of everything else."""
    policy = inputs.policy
    if policy.num_parallel is None and policy.max_loaded_models is None:
        return None
    judge, goal = inputs.judge(), inputs.goal()
    free = best_choice(judge, _free(inputs))
    if free is None:
        return None
    setting = replace(
        free.setting,
        parallel=policy.num_parallel or free.setting.parallel,
        context_length=min(goal.context_lengths),
    )
    loaded = policy.max_loaded_models or free.loaded
    verdict = verdict_of(judge, goal, setting, loaded)
    return Chosen(inputs, judge, goal, Choice(setting, free.loaded), unsafe=verdict.reason)


def _nothing_fits(inputs: Inputs) -> Chosen:
    """The least of everything, for a host on which there is nothing that could be planned for."""
    judge, goal = inputs.judge(), inputs.goal()
    setting = Setting(min(goal.parallels), min(goal.context_lengths), goal.kv_cache_types[0], goal.spreads[0])
    reason = "no installed model can be planned for" if inputs.others else ""
    return Chosen(inputs, judge, goal, Choice(setting, goal.least_loaded), unsafe=reason)


def _free(inputs: Inputs) -> Goal:
    """The goal without the values that the operator set for parallel and loaded models."""
    return inputs.goal(replace(inputs.policy, num_parallel=None, max_loaded_models=None))


def _why_not(judge: Judge, goal: Goal) -> str:
    setting = Setting(
        min(goal.parallels), min(goal.context_lengths), goal.kv_cache_types[-1], goal.spreads[0]
    )
    return verdict_of(judge, goal, setting, 1).reason
