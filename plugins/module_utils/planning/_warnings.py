# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator should know of a plan: what it cannot see, cannot count, or what works against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._ahead import (
    can_predict_ahead,
    tokens_ahead,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import (
    PLANNED_VARIABLES,
    Candidate,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Demand
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import PlannedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    effective_context,
    has_single_slot,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._placement import takes_projector
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server_settings import (
    FOREVER_SECONDS,
    ServerSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import Era, VersionRules


def model_warnings(demand: Demand, candidate: Candidate, rules: VersionRules, requests: int) -> list[str]:
    """What is special about one planned model; `requests`: how many at once are asked for where it says nothing."""
    model = demand.model
    warnings = _context_warnings(demand, candidate) + _parameter_warnings(model) + _ahead_warnings(model, rules)
    asked = (demand.wanted and demand.wanted.requests) or requests
    if not model.is_embedding and has_single_slot(model, rules) and max(candidate.parallel, asked) > 1:
        warnings.append(single_slot_sentence(model, rules))
    elif demand.wanted and (demand.wanted.requests or 1) > 1 and model.is_embedding:
        warnings.append(
            f"{model.name} is an embedding model: Ollama gives it one slot, {demand.wanted.requests} are asked for"
        )
    return warnings


def single_slot_sentence(model: SchedulerModel, rules: VersionRules) -> str:
    """Why a model answers one request at a time, and what would let it answer more."""
    return (
        f"{model.name} serves one request at a time: Ollama gives its family one slot ({model.family or model.architecture}, "
        f"Ollama {rules.version}), whatever OLLAMA_NUM_PARALLEL says; others wait. For more at once run a second instance of "
        "Ollama with it, or another model"
    )


def _context_warnings(demand: Demand, candidate: Candidate) -> list[str]:
    model, asked = demand.model, demand.wanted.context_length if demand.wanted else None
    warnings = []
    trained = model.context_length_trained
    if model.num_ctx and trained and model.num_ctx > trained:
        warnings.append(
            f"the Modelfile of {model.name} sets num_ctx {model.num_ctx}, beyond the {trained} tokens it was trained for: "
            f"Ollama runs it with {trained}, and it is planned with them"
        )
    elif model.num_ctx and model.num_ctx > candidate.context_length:
        warnings.append(
            f"the Modelfile of {model.name} sets num_ctx {model.num_ctx}, above the planned "
            f"{candidate.context_length}: it is planned with {model.num_ctx}"
        )
    elif model.num_ctx and model.num_ctx < (asked or candidate.context_length):
        warnings.append(
            f"the Modelfile of {model.name} sets num_ctx {model.num_ctx}, which wins over OLLAMA_CONTEXT_LENGTH: "
            f"its requests get {model.num_ctx} tokens"
        )
    if asked and trained and asked > trained:
        warnings.append(
            f"{model.name} was trained for {trained} tokens of context: it does not get the {asked} asked for"
        )
    return warnings


def _parameter_warnings(model: SchedulerModel) -> list[str]:
    warnings = []
    if model.num_batch is not None:
        warnings.append(
            f"the Modelfile of {model.name} sets num_batch {model.num_batch}: it is planned with that batch"
        )
    if model.main_gpu is not None:
        warnings.append(
            f"the Modelfile of {model.name} sets main_gpu {model.main_gpu}: Ollama puts it on that GPU, "
            "whatever is free there; it is planned there"
        )
    if model.num_gpu is not None and 0 <= model.num_gpu < model.block_count + 1:
        warnings.append(
            f"the Modelfile of {model.name} sets num_gpu {model.num_gpu} of {model.block_count + 1} layers: "
            "the others run on the CPU by intent"
        )
    return warnings


def _ahead_warnings(model: SchedulerModel, rules: VersionRules) -> list[str]:
    """A model that can predict tokens ahead and is not planned to, while a client may have it do so."""
    if rules.era is not Era.LLAMA_SERVER or model.shape is None or not can_predict_ahead(model.shape):
        return []
    if tokens_ahead(model.shape):
        return []
    return [
        f"{model.name} has layers that predict tokens ahead (MTP), and its Modelfile does not set draft_num_predict: where a "
        "client sets it, Ollama loads a second context, for which nothing is planned; set it in the Modelfile to have it planned"
    ]


def client_warnings(
    planned: Sequence[PlannedModel], loaded: Mapping[str, int], running_context_length: int
) -> list[str]:
    """Models that are loaded with more context than is planned, and than the service gives by itself."""
    return [
        f"{model.name} is loaded with {loaded[model.name]} tokens of context, above the planned {model.context_length}: a "
        "client asks for them by num_ctx, which wins over OLLAMA_CONTEXT_LENGTH. Each change of num_ctx reloads the model, "
        "and so much of it is not planned for"
        for model in planned
        if loaded.get(model.name, 0) > max(model.context_length, running_context_length)
    ]


def blob_warnings(models: Sequence[SchedulerModel], candidate: Candidate) -> list[str]:
    """Tags of one file: whether they share a runner, and what the first one loaded decides for the others.

    Source: ollama v0.33.0-rc2, server/sched.go (needsReload).
    """
    warnings = []
    for key in dict.fromkeys(model.key for model in models):
        tags = [model for model in models if model.key == key]
        if len(tags) < 2:
            continue
        names = ", ".join(model.name for model in tags)
        differing = _not_shared(tags, candidate)
        warnings.append(
            f"{names} are tags of one file with different {' and '.join(differing)}: one of them is loaded at a time, and "
            "Ollama reloads it whenever another tag is asked for"
            if differing
            else f"{names} are tags of one file: they share one runner and count as one model"
        )
        lasting = [model for model in tags if model.num_gpu is not None and model.num_gpu >= 0]
        following = [model for model in tags if model not in lasting]
        if lasting and following and not differing:
            warnings.append(
                f"the Modelfile of {lasting[0].name} sets num_gpu {lasting[0].num_gpu}: where it is loaded first, its runner "
                f"also serves {', '.join(model.name for model in following)} with as few layers on the GPU; set num_gpu in "
                "all tags of the file, or in none"
            )
    return warnings


def _not_shared(tags: Sequence[SchedulerModel], candidate: Candidate) -> list[str]:
    """In what tags of one file differ so that they do not share a runner."""
    contexts = {effective_context(model, model.num_ctx or candidate.context_length) for model in tags}
    layers = {model.num_gpu for model in tags if model.num_gpu is not None and model.num_gpu >= 0}
    kinds: Mapping[str, set[Any]] = {
        "projector or adapter": {model.side_files for model in tags},
        "num_ctx": contexts,
        "num_batch": {model.num_batch for model in tags},
        "num_gpu": layers,
        "main_gpu": {model.main_gpu for model in tags},
    }
    return [name for name, values in kinds.items() if len(values) > 1]


def service_warnings(
    environment: Mapping[str, str],
    settings: ServerSettings,
    foreign: Mapping[str, str],
    *,
    keeps_models: bool,
    places: Mapping[str, str] | None = None,
) -> list[str]:
    """Settings of the service that work against the plan: `foreign` are those made elsewhere, `places` where."""
    warnings = [
        f"{name}={foreign[name]} is set {_place(name, places or {})}; the plan sets {environment[name]}"
        for name in PLANNED_VARIABLES
        if name in foreign and name in environment and foreign[name] != environment[name]
    ]
    if keeps_models and settings.keep_alive_seconds != FOREVER_SECONDS:
        warnings.append(
            f"idle models are unloaded after {settings.keep_alive_seconds:g} s: set OLLAMA_KEEP_ALIVE=-1 in "
            "ollama_plan_operator_environment to keep the wanted models loaded"
        )
    if not settings.fit:
        warnings.append("LLAMA_ARG_FIT is off: a model that does not fit fails instead of using the CPU")
    return warnings


def _place(name: str, places: Mapping[str, str]) -> str:
    return f"in {places[name]}" if name in places else "elsewhere"


def plan_warnings(chosen: Chosen, planned: Sequence[PlannedModel]) -> list[str]:
    """What is to be said of the plan as a whole."""
    warnings = []
    if chosen.unsafe:
        warnings.append(f"the plan is not safe: {chosen.unsafe}")
    if not chosen.inputs.host.gpus:
        warnings.append(
            "no GPU is planned with: the models run on the CPU, where requests at once share its cores"
        )
    if not chosen.goal.models:
        warnings.append("no model is installed that could be planned for: plan again when there is one")
    host = chosen.inputs.host
    needed = sum(sorted(model.system_memory_bytes for model in planned)[-chosen.choice.loaded :])
    if host.gpus and host.system_memory_total_bytes and needed > host.system_memory_available_bytes:
        warnings.append(
            f"the planned models take {gib(needed)} of system memory besides the GPUs, "
            f"and {gib(host.system_memory_available_bytes)} are available"
        )
    asked, parallel = max(chosen.goal.parallels), chosen.choice.candidate.parallel
    if parallel < asked:
        warnings.append(f"{asked} requests at once are asked for, {parallel} are safe: the others wait")
    warnings += [
        f"the memory of {model.name} is estimated{': ' + model.note if model.note else ''}"
        for model in planned
        if model.basis == "estimate"
    ]
    return warnings


def projector_warnings(chosen: Chosen) -> list[str]:
    """That images are read by the CPU, where the version puts no projector on these GPUs; text is not slowed down."""
    rules = chosen.inputs.rules
    gpus = chosen.judge.simulation.gpus
    seeing = [model.name for model in chosen.goal.models if model.projector_bytes]
    if (
        not seeing
        or not gpus
        or any(takes_projector(gpu, gpu.total_bytes, rules.placement) for gpu in gpus)
    ):
        return []
    return [
        f"{', '.join(seeing)}: images are read by the CPU, since Ollama {rules.version} puts no projector on such a GPU: upgrade "
        "it to 0.31.2 or newer"
    ]
