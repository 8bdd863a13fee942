# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is made from, read out of facts, descriptions and an operator's wishes, and checked."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._from_numbers import (
    header_from_numbers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import with_side_files
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    MAX_NAME_CHARACTERS,
    same_model,
    short_name,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import PLANNED_VARIABLES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import (
    Host,
    host_from_facts,
    usable_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    QUANTISED_TYPES,
    Policy,
    WantedModel,
    policy_from_dict,
    unknown_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said, holding_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import Observed
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._variables import (
    estimated_by,
    misread,
    without_effect,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    ServerSettings,
    settings_from_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import (
    NEWEST_KNOWN,
    VersionRules,
    rules,
)

# The values of a policy that an operator may also give as a setting of the service.
_POLICY_OF_VARIABLE = {
    "OLLAMA_NUM_PARALLEL": "num_parallel",
    "OLLAMA_MAX_LOADED_MODELS": "max_loaded_models",
    "OLLAMA_CONTEXT_LENGTH": "context_length",
}
# Source: ollama envconfig/config.go (ContextLength, MaxRunners, NumParallel, Uint), v0.24.0 and v0.33.0-rc2.
_LEFT_TO_OLLAMA = ("", "0")
# Planning takes half a minute for a thousand models on 8 GPUs.
MAX_MODELS = 256


@dataclass(frozen=True)
class Demand:
    """A model with what is asked of it; None where nothing was."""

    model: SchedulerModel
    wanted: WantedModel | None = None


@dataclass(frozen=True)
class Experience:
    """What has become of models on the host, as far as is known.

    `loaded`: context lengths of the models that are loaded at the moment, by name. `said`: what the running server said of
    itself. `observed`: loads of former starts that took more than foretold. `measured`: the result of a benchmark, empty
    where there is none.
    """

    loaded: Mapping[str, int] = field(default_factory=dict)
    said: Said = field(default_factory=Said)
    observed: Sequence[Observed] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """All that a plan is made from.

    `demands`: the models to plan for. `others`: models that are installed besides. `environment`: what the
    service will have besides the plan's own settings. `explicit`: variables that the plan always sets, with
    the value that stands for Ollama's default. `by_numbers`: the models whose weights are not known exactly.
    `observed`: by how much loads took more than foretold.
    `runner_overhead_bytes`: what each runner was measured to take of a GPU besides its buffers; None: the usual
    allowance. `estimated_by`: variables of the engine for which no plan can be exact, a sentence each.
    """

    host: Host
    policy: Policy
    rules: VersionRules
    demands: tuple[Demand, ...]
    others: tuple[SchedulerModel, ...]
    service: Service
    environment: Mapping[str, str]
    explicit: Mapping[str, str]
    warnings: tuple[str, ...]
    by_numbers: tuple[str, ...] = ()
    runner_overhead_bytes: int | None = None
    estimated_by: tuple[str, ...] = ()
    observed: tuple[Observed, ...] = ()

    @property
    def estimated(self) -> tuple[str, ...]:
        """Why the plan cannot be exact, whatever its models are."""
        return (*self.host.estimated, *self.estimated_by)

    @property
    def settings(self) -> ServerSettings:
        """The service's other settings as Ollama parses them."""
        return settings_from_environment(self.environment)

    @property
    def automatic_context_length(self) -> int:
        """The context length that Ollama takes for this host where nothing sets one."""
        overhead = self.settings.gpu_overhead_bytes
        return self.rules.default_context_length(
            sum(max(usable_bytes(gpu) - overhead, 0) for gpu in self.host.gpus)
        )

    @property
    def running_context_length(self) -> int:
        """The context length that the service, as it runs, gives a request which asks for none."""
        running = settings_from_environment(self.service.running)
        return running.context_length or self.automatic_context_length

    @property
    def names(self) -> tuple[str, ...]:
        """The models to plan for."""
        return tuple(demand.model.name for demand in self.demands)

    def without(self, names: Container[str]) -> Inputs:
        """The same without some of the models to plan for."""
        left_out = tuple(demand.model for demand in self.demands if demand.model.name in names)
        return replace(
            self,
            demands=tuple(demand for demand in self.demands if demand.model.name not in names),
            others=(*self.others, *left_out),
        )


def read_inputs(
    *,
    gpu: Any,
    models: Sequence[Any],
    wanted: Sequence[WantedModel],
    policy: Policy,
    version: str | None,
    service: Service,
    unplannable: Mapping[str, str],
    experience: Experience | None = None,
) -> Inputs:
    """The inputs of a plan, checked against each other.

    `experience`: of it what is loaded and what the running server said of its GPUs counts here.

    Raises: ValueError in one sentence that says what is wrong and what to do.
    """
    policy, experience = _with_operators_values(policy), experience or Experience()
    warnings: list[str] = []
    if version is not None and not isinstance(version, str):
        raise ValueError(f"the version of Ollama is {version!r:.80}, expected a text like 0.33.0")
    if not version:
        version = ".".join(str(number) for number in (*NEWEST_KNOWN, 0))
        warnings.append(f"the version of Ollama is not known: planned by the rules of {version}")
    version_rules = rules(version)
    explicit = _explicit(service)
    environment = {
        **{name: value for name, value in service.foreign.items() if name not in PLANNED_VARIABLES},
        **{name: value for name, value in explicit.items() if name not in PLANNED_VARIABLES},
        **policy.operator_environment,
    }
    host = host_from_facts(
        gpu,
        on_gpu_fault=policy.on_gpu_fault,
        environment=environment,
        managed_environment=service.managed,
        rules=version_rules,
        said=holding_for(experience.said, version, environment),
    )
    models, left_out = _kept(models, [*(wish.name for wish in wanted), *experience.loaded])
    if left_out:
        warnings.append(
            f"{left_out} of {len(models) + left_out} installed models are left out: at most {MAX_MODELS} are planned, those "
            "that are wanted or loaded before others, then by name; where one of them is asked for, the plan does not hold"
        )
    installed = read_models(models)
    demands = _demands(installed, wanted, unplannable)
    warnings += [
        f"{name} is left out of the plan: {reason.removeprefix(f'model {name}: ')}"
        for name, reason in unplannable.items()
    ]
    planned = {demand.model.name for demand in demands}
    by_numbers = tuple(name for name in _by_numbers(models) if name in planned)
    libraries = {host.library_of(device) for device in host.gpus}
    changed_by = estimated_by(environment, version_rules, libraries, service)
    warnings += [
        *changed_by,
        *without_effect(environment, version_rules, libraries, service),
        *misread(service, policy.operator_environment, version),
    ]
    return Inputs(
        host=host,
        policy=policy,
        rules=version_rules,
        demands=demands,
        others=tuple(model for model in installed if model.name not in planned),
        service=service,
        environment=environment,
        explicit=explicit,
        by_numbers=by_numbers,
        estimated_by=changed_by,
        warnings=(*warnings, *version_rules.warnings, *host.warnings, *map(_by_numbers_warning, by_numbers)),
    )


def read_models(models: Sequence[Any]) -> tuple[SchedulerModel, ...]:
    """The models that facts or descriptions stand for; a later one of the same name replaces an earlier one.

    Raises: ValueError that names the model and what is wrong with it.
    """
    read = {shape.name: shape for shape in map(_shape, models)}
    return tuple(scheduler_model(with_side_files(shape)) for shape in read.values())


def _kept(models: Sequence[Any], first: Sequence[str]) -> tuple[Sequence[Any], int]:
    """The models that are planned, and how many are not: of too many those named first, then the others by name."""
    if len(models) <= MAX_MODELS:
        return models, 0
    ranks: dict[str, int] = {}
    for name in first:
        ranks.setdefault(short_name(name).lower(), len(ranks))

    def place(model: Any) -> tuple[int, str]:
        name = short_name(str(model.get("name"))).lower() if isinstance(model, Mapping) else ""
        return ranks.get(name, len(ranks)), name

    return sorted(models, key=place)[:MAX_MODELS], len(models) - MAX_MODELS


def _shape(model: Any) -> ModelShape:
    if not isinstance(model, Mapping):
        raise ValueError(f"a model must be a mapping with a name, found {model!r:.80}")
    name = model.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a model needs a name, found {dict(model)!r:.80}")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(
            f"a model has a name of {len(name)} characters, at most {MAX_NAME_CHARACTERS} are taken: {name:.80}"
        )
    try:
        if "layers" in model:
            return ModelShape.from_dict(model)
        if "numbers" in model:
            header = header_from_numbers(model["numbers"])
            return shape_from_header(header, **_described(model, "numbers"))
        return shape_from_header(model.get("header", {}), **_described(model, "header"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"model '{name}' cannot be planned: {error}") from error


def _by_numbers_warning(name: str) -> str:
    return f"{name} is described by its numbers: its weights are near the truth and not exact"


def _by_numbers(models: Sequence[Any]) -> list[str]:
    """Names of the models that are described by architecture numbers."""
    return [short_name(model["name"]) for model in models if "numbers" in model and "layers" not in model]


def _described(model: Mapping[str, Any], form: str) -> dict[str, Any]:
    """What a description gives beside the header or the numbers."""
    return {**{key: value for key, value in model.items() if key != form}, "name": short_name(model["name"])}


def _demands(
    installed: Sequence[SchedulerModel], wanted: Sequence[WantedModel], unplannable: Mapping[str, str]
) -> tuple[Demand, ...]:
    if not wanted:
        return tuple(Demand(model) for model in installed)
    demands = []
    for wish in wanted:
        model = next((model for model in installed if same_model(model.name, wish.name)), None)
        reason = next((why for name, why in unplannable.items() if same_model(name, wish.name)), None)
        if model is None and reason is not None:
            raise ValueError(f"model '{wish.name}' is wanted but cannot be planned: {reason}")
        if model is None:
            raise ValueError(unknown_model(wish.name, [model.name for model in installed]))
        demands.append(Demand(model, wish))
    return tuple(demands)


def unplannable_from_list(items: Any) -> dict[str, str]:
    """Why installed models cannot be planned, by name, as `ollama_model_info` lists it.

    Raises: ValueError when it is no list of mappings with name and reason.
    """
    try:
        return {str(item["name"]): str(item["reason"]) for item in items}
    except (TypeError, KeyError):
        raise ValueError(
            f"unplannable must be a list of mappings with name and reason, found {items!r:.80}"
        ) from None


def loaded_from_list(items: Any) -> dict[str, int]:
    """The context lengths of the models that are loaded, by name, as `ollama_model_info` lists them.

    Raises: ValueError when it is no list of mappings with name and context_length.
    """
    try:
        return {short_name(str(item["name"])): int(item["context_length"] or 0) for item in items}
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ValueError(
            f"loaded must be a list of mappings with name and context_length, found {items!r:.80}"
        ) from None


def _with_operators_values(policy: Policy) -> Policy:
    """The policy with what the operator decided through settings of the service."""
    given = policy.operator_environment
    values: dict[str, Any] = {}
    for variable, name in _POLICY_OF_VARIABLE.items():
        if variable not in given:
            continue
        own = getattr(policy, name)
        if own is not None and str(own) != given[variable]:
            raise ValueError(
                f"{name} is {own}, but operator_environment sets {variable} to {given[variable]}; set one of them"
            )
        if given[variable].strip() in _LEFT_TO_OLLAMA:
            raise ValueError(
                f"operator_environment sets {variable} to '{given[variable]}', which leaves the choice to Ollama; remove it "
                "there, and the plan chooses"
            )
        try:
            values[name] = int(given[variable])
        except ValueError:
            raise ValueError(
                f"operator_environment sets {variable} to '{given[variable]}', expected a whole number"
            ) from None
    if "OLLAMA_KV_CACHE_TYPE" in given:
        values["kv_cache_types"] = (given["OLLAMA_KV_CACHE_TYPE"],)
    if settings_from_environment(given).flash_attention is False:
        values["kv_cache_types"] = _without_flash(values.get("kv_cache_types", policy.kv_cache_types))
    if "OLLAMA_SCHED_SPREAD" in given:
        values["spread"] = "always" if settings_from_environment(given).spread else "never"
    plain = {name: getattr(policy, name) for name in Policy.__dataclass_fields__}
    return policy_from_dict({**plain, **values}) if values else policy


def _without_flash(kv_cache_types: Sequence[str]) -> tuple[str, ...]:
    """The types that are possible without flash attention; up to 0.24 Ollama ignores others, from 0.30 on no model loads.

    Raises: ValueError where none is.
    """
    left = tuple(one for one in kv_cache_types if one not in QUANTISED_TYPES)
    if not left:
        raise ValueError(
            f"operator_environment turns OLLAMA_FLASH_ATTENTION off, without which no KV cache is kept in {kv_cache_types[0]}: "
            "set it to 1, or let the KV cache be f16"
        )
    return left


def _explicit(service: Service) -> dict[str, str]:
    """Variables that the plan sets even to Ollama's default, because something sets them now.

    They stay once they are set: leaving them out again would bring back what another file says.
    """
    explicit = {
        name: default
        for name, default in (("OLLAMA_KV_CACHE_TYPE", "f16"), ("OLLAMA_SCHED_SPREAD", "0"))
        if name in service.managed or name in service.foreign
    }
    if service.managed.get("OLLAMA_FLASH_ATTENTION") == "1":
        explicit["OLLAMA_FLASH_ATTENTION"] = "1"
    return explicit
