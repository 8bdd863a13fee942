# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the GPUs and models of a host and the wishes of its operator to the plan of its Ollama server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._benchmarked import (
    Found,
    with_measured,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen, chosen_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._describe import (
    each_alone,
    loaded_in_order,
    planned_gpus,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import read_inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._next_steps import limits_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import Limit, Plan, PlannedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._reasons import reasons_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._warnings import (
    blob_warnings,
    client_warnings,
    model_warnings,
    plan_warnings,
    service_warnings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel


def plan_host(
    *,
    gpu: Any,
    models: Sequence[Any],
    wanted: Sequence[WantedModel] = (),
    policy: Policy | None = None,
    version: str | None = None,
    service: Service | None = None,
    loaded: Mapping[str, int] | None = None,
    unplannable: Mapping[str, str] | None = None,
    measured: Mapping[str, Any] | None = None,
    use_measured_memory: bool = False,
) -> Plan:
    """The plan for one host.

    `gpu`: facts of gpu_facts, or a description with the same keys. `models`: what ollama_model_info returns, or
    descriptions. `service`: what it runs with now, and who set it. `loaded`: context
    lengths of the models that are loaded at the moment, by name. `unplannable`: why other installed models cannot be
    planned, by name. `measured`: the result of a benchmark of this host.

    Raises: ValueError in one sentence, where the inputs make no sense or nothing can be planned.
    """
    chosen = chosen_for(
        read_inputs(
            gpu=gpu,
            models=models,
            wanted=wanted,
            policy=policy or Policy(),
            version=version,
            service=service or Service(),
            unplannable=unplannable or {},
            loaded=loaded or {},
        )
    )
    return _plan(with_measured(chosen, gpu, measured or {}, use_memory=use_measured_memory), loaded or {})


def _plan(found: Found, now_loaded: Mapping[str, int]) -> Plan:
    chosen = found.chosen
    inputs, judge, goal, choice = chosen.inputs, chosen.judge, chosen.goal, chosen.choice
    setting = choice.setting
    order = _order(chosen)
    if goal.wanted:
        planned, server = loaded_in_order(judge, order, setting)
    else:
        planned = each_alone(judge, judge.load_order(goal.models, setting), setting)
        # Any of them may be loaded, so the GPUs are shown with those that take most.
        _largest, server = loaded_in_order(judge, order[: choice.loaded], setting)
    loaded = inputs.policy.max_loaded_models or choice.loaded
    environment = {
        **inputs.explicit,
        **setting.environment(loaded),
        **inputs.host.environment,
        **inputs.policy.operator_environment,
    }
    limits = limits_of(judge, goal, choice, inputs.others) if goal.models else ()
    bases = {model.basis for model in planned}
    return Plan(
        environment=dict(sorted(environment.items())),
        safe=not chosen.unsafe,
        basis="estimate" if "estimate" in bases or set(inputs.by_numbers) & set(inputs.names) else "exact",
        placement="gpu" if inputs.host.gpus else "cpu",
        version=str(inputs.rules.version),
        num_parallel=setting.parallel,
        max_loaded_models=loaded,
        context_length=setting.context_length,
        kv_cache_type=setting.kv_cache_type,
        spread=setting.spread,
        load_order=tuple(model.name for model in order) if goal.wanted else (),
        order_matters=bool(choice.order),
        models=(*planned, *(PlannedModel(name=model.name, planned=False) for model in inputs.others)),
        gpus=planned_gpus(judge, server),
        limits=limits,
        reasons=_reasons(found, limits),
        warnings=tuple(
            dict.fromkeys(
                [
                    *inputs.warnings,
                    *chosen.warnings,
                    *found.warnings,
                    *plan_warnings(chosen, planned),
                    *(
                        warning
                        for demand in inputs.demands
                        for warning in model_warnings(demand, setting, inputs.rules)
                    ),
                    *client_warnings(planned, now_loaded, inputs.running_context_length),
                    *blob_warnings(goal.models, setting),
                    *service_warnings(
                        environment,
                        inputs.settings,
                        inputs.service.foreign,
                        keeps_models=goal.wanted,
                    ),
                ]
            )
        ),
    )


def _reasons(found: Found, limits: Sequence[Limit]) -> tuple[str, ...]:
    """The reasons; that of the parallel value, which is the first, is the benchmark's where it has decided."""
    reasons = reasons_for(found.chosen, limits)
    return (*([found.reason, *reasons[1:]] if found.reason else reasons), *found.notes)


def _order(chosen: Chosen) -> tuple[SchedulerModel, ...]:
    """The models in the order in which to load them."""
    models = chosen.judge.load_order(chosen.goal.models, chosen.choice.setting)
    if not chosen.choice.order:
        return models
    by_name = {model.name: model for model in models}
    return tuple(by_name[name] for name in chosen.choice.order)
