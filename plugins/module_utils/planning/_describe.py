# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a choice of settings means for each model and each GPU, in bytes."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    DeviceMemory,
    MemoryEstimate,
    estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import side_files_note
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Setting
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import Host, available_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import (
    GpuShare,
    PlannedGpu,
    PlannedModel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import LoadOutcome, Server


def loaded_in_order(
    judge: Judge, order: Sequence[SchedulerModel], setting: Setting
) -> tuple[tuple[PlannedModel, ...], Server]:
    """The models as they lie when they are loaded in this order, and the server with all of them."""
    server = judge.server(setting)
    planned = []
    for model in order:
        after, outcome = server.load(model)
        planned.append(_planned(judge, model, server, outcome))
        server = after
    return tuple(planned), server


def each_alone(judge: Judge, models: Sequence[SchedulerModel], setting: Setting) -> tuple[PlannedModel, ...]:
    """The models as each lies when nothing else is loaded."""
    return tuple(loaded_in_order(judge, (model,), setting)[0][0] for model in models)


def planned_gpus(judge: Judge, server: Server) -> tuple[PlannedGpu, ...]:
    """The GPUs with what the server has loaded on them."""
    host: Host = judge.host
    return tuple(
        PlannedGpu(
            index=gpu.index,
            uuid=gpu.uuid,
            name=gpu.name,
            total_bytes=gpu.memory_total_bytes or 0,
            others_bytes=(gpu.memory_total_bytes or 0) - available_bytes(gpu),
            planned_bytes=available_bytes(gpu) - free,
            free_bytes=free,
            engine_margin_bytes=server.margin_bytes,
            headroom_bytes=judge.simulation.headroom_bytes,
        )
        for gpu, free in zip(host.gpus, server.free_bytes())
    )


def _planned(judge: Judge, model: SchedulerModel, before: Server, outcome: LoadOutcome) -> PlannedModel:
    if outcome.failure or model.shape is None:
        return PlannedModel(name=model.name, planned=True, note=outcome.failure)
    used = [position for position, size_bytes in enumerate(outcome.gpu_bytes) if size_bytes]
    settings = before.load_settings(outcome.context_length, outcome.parallel, outcome.batch, used)
    alone = estimate(model.shape, settings, version=judge.simulation.version)
    memories: Sequence[MemoryEstimate | DeviceMemory] = (alone,)
    if outcome.split:
        free = [max(before.free_bytes()[position] - before.cuda_context_bytes, 0) for position in used]
        memories = split(model.shape, settings, free, version=judge.simulation.version)
    side_files = side_files_note(model.shape)
    return PlannedModel(
        name=model.name,
        planned=True,
        context_length=outcome.context_length,
        num_parallel=outcome.parallel,
        batch=outcome.batch,
        predicted_bytes=outcome.predicted_bytes,
        system_memory_bytes=judge.simulation.system_bytes(model, settings),
        basis="estimate" if side_files else alone.basis,
        note="; ".join(filter(None, (alone.note, side_files))),
        gpus=tuple(
            _share(
                judge.host.gpus[position],
                model.shape,
                memory,
                judge.simulation.runner_overhead_bytes if memory.cuda_context_bytes else 0,
            )
            for position, memory in zip(used, memories)
        ),
    )


def _share(
    gpu: GpuDevice, shape: ModelShape, memory: MemoryEstimate | DeviceMemory, context_bytes: int
) -> GpuShare:
    return GpuShare(
        index=gpu.index,
        uuid=gpu.uuid,
        layers=memory.layers if isinstance(memory, DeviceMemory) else shape.block_count + 1,
        weights_bytes=memory.weights_bytes,
        kv_cache_bytes=memory.kv_cache.total_bytes,
        compute_bytes=memory.compute_bytes,
        projector_bytes=memory.projector_bytes,
        projector_compute_bytes=memory.projector_compute_bytes,
        cuda_context_bytes=context_bytes,
    )
