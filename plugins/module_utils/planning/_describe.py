# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a choice of settings means for each model and each GPU, in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import side_files_note
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import (
    Host,
    available_bytes,
    total_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import (
    GpuShare,
    PlannedGpu,
    PlannedModel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import LoadOutcome, Server


@dataclass(frozen=True)
class Described:
    """The models of a choice in the order in which to load them, and what each takes; the GPUs with what lies there."""

    order: tuple[str, ...]
    models: tuple[PlannedModel, ...]
    gpus: tuple[PlannedGpu, ...]


def described(chosen: Chosen) -> Described:
    """What a choice means: of wanted models all together, else of each alone.

    Then any of them may be loaded, so the GPUs are shown with those that take most.
    """
    judge, goal, choice = chosen.judge, chosen.goal, chosen.choice
    order = _order(chosen)
    if goal.wanted:
        models, server = loaded_in_order(judge, order, choice.candidate)
    else:
        models = each_alone(judge, judge.load_order(goal.models, choice.candidate), choice.candidate)
        _largest, server = loaded_in_order(judge, order[: choice.loaded], choice.candidate)
    return Described(tuple(model.name for model in order), models, planned_gpus(judge, server))


def _order(chosen: Chosen) -> tuple[SchedulerModel, ...]:
    """The models in the order in which to load them."""
    models = chosen.judge.load_order(chosen.goal.models, chosen.choice.candidate)
    if not chosen.choice.order:
        return models
    by_name = {model.name: model for model in models}
    return tuple(by_name[name] for name in chosen.choice.order)


def loaded_in_order(
    judge: Judge, order: Sequence[SchedulerModel], candidate: Candidate
) -> tuple[tuple[PlannedModel, ...], Server]:
    """The models as they lie when they are loaded in this order, and the server with all of them."""
    server = judge.simulation.telling_server(candidate)
    planned: dict[str, PlannedModel] = {}
    for model in order:
        server, outcome = server.load(model)
        for name in outcome.evicted:
            planned[name] = replace(planned[name], evicted_by=model.name)
        planned[model.name] = _planned(judge.host, model, outcome)
    return tuple(planned.values()), server


def each_alone(
    judge: Judge, models: Sequence[SchedulerModel], candidate: Candidate
) -> tuple[PlannedModel, ...]:
    """The models as each lies when nothing else is loaded."""
    return tuple(one for model in models for one in loaded_in_order(judge, (model,), candidate)[0])


def planned_gpus(judge: Judge, server: Server) -> tuple[PlannedGpu, ...]:
    """The GPUs with what the server has loaded on them."""
    return tuple(
        PlannedGpu(
            index=gpu.index,
            uuid=gpu.uuid,
            pci_bus_id=gpu.pci_bus_id,
            name=gpu.name,
            total_bytes=total_bytes(gpu),
            others_bytes=total_bytes(gpu) - available_bytes(gpu),
            planned_bytes=available_bytes(gpu) - free,
            free_bytes=free,
            engine_margin_bytes=server.margin_bytes,
            headroom_bytes=judge.simulation.headroom_bytes,
            pool_bytes=sum(runner.memory.gpus[position].pool_bytes for runner in server.runners),
            **_parts([runner.memory.gpus[position] for runner in server.runners]),
        )
        for position, (gpu, free) in enumerate(zip(judge.host.gpus, server.free_bytes()))
    )


def _planned(host: Host, model: SchedulerModel, outcome: LoadOutcome) -> PlannedModel:
    if outcome.failure or model.shape is None:
        return PlannedModel(name=model.name, planned=True, note=outcome.failure)
    memory, side_files = outcome.memory, side_files_note(model.shape)
    return PlannedModel(
        name=model.name,
        planned=True,
        context_length=outcome.context_length,
        num_parallel=outcome.parallel,
        batch=outcome.batch,
        predicted_bytes=outcome.predicted_bytes,
        system_memory_bytes=memory.host.total_bytes,
        system_memory_layers=memory.host.layers,
        basis="estimate" if side_files else memory.basis,
        note="; ".join(filter(None, (memory.note, side_files))),
        gpus=tuple(_share(gpu, here) for gpu, here in zip(host.gpus, memory.gpus) if here.total_bytes),
    )


def _share(gpu: GpuDevice, memory: GpuMemory) -> GpuShare:
    return GpuShare(
        index=gpu.index,
        uuid=gpu.uuid,
        layers=memory.layers,
        pool_bytes=memory.pool_bytes,
        **_parts([memory]),
    )


def _parts(held: Sequence[GpuMemory]) -> dict[str, int]:
    """The parts of a GPU's memory, of all models on it together."""
    return {
        "weights_bytes": sum(one.weights_bytes for one in held),
        "kv_cache_bytes": sum(one.kv_cache.total_bytes for one in held),
        "compute_bytes": sum(one.compute_bytes for one in held),
        "projector_bytes": sum(one.projector_bytes for one in held),
        "projector_compute_bytes": sum(one.projector_compute_bytes for one in held),
        "cuda_context_bytes": sum(one.cuda_context_bytes for one in held),
    }
