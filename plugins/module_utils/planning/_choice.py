# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings a plan takes: the best safe ones, those that run already, or those that the operator set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal, goal_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import Host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._misfit import (
    largest_combination,
    misfit_sentence,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._next_steps import verdict_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice, rank
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._search import best_choice, safe_choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    ServerSettings,
    settings_from_environment,
)

# Free memory of a GPU varies by so much from one reading to the next (a desktop, the driver's own bookkeeping).
# What is taken in place of running values has to be safe with so much less or more.
VARIATION_BYTES = 128 * MIB
# Safe running values are given up only for better ones that would be safe with so much less. It is more than the
# above, so that what a low reading made a plan take is not given up at the next high one.
BETTER_WITH_LESS_BYTES = 2 * VARIATION_BYTES
# What is safe with more and with less free memory may not be so in between: a batch grows, a layer moves.
READINGS_APART_BYTES = 64 * MIB


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
    is_kept: bool = False
    warnings: tuple[str, ...] = ()


def chosen_for(inputs: Inputs, goal: Goal, judge: Judge) -> Chosen:
    """The settings for these inputs: the best of what the goal lets try that the judge finds safe.

    Where not all models fit, the goal is that of fewer; where the operator's own values are not safe, theirs.
    Raises: ValueError where the wanted models cannot be loaded together and the policy is to fail.
    """
    best = _best(inputs, goal, judge) or _for_fewer(inputs, judge, judge)
    if best is None:
        raise ValueError(_misfit(inputs, judge, _combination(inputs, judge)))
    return _with_room_for_wanted(_steady(inputs, best))


def _for_fewer(inputs: Inputs, judge: Judge, selecting: Judge) -> Chosen | None:
    """The settings for the models that the second judge finds to fit, or the operator's own values.

    None where no model fits that is wanted, or all have to.
    """
    if not goal_for(inputs).wanted:
        left_out, warnings = _misfits_of_installed(inputs, selecting)
        some = _of_fewer(inputs.without(left_out), judge) or _nothing_fits(inputs.without(left_out), judge)
        return replace(some, warnings=warnings)
    operators = _operators(inputs, goal_for(inputs), judge)
    if operators or inputs.policy.on_misfit == "fail":
        return operators
    names = _combination(inputs, selecting)
    fewer = inputs.without([name for name in inputs.names if name not in names])
    chosen = _of_fewer(fewer, judge) if names else None
    return chosen and replace(chosen, warnings=(_misfit(inputs, selecting, names),))


def _of_fewer(fewer: Inputs, judge: Judge) -> Chosen | None:
    goal = goal_for(fewer)
    return _best(fewer, goal, judge) or _operators(fewer, goal, judge)


def _combination(inputs: Inputs, judge: Judge) -> tuple[str, ...]:
    """Of the wanted models those that can be loaded together."""
    return tuple(demand.model.name for demand in largest_combination((judge,), _free(inputs), inputs.demands))


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
        if not any(
            judge.alone(demand.model, candidate).is_safe
            for candidate in least
            if not judge.is_hopeless((demand.model,), candidate, 1)
        )
    ]
    return tuple(model.name for model in left_out), tuple(
        f"{model.name} is left out of the plan: {judge.alone(model, least[0]).reason}" for model in left_out
    )


def _best(inputs: Inputs, goal: Goal, judge: Judge) -> Chosen | None:
    """The best safe settings for all the models."""
    choice = best_choice((judge,), goal)
    return Chosen(inputs, judge, goal, choice) if choice else None


def _steady(inputs: Inputs, best: Chosen) -> Chosen:
    """What runs already, where it is safe and nothing better would last; else what would last, or the best.

    What runs may be for fewer models, where another one fits only just.
    """
    settings = settings_from_environment(inputs.service.running)
    if best.unsafe or (settings.max_loaded_models and _running(settings, best) == best.choice):
        return best
    if not settings.max_loaded_models:
        return _longer_where_it_lasts(best)
    better = _lasting(best, BETTER_WITH_LESS_BYTES)
    kept = _kept(settings, best, better)
    if kept is None and better is None:
        for fewer in _for_slightly_fewer(inputs, best):
            kept = kept or _kept(settings, fewer, _lasting(fewer, BETTER_WITH_LESS_BYTES))
    return kept or replace(best, choice=_lasting(best, VARIATION_BYTES) or best.choice)


def _longer_where_it_lasts(best: Chosen) -> Chosen:
    """The best, with a context beyond what Ollama itself would take only where it is safe with less free memory too.

    No more than the context is given up for that.
    """
    goal, choice, tier = best.goal, best.choice, best.inputs.automatic_context_length
    usual = max(tier, min(goal.context_lengths, default=tier))
    if not goal.models or choice.candidate.context_length <= usual:
        return best
    less = best.judge.on(best.judge.host.with_memory_changed(-VARIATION_BYTES))
    if safe_choice(less, goal, choice.candidate, choice.loaded) == choice:
        return best
    within = replace(goal, context_lengths=tuple(one for one in goal.context_lengths if one <= usual))
    choices = [best_choice((best.judge, less), goal), best_choice((best.judge,), within)]
    return replace(best, choice=max(filter(None, choices), key=rank, default=choice))


def _kept(settings: ServerSettings, chosen: Chosen, better: Choice | None) -> Chosen | None:
    """The values that run, for the models of a choice, where they are safe and no worse than others."""
    running = _running(settings, chosen)
    if running is None or (better and rank(better) > rank(running)):
        return None
    return replace(chosen, choice=running, is_kept=True)


def _for_slightly_fewer(inputs: Inputs, best: Chosen) -> Iterator[Chosen]:
    """Choices for the models that fit where free memory is a little less."""
    seen = {best.inputs.names}
    for host in _near(best.judge.host, BETTER_WITH_LESS_BYTES):
        fewer = _for_fewer(inputs, best.judge, best.judge.on(host))
        if fewer and not fewer.unsafe and fewer.inputs.names not in seen:
            seen.add(fewer.inputs.names)
            yield fewer


def _running(settings: ServerSettings, chosen: Chosen) -> Choice | None:
    """The values with which the service runs, where they are safe and among those that may be chosen."""
    candidate = Candidate(
        settings.num_parallel, settings.context_length, settings.kv_cache_type, settings.spread
    )
    choice = safe_choice(chosen.judge, chosen.goal, candidate, settings.max_loaded_models)
    return choice if choice and choice.loaded == settings.max_loaded_models else None


def _lasting(chosen: Chosen, less_bytes: int) -> Choice | None:
    """The best settings that are safe with so much less free memory, and at all readings around."""
    judges = [chosen.judge.on(host) for host in _near(chosen.judge.host, less_bytes)]
    return best_choice(judges, chosen.goal)


def _near(host: Host, less_bytes: int) -> list[Host]:
    """The host at other readings of its free memory, the lowest first: of all GPUs, of one alone, of one against the others.

    The engine divides layers by the GPUs' shares of free memory, so that a little more or less on one GPU may move
    a layer to another.
    """
    changes = range(-less_bytes, VARIATION_BYTES + 1, READINGS_APART_BYTES)
    hosts = [host.with_memory_changed(change) for change in changes]
    if len(host.gpus) > 1:
        for one in range(len(host.gpus)):
            for change in (-VARIATION_BYTES, VARIATION_BYTES):
                alone = host.with_memory_changed(change, one)
                against = host.with_memory_changed(-change).with_memory_changed(2 * change, one)
                hosts += [alone, against]
    return hosts


def _operators(inputs: Inputs, goal: Goal, judge: Judge) -> Chosen | None:
    """The operator's own values, which are not safe, with the least of everything else."""
    policy = inputs.policy
    if policy.num_parallel is None and policy.max_loaded_models is None:
        return None
    free = best_choice((judge,), _free(inputs))
    if free is None:
        return None
    candidate = replace(
        free.candidate,
        parallel=policy.num_parallel or free.candidate.parallel,
        context_length=min(goal.context_lengths),
    )
    verdict = verdict_of(judge, goal, candidate, policy.max_loaded_models or free.loaded)
    unsafe = (
        f"{verdict.reason}; safe would be OLLAMA_NUM_PARALLEL={free.candidate.parallel} and "
        f"OLLAMA_MAX_LOADED_MODELS={free.loaded}"
    )
    return Chosen(inputs, judge, goal, Choice(candidate, free.loaded), unsafe=unsafe)


def _nothing_fits(inputs: Inputs, judge: Judge) -> Chosen:
    """The least of everything, for a host on which there is nothing that could be planned for."""
    goal = goal_for(inputs)
    candidate = replace(goal.least, kv_cache_type=goal.kv_cache_types[0])
    reason = "no installed model fits" if inputs.others else ""
    return Chosen(inputs, judge, goal, Choice(candidate, goal.least_loaded), unsafe=reason)


def _free(inputs: Inputs) -> Goal:
    """The goal without the values that the operator set for parallel and loaded models."""
    return goal_for(inputs, replace(inputs.policy, num_parallel=None, max_loaded_models=None))


def _why_not(judge: Judge, goal: Goal) -> str:
    return verdict_of(judge, goal, goal.least, 1).reason
