# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service's other variables do to a plan: which make it an estimate, which nobody reads or takes as meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import (
    READ_BESIDES,
    problems,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import PLANNED_VARIABLES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    settings_from_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_variables import (
    EngineEffect,
    EngineVariable,
    engine_variable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import Era, VersionRules

_OVERHEAD = "OLLAMA_GPU_OVERHEAD"
OPERATORS = "ollama_plan_operator_environment"


def estimated_by(
    environment: Mapping[str, str], rules: VersionRules, libraries: Collection[str], service: Service
) -> tuple[str, ...]:
    """Why a plan cannot be exact: one sentence for each variable of the engine whose effect no plan computes.

    `libraries`: by which the GPUs of the plan compute.
    """
    return tuple(
        f"{_named(name, environment[name], service)} changes {known.changes}: {known.effect.value}"
        for name, known in _read(environment, rules)
        if known.effect is EngineEffect.ESTIMATED and _concerns(known, libraries)
    )


def without_effect(
    environment: Mapping[str, str], rules: VersionRules, libraries: Collection[str], service: Service
) -> tuple[str, ...]:
    """One sentence for each variable that changes nothing here of what it seems to be set for."""
    sentences = []
    if rules.era is Era.LLAMA_SERVER and settings_from_environment(environment).gpu_overhead_bytes >= MIB:
        sentences.append(
            f"{_named(_OVERHEAD, environment[_OVERHEAD], service)} keeps no GPU memory free from Ollama 0.30 on, and only "
            "lowers the context length that Ollama chooses by itself: LLAMA_ARG_FIT_TARGET (MiB) keeps memory free"
        )
    for name, known in _read(environment, rules):
        if known.effect is EngineEffect.COUNTED:
            continue
        named = _named(name, environment[name], service)
        if known.effect is not EngineEffect.ESTIMATED:
            sentences.append(f"{named} is for {known.changes}: {known.effect.value}; remove it")
        elif not _concerns(known, libraries):
            sentences.append(
                f"{named} concerns GPUs that compute by {' or '.join(known.libraries)}, and none is planned with: "
                "it has no effect"
            )
    return tuple(sentences)


def misread(service: Service, operators: Mapping[str, str], version: str) -> tuple[str, ...]:
    """One sentence for each setting, made elsewhere or by the operator, that Ollama ignores or takes for something else.

    A value that the plan replaces by its own does not matter.
    """
    elsewhere = {
        name: value for name, value in service.foreign.items() if name not in {*PLANNED_VARIABLES, *operators}
    }
    return (
        *(f"{_place(name, service)}: {problem}" for name, problem in _problems(elsewhere, version)),
        *(f"{OPERATORS}: {problem}" for _name, problem in _problems(operators, version)),
    )


def _problems(environment: Mapping[str, str], version: str) -> list[tuple[str, str]]:
    return [
        (name, problem)
        for name, value in environment.items()
        for problem in problems({name: value}, version, READ_BESIDES)
    ]


def _read(environment: Mapping[str, str], rules: VersionRules) -> list[tuple[str, EngineVariable]]:
    """The variables of the engine in an environment that this version's engine reads, by name."""
    found = [(name, engine_variable(name)) for name in sorted(environment)]
    return [
        (name, known)
        for name, known in found
        if known and (rules.era is Era.LLAMA_SERVER or not known.of_llama_server)
    ]


def _concerns(known: EngineVariable, libraries: Collection[str]) -> bool:
    return not known.libraries or any(one in libraries for one in known.libraries)


def _named(name: str, value: str, service: Service) -> str:
    place = f" ({service.places[name]})" if name in service.places else ""
    return f"{name}={masked(name, value)}{place}"


def _place(name: str, service: Service) -> str:
    return service.places.get(name, "a setting made elsewhere")
