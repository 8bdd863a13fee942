# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark of the host changes in the choice of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import (
    Conditions,
    conditions_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._measured import (
    Measured,
    measured_parallel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import is_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._next_steps import PARALLEL
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Limit
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    has_single_slot,
)


@dataclass(frozen=True)
class Lesson:
    """What a benchmark teaches about a choice; without `inputs` it stays as it is, else these are to be chosen for.

    `decided`: what was measured, where the parallel value is the benchmark's. `worth`: that it is, as the reason of what is
    more.
    """

    inputs: Inputs | None = None
    decided: Measured | None = None
    worth: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def of_next_step(self, step: Limit) -> Limit:
        """A next step as the benchmark has it: where it is what limits the requests at once, that is the reason."""
        if step.step != PARALLEL or not self.worth:
            return step
        # What fewer slots leave free goes into the context, which more of them would take back.
        return replace(
            step, reason=self.worth if step.possible else f"{self.worth}; with this context, {step.reason}"
        )

    def reason_of(self, parallel: int) -> str:
        """Why so many slots are planned; empty where the benchmark has not decided it."""
        if self.decided is None:
            return ""
        if parallel == self.decided.parallel:
            return f"OLLAMA_NUM_PARALLEL={parallel} is what is worth having, {self.decided.sentence}."
        return (
            f"OLLAMA_NUM_PARALLEL={parallel} is planned; {self.decided.parallel} is worth having, "
            f"{self.decided.sentence}."
        )


def lesson_of(chosen: Chosen, facts: Mapping[str, Any], result: Mapping[str, Any]) -> Lesson:
    """What to choose for once more: with no more slots than were measured to be worth having.

    `facts`: the host's gpufleet_gpu. `result`: what a benchmark left, empty where there is none. The operator's own
    parallel value stays.
    """
    if not result:
        return Lesson()
    measured = measured_parallel(result, _conditions(chosen, facts, result.get("conditions")))
    if measured.parallel is None:
        return Lesson(warnings=(measured.sentence,))
    policy, again, notes = chosen.inputs.policy, None, []
    if policy.use_measured_memory and measured.overhead_bytes is not None:
        again = replace(chosen.inputs, runner_overhead_bytes=measured.overhead_bytes)
        notes.append(
            f"Each runner is planned with the {measured.overhead_bytes // MIB} MiB of a GPU that it was measured to "
            "take besides its buffers."
        )
    most, asked = max(measured.parallel, policy.min_parallel), max(chosen.goal.parallels)
    if measured.doubt:
        doubted = (
            f"the benchmark limits nothing: {measured.doubt}; it found {measured.parallel} requests at once to be worth having, "
            f"{measured.sentence}"
        )
        return Lesson(again, notes=tuple(notes), warnings=(doubted,))
    if policy.num_parallel is not None or most >= asked:
        notes.append(
            f"A benchmark would have up to {measured.parallel} requests at once, {measured.sentence}."
        )
        return Lesson(again, notes=tuple(notes))
    limited = replace(again or chosen.inputs, policy=replace(policy, max_parallel=most))
    worth = f"a benchmark found {measured.parallel} to be worth having, of {asked} that are asked for"
    return Lesson(limited, measured, worth, notes=tuple(notes))


def useful_slots(inputs: Inputs, facts: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, int]:
    """Of the demanded models the slots that a benchmark of the host found worth having, whatever else is loaded beside them.

    It holds for a context up to the one that it was measured with. A model that it tells nothing certain of is not among
    them, nor is any where the operator sets the parallel value.
    """
    told = result.get("conditions")
    if not isinstance(told, Mapping) or inputs.policy.num_parallel is not None:
        return {}
    if told.get("kv_cache_type") not in inputs.policy.kv_cache_types:
        return {}
    lengths = [told["context_length"]] if is_number(told.get("context_length")) else []
    found: dict[str, int] = {}
    for demand in inputs.demands:
        if has_single_slot(demand.model, inputs.rules):
            continue
        asked = (demand.wanted and demand.wanted.context_length) or inputs.policy.min_context_length
        now = conditions_of(
            facts,
            _digests([demand.model]),
            [demand.model.name],
            ollama_version=str(inputs.rules.version),
            context_length=max([asked, *lengths]),
            kv_cache_type=str(told["kv_cache_type"]),
        )
        measured = measured_parallel(result, now)
        if measured.parallel is not None and not measured.doubt:
            found[demand.model.name] = max(measured.parallel, inputs.policy.min_parallel)
    return found


def measured_overhead(inputs: Inputs, facts: Mapping[str, Any], result: Mapping[str, Any]) -> int | None:
    """What a benchmark of the host measured each runner to take besides its buffers, in bytes, for some plan of it.

    None where no plan with `use_measured_memory` would go by it. Of what it was measured with, only models and context may
    differ: they are those of a plan that is not made yet.
    """
    told = result.get("conditions") if result else None
    if not isinstance(told, Mapping):
        return None
    now = conditions_of(
        facts,
        (),
        (),
        ollama_version=str(inputs.rules.version),
        context_length=told["context_length"] if is_number(told.get("context_length")) else 0,
        kv_cache_type=str(told.get("kv_cache_type")),
    )
    measured = measured_parallel(result, now)
    is_allowed = told.get("kv_cache_type") in inputs.policy.kv_cache_types
    return measured.overhead_bytes if is_allowed and measured.parallel is not None else None


def _digests(models: Sequence[SchedulerModel]) -> list[dict[str, str]]:
    return [{"name": model.name, "digest": model.shape.digest if model.shape else ""} for model in models]


def _conditions(chosen: Chosen, facts: Mapping[str, Any], measured: Any) -> Conditions:
    """The conditions of a plan, by which those of a benchmark (`measured`) hold or not."""
    inputs = chosen.inputs
    models = [demand.model for demand in inputs.demands if not has_single_slot(demand.model, inputs.rules)]
    candidate = chosen.choice.candidate
    context_length = candidate.context_length
    # Fewer slots leave memory for a longer context, under which the next benchmark is then measured.
    longer = [one for one in chosen.goal.context_lengths if one > context_length]
    if isinstance(measured, Mapping) and measured.get("context_length") in longer:
        context_length = measured["context_length"]
    return conditions_of(
        facts,
        _digests(models),
        [model.name for model in models],
        ollama_version=str(inputs.rules.version),
        context_length=context_length,
        kv_cache_type=candidate.kv_cache_type,
    )
