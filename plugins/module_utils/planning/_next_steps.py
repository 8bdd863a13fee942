# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next step up would cost: one more request at once, twice the context, one more model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Limit
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import (
    Verdict,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel

PARALLEL = "parallel"
CONTEXT = "context"
MODELS = "models"


def limits_of(
    judge: Judge, goal: Goal, choice: Choice, others: Sequence[SchedulerModel]
) -> tuple[Limit, ...]:
    """The next step of each value; `others` are installed models that the plan does not count on.

    Nothing where there is no model to plan for.
    """
    if not goal.models:
        return ()
    candidate = choice.candidate
    more = replace(candidate, parallel=candidate.parallel + 1)
    longer = replace(candidate, context_length=2 * candidate.context_length)
    return (
        _settings_limit(judge, goal, choice, PARALLEL, more.parallel, more),
        _settings_limit(judge, goal, choice, CONTEXT, longer.context_length, longer),
        _models_limit(judge, goal, choice, others),
    )


def used_bytes(judge: Judge, models: Sequence[SchedulerModel], candidate: Candidate) -> int | None:
    """Memory that these models take in all, each loaded alone and wholly; None where one does not start.

    That is GPU memory, but for a model that uses no GPU.
    """
    outcomes = [judge.alone_outcome(model, candidate) for model in judge.runners(models, candidate)]
    if any(outcome.failure for outcome in outcomes):
        return None
    return sum(outcome.whole_bytes or outcome.memory.host.total_bytes for outcome in outcomes)


def verdict_of(judge: Judge, goal: Goal, candidate: Candidate, loaded: int) -> Verdict:
    """Whether the goal's models are safe under these settings, with so many of them loaded at once."""
    if goal.wanted:
        # Where the order matters, the reason is that of the order.
        verdict = judge.any_order(goal.models, candidate)
        in_order = verdict if verdict.is_safe else judge.some_order(goal.models, candidate, says_why=True)
        if in_order.is_safe and not verdict.is_safe:
            return replace(in_order, reason=f"it is safe only when loaded as {', '.join(in_order.order)}")
        return in_order
    for model in goal.models:
        verdict = judge.alone(model, candidate)
        if not verdict.is_safe:
            return verdict
    return judge.any_combination(goal.models, loaded, candidate, says_why=True)


def _settings_limit(
    judge: Judge, goal: Goal, choice: Choice, step: str, value: int, candidate: Candidate
) -> Limit:
    now = used_bytes(judge, goal.models, choice.candidate)
    then = used_bytes(judge, goal.models, candidate)
    verdict = verdict_of(judge, goal, candidate, choice.loaded)
    cost = None if now is None or then is None else then - now
    return Limit(step, value, verdict.is_safe, cost, verdict.reason or _not_asked(goal, step, value, cost))


def _not_asked(goal: Goal, step: str, value: int, cost: int | None) -> str:
    """Why a step that is possible was not taken."""
    if step == PARALLEL:
        return (
            f"{max(goal.parallels)} requests at once are asked for"
            if cost
            else "Ollama gives these models a single slot"
        )
    if cost and value <= max(goal.context_lengths):
        return "it fits only just, and might not with a little less free memory"
    return (
        f"{max(goal.context_lengths)} is the longest that was tried: {goal.longest_because}"
        if cost
        else "no planned model takes more: it was not trained for it, or its Modelfile sets num_ctx"
    )


def _models_limit(judge: Judge, goal: Goal, choice: Choice, others: Sequence[SchedulerModel]) -> Limit:
    candidate, value = choice.candidate, choice.loaded + 1
    if not goal.wanted:
        runners = judge.runners(goal.models, candidate)
        if len(runners) < value:
            return Limit(MODELS, value, False, None, "no more models are installed")
        smallest = min(
            (
                used
                for model in runners
                for used in [used_bytes(judge, (model,), candidate)]
                if used is not None
            ),
            default=None,
        )
        verdict = judge.any_combination(runners, value, candidate, says_why=True)
        return Limit(MODELS, value, verdict.is_safe, smallest, verdict.reason or "so many are not asked for")
    keys = {model.key for model in goal.models}
    candidates = sorted(
        (model for model in others if model.key not in keys), key=lambda model: model.file_bytes
    )
    if not candidates:
        return Limit(MODELS, value, False, None, "no other model is installed")
    more = candidates[0]
    verdict = verdict_of(judge, replace(goal, models=(*goal.models, more)), candidate, value)
    return Limit(
        MODELS,
        value,
        verdict.is_safe,
        used_bytes(judge, (more,), candidate),
        verdict.reason or f"{more.name} would fit beside them but is not wanted",
    )
