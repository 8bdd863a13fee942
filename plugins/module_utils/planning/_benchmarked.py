# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark of the host changes in the choice of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import (
    Conditions,
    conditions_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._measured import (
    Measured,
    measured_parallel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen, chosen_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import has_single_slot


@dataclass(frozen=True)
class Found:
    """The choice with regard to a benchmark: why it is as it is, or why the benchmark changes nothing.

    `reason` stands for the reason of the parallel value, where the benchmark has decided it; else empty.
    """

    chosen: Chosen
    reason: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def with_measured(
    chosen: Chosen, facts: Mapping[str, Any], result: Mapping[str, Any], *, use_memory: bool
) -> Found:
    """The choice once more, with no more slots than were measured to be worth having.

    `facts`: the host's gpufleet_gpu. `result`: what a benchmark left, empty where there is none. `use_memory`:
    whether to plan with the memory that runners were measured to take, in place of the allowance for the CUDA
    context. The operator's own parallel value stays.
    """
    if not result:
        return Found(chosen)
    measured = measured_parallel(result, _conditions(chosen, facts))
    if measured.parallel is None:
        return Found(chosen, warnings=(measured.sentence,))
    inputs, policy = chosen.inputs, chosen.inputs.policy
    notes = []
    if use_memory and measured.overhead_bytes is not None:
        inputs = replace(inputs, runner_overhead_bytes=measured.overhead_bytes)
        notes.append(
            f"Each runner is planned with the {measured.overhead_bytes // MIB} MiB of a GPU that it was measured to "
            "take besides its buffers."
        )
    most = max(measured.parallel, policy.min_parallel)
    if policy.num_parallel is not None or most >= max(chosen.goal.parallels):
        again = chosen_for(inputs) if notes else chosen
        return Found(again, notes=(*notes, _agrees(measured)))
    again = chosen_for(replace(inputs, policy=replace(policy, max_parallel=most)))
    return Found(again, _reason(again, measured), tuple(notes))


def _conditions(chosen: Chosen, facts: Mapping[str, Any]) -> Conditions:
    inputs = chosen.inputs
    models = [demand.model for demand in inputs.demands if not has_single_slot(demand.model, inputs.rules)]
    setting = chosen.choice.setting
    return conditions_of(
        facts,
        [{"name": model.name, "digest": model.shape.digest if model.shape else ""} for model in models],
        [model.name for model in models],
        ollama_version=str(inputs.rules.version),
        context_length=setting.context_length,
        kv_cache_type=setting.kv_cache_type,
    )


def _reason(chosen: Chosen, measured: Measured) -> str:
    parallel = chosen.choice.setting.parallel
    if parallel == measured.parallel:
        return f"OLLAMA_NUM_PARALLEL={parallel} is what is worth having, {measured.sentence}."
    return f"OLLAMA_NUM_PARALLEL={parallel} is planned; {measured.parallel} is worth having, {measured.sentence}."


def _agrees(measured: Measured) -> str:
    return f"A benchmark would have up to {measured.parallel} requests at once, {measured.sentence}."
