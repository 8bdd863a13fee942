# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a host: the settings, what they rest on, and why they are what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import DroppedGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import (
    History,
    Observed,
    SeenLoad,
)


@dataclass(frozen=True)
class Parts:
    """What models take of one GPU, part by part. Sizes in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    projector_bytes: int
    projector_compute_bytes: int
    cuda_context_bytes: int

    @property
    def parts_bytes(self) -> int:
        """All of it."""
        return (
            self.weights_bytes
            + self.kv_cache_bytes
            + self.compute_bytes
            + self.projector_bytes
            + self.projector_compute_bytes
            + self.cuda_context_bytes
        )


@dataclass(frozen=True)
class GpuShare(Parts):
    """What one model takes of one GPU; `layers` counts the output layer too.

    `pool_bytes`: what it takes beside that while it computes, once every context is full.
    """

    index: int
    uuid: str
    layers: int
    pool_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.parts_bytes


@dataclass(frozen=True)
class PlannedModel:
    """One model as the plan sees it; `planned` is False where the plan does not count on it.

    `system_memory_layers`: layers that the CPU computes. `evicted_by`: the model for which this one is unloaded, where
    the plan is not safe; it then takes nothing any more of what is planned on the GPUs.
    """

    name: str
    planned: bool
    context_length: int = 0
    num_parallel: int = 0
    batch: int = 0
    predicted_bytes: int = 0
    system_memory_bytes: int = 0
    system_memory_layers: int = 0
    evicted_by: str = ""
    basis: str = ""
    note: str = ""
    gpus: tuple[GpuShare, ...] = ()


@dataclass(frozen=True)
class PlannedGpu(Parts):
    """One GPU with all that is planned on it. Sizes in bytes.

    total = others + planned + free; the parts are those of all models that are loaded at once, and add up to planned.
    `free_bytes` is at least `engine_margin_bytes` + `headroom_bytes` where the plan is safe and a model lies on the GPU.
    `pool_bytes`: what of the free memory the models take while they compute, once every context is full.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    others_bytes: int
    planned_bytes: int
    free_bytes: int
    engine_margin_bytes: int
    headroom_bytes: int
    pci_bus_id: str = ""
    pool_bytes: int = 0


@dataclass(frozen=True)
class Limit:
    """The next step up of one value: whether it is possible, what it costs, and why it was not taken.

    `cost_bytes`: GPU memory (system memory on a host without GPU), None where the step cannot be computed.
    """

    step: str
    value: int
    possible: bool
    cost_bytes: int | None
    reason: str


@dataclass(frozen=True)
class Eviction:
    """A model that has to go for another one, where all are asked for in turn."""

    model: str
    for_model: str


@dataclass(frozen=True)
class Today:
    """What the settings that run now do. Sizes in bytes, context in tokens per request.

    together: how many of the models, whichever they are, are safe together; 0 where not each is safe alone. gpu_bytes: what
    all models take of the GPUs that stay loaded when they are asked for in turn.
    """

    num_parallel: int
    max_loaded_models: int
    context_length: int
    kv_cache_type: str
    together: int
    spills: tuple[str, ...]
    evictions: tuple[Eviction, ...]
    gpu_bytes: int
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What an Ollama server is to be given. Sizes in bytes, context lengths in tokens per request."""

    environment: dict[str, str]
    safe: bool
    basis: str
    placement: str
    version: str
    rules: str
    num_parallel: int
    max_loaded_models: int
    context_length: int
    kv_cache_type: str
    spread: bool
    load_order: tuple[str, ...]
    order_matters: bool
    models: tuple[PlannedModel, ...]
    gpus: tuple[PlannedGpu, ...]
    limits: tuple[Limit, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    dropped_gpus: tuple[DroppedGpu, ...] = ()
    seen: tuple[SeenLoad, ...] = ()
    observed: tuple[Observed, ...] = ()
    history: tuple[History, ...] = ()
    evidence: tuple[Mapping[str, Any], ...] = ()
    today: Today | None = None
    difference: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain: dict[str, Any] = _lists(asdict(self))
        for model, planned in zip(plain["models"], self.models):
            for share, gpu in zip(model["gpus"], planned.gpus):
                share["total_bytes"] = gpu.total_bytes
        for row, seen in zip(plain["seen"], self.seen):
            row["difference_bytes"] = seen.difference_bytes
        return plain


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(one) for one in value]
    return value
