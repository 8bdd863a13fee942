# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the GPUs and models of a host and the wishes of its operator to the plan of its Ollama server.

The line of steps: inputs, candidates, verdicts, choice (once more where a benchmark has a say), next steps, words.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._benchmarked import Lesson, lesson_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen, chosen_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._describe import Described, described
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import goal_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import (
    Experience,
    Inputs,
    read_inputs,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import judge_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._next_steps import limits_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._observed_engine import OBSERVED
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import (
    Limit,
    Plan,
    PlannedModel,
    Today,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._reasons import reasons_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen_on_host import (
    SeenOnHost,
    is_safe_by_the_rules,
    seen_on_host,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._today import (
    both_ends,
    differences,
    slots_or_context,
    today_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._warnings import (
    blob_warnings,
    client_warnings,
    model_warnings,
    plan_warnings,
    projector_warnings,
    service_warnings,
)


def plan_host(
    *,
    gpu: Any,
    models: Sequence[Any],
    wanted: Sequence[WantedModel] = (),
    policy: Policy | None = None,
    version: str | None = None,
    service: Service | None = None,
    unplannable: Mapping[str, str] | None = None,
    experience: Experience | None = None,
) -> Plan:
    """The plan for one host.

    `gpu`: facts of gpu_facts, or a description with the same keys. `models`: what ollama_model_info returns, or
    descriptions. `service`: what it runs with now, and who set it. `unplannable`: why other installed models cannot be
    planned, by name. `experience`: what has become of models on this host.

    Raises: ValueError in one sentence, where the inputs make no sense or nothing can be planned.
    """
    experience = experience or Experience()
    with _uncollected():
        inputs = read_inputs(
            gpu=gpu,
            models=models,
            wanted=wanted,
            policy=policy or Policy(),
            version=version,
            service=service or Service(),
            unplannable=unplannable or {},
            experience=experience,
        )
        seen = seen_on_host(inputs, experience.said, experience.observed)
        chosen = _chosen(replace(inputs, observed=seen.observed))
        if seen.observed and not is_safe_by_the_rules(chosen, inputs):
            # What a server prints makes nothing safe.
            chosen = _chosen(inputs)
        lesson = lesson_of(chosen, gpu, experience.measured)
        if lesson.inputs is not None:
            chosen = _chosen(lesson.inputs)
        shown = described(chosen)
        next_steps = [
            lesson.of_next_step(step)
            for step in limits_of(chosen.judge, chosen.goal, chosen.choice, chosen.inputs.others)
        ]
        # What was observed goes before the rules in the plan alone.
        engine = None if chosen.inputs.observed else chosen.judge.simulation.engine
        today = today_of(chosen.inputs, experience.said, engine)
        return _in_words(chosen, lesson, shown, next_steps, experience.loaded, seen, today)


def _chosen(inputs: Inputs) -> Chosen:
    return chosen_for(inputs, goal_for(inputs), judge_for(inputs))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's collector of cycles: planning makes none, and is up to a third faster where it is not looked for them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _in_words(
    chosen: Chosen,
    lesson: Lesson,
    shown: Described,
    next_steps: Sequence[Limit],
    now_loaded: Mapping[str, int],
    seen: SeenOnHost,
    today: Today | None,
) -> Plan:
    inputs, candidate, ends = chosen.inputs, chosen.choice.candidate, both_ends(chosen)
    environment = _environment(chosen)
    others = [PlannedModel(name=model.name, planned=False) for model in inputs.others]
    return Plan(
        environment=environment,
        safe=not chosen.unsafe,
        basis=_basis(inputs, {model.basis for model in shown.models}),
        placement="gpu" if inputs.host.gpus else "cpu",
        version=str(inputs.rules.version),
        rules=inputs.rules.name,
        num_parallel=candidate.parallel,
        max_loaded_models=_most_loaded(chosen),
        context_length=candidate.context_length,
        kv_cache_type=candidate.kv_cache_type,
        spread=candidate.spread,
        load_order=shown.order if chosen.goal.wanted else (),
        order_matters=bool(chosen.choice.order),
        models=(*shown.models, *others),
        gpus=shown.gpus,
        limits=tuple(next_steps),
        reasons=_reasons(chosen, lesson, next_steps, ends),
        warnings=(*_warnings(chosen, lesson, shown, environment, now_loaded), *seen.warnings),
        dropped_gpus=inputs.host.dropped,
        seen=seen.rows,
        observed=seen.observed,
        history=seen.history,
        evidence=seen.evidence,
        today=today,
        difference=differences(today, chosen, sum(gpu.planned_bytes for gpu in shown.gpus), ends),
    )


# The first reasons are those of the values themselves.
_OF_VALUES = 3


def _basis(inputs: Inputs, bases: Collection[str]) -> str:
    """'exact' where every figure is; 'observed' where what loads took goes before the rules."""
    by_numbers = set(inputs.by_numbers) & set(inputs.names)
    if "estimate" in bases or by_numbers or inputs.estimated:
        return "estimate"
    return OBSERVED if OBSERVED in bases else "exact"


def _most_loaded(chosen: Chosen) -> int:
    return chosen.inputs.policy.max_loaded_models or chosen.choice.loaded


def _environment(chosen: Chosen) -> dict[str, str]:
    """The variables that the server is to be given, by name."""
    environment = {
        **chosen.inputs.explicit,
        **chosen.choice.candidate.environment(_most_loaded(chosen)),
        **chosen.inputs.host.environment,
        **chosen.inputs.policy.operator_environment,
    }
    return dict(sorted(environment.items()))


def _reasons(chosen: Chosen, lesson: Lesson, next_steps: Sequence[Limit], ends: str) -> tuple[str, ...]:
    """The reasons; that of the parallel value, which is the first, is the benchmark's where it has decided."""
    reasons = reasons_for(chosen, next_steps)
    if ends:
        choice = slots_or_context(ends)
        reasons = (*reasons[:_OF_VALUES], f"{choice[0].upper()}{choice[1:]}.", *reasons[_OF_VALUES:])
    measured = lesson.reason_of(chosen.choice.candidate.parallel)
    return (*([measured, *reasons[1:]] if measured else reasons), *lesson.notes)


def _warnings(
    chosen: Chosen,
    lesson: Lesson,
    shown: Described,
    environment: Mapping[str, str],
    now_loaded: Mapping[str, int],
) -> tuple[str, ...]:
    """What the operator should know, each sentence once."""
    inputs, goal = chosen.inputs, chosen.goal
    warnings = [
        *inputs.warnings,
        *chosen.warnings,
        *lesson.warnings,
        *plan_warnings(chosen, shown.models),
        *projector_warnings(chosen),
    ]
    for demand in inputs.demands:
        warnings += model_warnings(demand, chosen.choice.candidate, inputs.rules, inputs.policy.requests)
    warnings += client_warnings(shown.models, now_loaded, inputs.running_context_length)
    warnings += blob_warnings(goal.models, chosen.choice.candidate)
    warnings += service_warnings(
        environment,
        inputs.settings,
        inputs.service.foreign,
        keeps_models=goal.wanted,
        places=inputs.service.places,
    )
    return tuple(dict.fromkeys(warnings))
