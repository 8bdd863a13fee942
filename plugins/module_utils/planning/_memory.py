# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that the engine will allocate for one model at a context length and parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory_kv import (
    Cells,
    KvCache,
    cells,
    layer_cache,
)

MIB = 1024 * 1024
# What a CUDA process holds on a GPU besides its buffers: context, modules, cuBLAS. A bound until it is measured.
CUDA_CONTEXT_BYTES = 600 * MIB
DEFAULT_BATCH = 512
KV_CACHE_TYPES = ("f16", "q8_0", "q4_0")
FLASH_ATTENTION = ("auto", "on", "off")


class Refused(ValueError):
    """The engine would refuse or abort: the message is one sentence that says why."""


@dataclass(frozen=True)
class LoadSettings:
    """How a model is loaded: context_length in tokens per slot, batch in tokens computed at once."""

    context_length: int
    parallel: int
    batch: int = DEFAULT_BATCH
    kv_cache_type: str = "f16"
    flash_attention: str = "auto"

    def __post_init__(self) -> None:
        for key in ("context_length", "parallel", "batch"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, expected at least 1")
        if self.kv_cache_type not in KV_CACHE_TYPES:
            raise ValueError(f"kv_cache_type is {self.kv_cache_type}, expected {', '.join(KV_CACHE_TYPES)}")
        if self.flash_attention not in FLASH_ATTENTION:
            raise ValueError(f"flash_attention is {self.flash_attention}, expected auto, on or off")


@dataclass(frozen=True)
class MemoryEstimate:
    """What one loaded model takes on one GPU and on the host. Sizes in bytes.

    basis: "exact" when the architecture is known, "estimate" (then an upper bound) when it is not.
    """

    weights_bytes: int
    weights_host_bytes: int
    kv_cache: KvCache
    compute_bytes: int
    compute_host_bytes: int
    output_host_bytes: int
    projector_bytes: int
    cuda_context_bytes: int
    basis: str
    note: str = ""

    @property
    def buffers_bytes(self) -> int:
        """Weights, KV cache and compute buffer: what the engine's log lines add up to on the GPU."""
        return self.weights_bytes + self.kv_cache.total_bytes + self.compute_bytes

    @property
    def gpu_total_bytes(self) -> int:
        """All that the model takes on the GPU, projector and CUDA context included."""
        return self.buffers_bytes + self.projector_bytes + self.cuda_context_bytes

    @property
    def host_total_bytes(self) -> int:
        """What the model takes of system memory; weights there are memory-mapped."""
        return self.weights_host_bytes + self.compute_host_bytes + self.output_host_bytes


@dataclass(frozen=True)
class DeviceMemory:
    """What one of several GPUs holds of a model. Sizes in bytes; layers counts the output layer too."""

    layers: int
    weights_bytes: int
    kv_cache: KvCache
    compute_bytes: int
    projector_bytes: int
    cuda_context_bytes: int
    basis: str
    note: str = ""

    @property
    def buffers_bytes(self) -> int:
        """Weights, KV cache and compute buffer."""
        return self.weights_bytes + self.kv_cache.total_bytes + self.compute_bytes

    @property
    def gpu_total_bytes(self) -> int:
        """All that the model takes on this GPU."""
        return self.buffers_bytes + self.projector_bytes + self.cuda_context_bytes


def _flash(shape: ModelShape, settings: LoadSettings) -> bool:
    if settings.flash_attention == "off":
        if settings.kv_cache_type != "f16":
            raise Refused(
                f"a {settings.kv_cache_type} KV cache needs flash attention, which is off: set"
                " OLLAMA_FLASH_ATTENTION=1 or OLLAMA_KV_CACHE_TYPE=f16"
            )
        return False
    return True


def _compute_bytes(shape: ModelShape, layout: Cells, flash: bool, kv_cache_type: str) -> int:
    batch = -(-layout.batch // layout.slots) * layout.slots
    embedding = shape.embedding_length
    mask = (2 if flash else 4) * batch * (layout.full + layout.sliding)
    widest = 0
    for layer in shape.layers:
        heads = layer.head_count * max(layer.key_length, layer.value_length)
        experts = shape.number("expert_used_count") * max(
            shape.number("expert_feed_forward_length"), embedding if shape.number("expert_count") else 0
        )
        state = 0
        if layer.is_recurrent:
            state = 6 * shape.number("ssm.inner_size") + shape.recurrent_state_size * layout.slots // batch
        widest = max(widest, 3 * max(layer.feed_forward_length, experts) + 2 * embedding + heads + state)
        if layer.attention != "none" and not flash:
            count = layout.sliding if layer.attention == "sliding" else layout.full
            widest = max(widest, layer.head_count * count + 2 * embedding + 2 * heads + 2 * layer.key_width)
    copy = 0
    if flash and kv_cache_type != "f16":
        copy = max(
            2
            * layout.slots
            * (layout.sliding if layer.attention == "sliding" else layout.full)
            * (layer.key_width + layer.value_width)
            for layer in shape.layers
        )
    return mask + 4 * batch * widest + copy


@lru_cache(maxsize=4096)
def estimate(shape: ModelShape, settings: LoadSettings, *, version: str = "0.33.0") -> MemoryEstimate:
    """Memory of a model that lies wholly on one GPU.

    Raises: Refused when the engine cannot start it so.
    """
    flash = _flash(shape, settings)
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch)
    kv_cache = KvCache()
    for index in range(shape.block_count):
        kv_cache += layer_cache(shape, index, layout, settings.kv_cache_type, transposed_values=not flash)
    return MemoryEstimate(
        weights_bytes=sum(layer.weights_bytes for layer in shape.layers)
        + shape.first_layer_bytes
        + shape.output_bytes
        + shape.per_device_bytes,
        weights_host_bytes=shape.input_host_bytes,
        kv_cache=kv_cache,
        compute_bytes=_compute_bytes(shape, layout, flash, settings.kv_cache_type),
        compute_host_bytes=8 * layout.batch * shape.embedding_length
        + 4 * layout.batch * (layout.full + layout.sliding),
        output_host_bytes=4 * shape.vocabulary_size * settings.parallel,
        projector_bytes=shape.projector_bytes + shape.inline_projector_bytes,
        cuda_context_bytes=CUDA_CONTEXT_BYTES,
        basis="estimate",
        note="preliminary",
    )


def assigned_layers(block_count: int, free_bytes: Sequence[int]) -> tuple[range, ...]:
    """Which units (layers, and the output as the last) each device gets, by its share of the free memory.

    Source: llama.cpp src/llama-model.cpp, get_layer_buft_list (b10488).
    """
    units = block_count + 1
    total = sum(free_bytes)
    shares = []
    running = 0
    for free in free_bytes:
        running += free
        shares.append(running / total)
    owners = [next(i for i, share in enumerate(shares) if share > unit / units) for unit in range(units)]
    return tuple(
        range(owners.index(device), owners.index(device) + owners.count(device))
        if device in owners
        else range(0)
        for device in range(len(shares))
    )


def split(
    shape: ModelShape, settings: LoadSettings, free_bytes: Sequence[int], *, version: str = "0.33.0"
) -> tuple[DeviceMemory, ...]:
    """Memory of a model on each of several GPUs, split by layers.

    Raises: Refused when the engine cannot start it so.
    """
    flash = _flash(shape, settings)
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch)
    alone = estimate(shape, settings, version=version)
    copies = 0
    if len(free_bytes) > 1:
        masks = (2 if flash else 4) * layout.batch * (layout.full + layout.sliding)
        copies = 3 * masks + 16 * shape.embedding_length * layout.batch
    devices = []
    for units in assigned_layers(shape.block_count, free_bytes):
        kv_cache = KvCache()
        weights = shape.per_device_bytes if units else 0
        for unit in units:
            if unit == shape.block_count:
                weights += shape.output_bytes
                continue
            weights += shape.layers[unit].weights_bytes + (shape.first_layer_bytes if unit == 0 else 0)
            kv_cache += layer_cache(shape, unit, layout, settings.kv_cache_type, transposed_values=not flash)
        devices.append(
            DeviceMemory(
                layers=len(units),
                weights_bytes=weights,
                kv_cache=kv_cache,
                compute_bytes=alone.compute_bytes + copies,
                projector_bytes=alone.projector_bytes if not devices else 0,
                cuda_context_bytes=CUDA_CONTEXT_BYTES,
                basis=alone.basis,
                note=alone.note,
            )
        )
    return tuple(devices)
