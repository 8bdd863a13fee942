# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings a plan takes: the best safe ones, those that run already, or those that the operator set."""

from __future__ import annotations

from collections.abc import Sequence
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
    ServerSettings,
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

    A model that fits only just is left out where the service already runs on safe values without it.

    Raises: ValueError where the wanted models cannot be loaded together and the policy is to fail.
    """
    judge = inputs.judge()
    found = _best(inputs, judge) or _for_fewer(inputs, judge, judge)
    if found is None:
        raise ValueError(_misfit(inputs, judge, _combination(inputs, judge)))
    chosen: Chosen = found
    if not chosen.runs_already and inputs.service.running:
        reduced = _with_less_memory(judge)
        lasting = None if best_choice(reduced, inputs.goal()) else _for_fewer(inputs, judge, reduced)
        if lasting and lasting.runs_already:
            chosen = lasting
    return _with_room_for_wanted(chosen)


def _for_fewer(inputs: Inputs, judge: Judge, selecting: Judge) -> Chosen | None:
    """The settings for the models that the second judge finds to fit, or the operator's own values.

    None where no model fits that is wanted, or all have to.
    """
    if not inputs.goal().wanted:
        left_out, warnings = _misfits_of_installed(inputs, selecting)
        fewer = inputs.without(left_out)
        some = _best(fewer, judge) or _operators(fewer, judge) or _nothing_fits(fewer, judge)
        return replace(some, warnings=warnings)
    operators = _operators(inputs, judge)
    if operators or inputs.policy.on_misfit == "fail":
        return operators
    names = _combination(inputs, selecting)
    fewer = inputs.without([name for name in inputs.names if name not in names])
    chosen = (_best(fewer, judge) or _operators(fewer, judge)) if names else None
    return chosen and replace(chosen, warnings=(_misfit(inputs, selecting, names),))


def _combination(inputs: Inputs, judge: Judge) -> tuple[str, ...]:
    """Of the wanted models those that can be loaded together."""
    return tuple(demand.model.name for demand in largest_combination(judge, _free(inputs), inputs.demands))


def _misfit(inputs: Inputs, judge: Judge, kept: Sequence[str]) -> str:
    goal = _free(inputs)
    return misfit_sentence(judge, goal, kept, _why_not(judge, goal))


def _with_room_for_wanted(chosen: Chosen) -> Chosen:
    """What the operator's own number of loaded models does to the wanted ones."""
    most, wanted = chosen.inputs.policy.max_loaded_models, chosen.choice.loaded
    if not chosen.goal.wanted or most is None or most >= wanted:
        return chosen
    reason = f"{wanted} models are wanted, but only {most} may be loaded at once: they evict one another"
    return replace(chosen, unsafe=chosen.unsafe or reason)


def _misfits_of_installed(inputs: Inputs, judge: Judge) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The models that are safe alone under no setting that may be tried, and what to say of it."""
    goal = _free(inputs)
    least = tuple(replace(goal, parallels=(min(goal.parallels),)).settings())
    left_out = [
        demand.model
        for demand in inputs.demands
        if not any(judge.alone(demand.model, setting).is_safe for setting in least)
    ]
    return tuple(model.name for model in left_out), tuple(
        f"{model.name} is left out of the plan: {judge.alone(model, least[0]).reason}" for model in left_out
    )


def _best(inputs: Inputs, judge: Judge) -> Chosen | None:
    """The best safe settings; where a plan runs already, that one, unless there is a better one that lasts."""
    goal = inputs.goal()
    choice = best_choice(judge, goal)
    settings = settings_from_environment(inputs.service.running)
    if choice is None:
        return None
    if not settings.max_loaded_models:
        return Chosen(inputs, judge, goal, choice)
    running = _running(settings, judge, goal)
    if running == choice:
        return Chosen(inputs, judge, goal, choice, runs_already=True)
    lasting = _lasting(judge, goal)
    if running and (lasting is None or rank(running) >= rank(lasting)):
        return Chosen(inputs, judge, goal, running, runs_already=True, is_kept=True)
    return Chosen(inputs, judge, goal, lasting or choice)


def _running(settings: ServerSettings, judge: Judge, goal: Goal) -> Choice | None:
    """The values with which the service runs, where they are safe and among those that may be chosen."""
    setting = Setting(settings.num_parallel, settings.context_length, settings.kv_cache_type, settings.spread)
    choice = safe_choice(judge, goal, setting, settings.max_loaded_models)
    return choice if choice and choice.loaded == settings.max_loaded_models else None


def _lasting(judge: Judge, goal: Goal) -> Choice | None:
    """The best settings that stay safe when free memory varies, on all GPUs alike or on one more than on others.

    The engine divides layers by the GPUs' shares of free memory, so that a little less on one may move a layer
    to another.
    """
    reduced = _with_less_memory(judge)
    choice = best_choice(reduced, goal)
    if choice is None:
        return None
    gpus = range(len(judge.host.gpus))
    uneven = [reduced.on(reduced.host.with_less_memory(STABLE_WITHIN_BYTES, one)) for one in gpus]
    hosts = [judge, *(uneven if len(uneven) > 1 else [])]
    choices = [safe_choice(one, goal, choice.setting, choice.loaded) for one in hosts]
    return choices[0] if all(one and one.loaded == choice.loaded for one in choices) else None


def _with_less_memory(judge: Judge) -> Judge:
    return judge.on(judge.host.with_less_memory(STABLE_WITHIN_BYTES))


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
