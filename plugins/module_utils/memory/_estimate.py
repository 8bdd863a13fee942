# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that the engine will allocate for one model at a context length and parallelism.

The rules are those of llama-server as Ollama 0.30 and later start it; docs/arithmetic.md derives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._cache import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    DEFAULT_BATCH,
    FLASH_ATTENTION,
    KV_CACHE_TYPES,
    LoadSettings,
    Refused,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed import (
    MINIMUM_GPU_BYTES,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._choice import (
    believed_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server import _refusals
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._cells import (
    Cells,
    cells,
    layers_cache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    PIPELINE_COPIES,
    Knowledge,
    compute_bytes,
    cpu_compute_bytes,
    devices_compute_bytes,
    host_compute_bytes,
    knowledge,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import (
    Attention,
    resolved,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._projector import (
    projector_compute,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._split import assigned_units
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._versions import (
    Era,
    Version,
    parse,
    rules,
)

__all__ = (
    "CUDA_CONTEXT_BYTES",
    "DEFAULT_BATCH",
    "FLASH_ATTENTION",
    "KV_CACHE_TYPES",
    "DeviceMemory",
    "LoadSettings",
    "MemoryEstimate",
    "Refused",
    "estimate",
    "host_estimate",
    "split",
)

# What a CUDA process holds on a GPU besides its buffers: context, modules, cuBLAS. A bound until measured.
CUDA_CONTEXT_BYTES = 600 * MIB
LOGIT_BYTES = 4

NO_CACHE = KvCache()
EXACT = "exact"
ESTIMATE = "estimate"


@dataclass(frozen=True)
class MemoryEstimate:
    """What one loaded model takes on one GPU and on the host. Sizes in bytes.

    basis: 'exact' when the architecture's rules are known, 'estimate' when they are not: then an upper bound, and
    `note` says of what. weights_host_bytes are mapped from the file; repacked_bytes are copies beside it, on a CPU.
    kv_cache_host: where the model has no GPU. projector_compute_bytes: with the largest image.
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
    projector_compute_bytes: int = 0
    repacked_bytes: int = 0
    kv_cache_host: KvCache = NO_CACHE

    @property
    def buffers_bytes(self) -> int:
        """Weights, KV cache and compute buffer: what the engine's log lines add up to on the GPU."""
        return self.weights_bytes + self.kv_cache.total_bytes + self.compute_bytes

    @property
    def gpu_total_bytes(self) -> int:
        """All that the model takes on the GPU, projector and CUDA context included."""
        projector_bytes = self.projector_bytes + self.projector_compute_bytes
        return self.buffers_bytes + projector_bytes + self.cuda_context_bytes

    @property
    def host_total_bytes(self) -> int:
        """What the model takes of system memory besides repacked copies; weights there are memory-mapped."""
        return (
            self.weights_host_bytes
            + self.kv_cache_host.total_bytes
            + self.compute_host_bytes
            + self.output_host_bytes
        )


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
    projector_compute_bytes: int = 0

    @property
    def buffers_bytes(self) -> int:
        """Weights, KV cache and compute buffer."""
        return self.weights_bytes + self.kv_cache.total_bytes + self.compute_bytes

    @property
    def gpu_total_bytes(self) -> int:
        """All that the model takes on this GPU."""
        projector_bytes = self.projector_bytes + self.projector_compute_bytes
        return self.buffers_bytes + projector_bytes + self.cuda_context_bytes


@dataclass(frozen=True)
class _Load:
    """Settings as the engine resolves them."""

    layout: Cells
    attention: Attention
    settings: LoadSettings

    @property
    def cache_type(self) -> str:
        return self.settings.kv_cache_type


def _resolved(shape: ModelShape, settings: LoadSettings, *, on_cpu: bool = False) -> _Load:
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch)
    attention = resolved(shape, settings.flash_attention, settings.kv_cache_type, on_cpu=on_cpu)
    _refusals.check(shape, layout, settings, attention)
    return _Load(layout, attention, settings)


def _cache(shape: ModelShape, load: _Load, indices: range, *, on_cpu: bool = False) -> KvCache:
    return layers_cache(
        shape,
        indices,
        load.layout,
        load.settings.kv_cache_type,
        transposed_values=load.attention.transposes_values,
        on_cpu=on_cpu,
    )


def _basis(shape: ModelShape, *, with_projector: bool = True) -> tuple[str, str]:
    """How far the memory is known, and a note on what is bounded by what."""
    notes = [_graph_note(shape), projector_compute(shape).note if with_projector else ""]
    note = "; ".join(one for one in notes if one)
    return (ESTIMATE if note else EXACT), note


def _graph_note(shape: ModelShape) -> str:
    known = knowledge(shape)
    if known is Knowledge.KNOWN:
        return ""
    bound = "that of a common transformer and half as much again"
    if known is Knowledge.NONE:
        bound = "all results of its widest layer thrice"
    return (
        f"the graph of {shape.name} (architecture {shape.architecture}) is not known: its KV cache is counted with full"
        f" attention, its compute buffer as {bound}"
    )


def _weights_bytes(shape: ModelShape, units: range) -> int:
    """Weights on a GPU that holds these units; the output is the last unit."""
    if not units:
        return 0
    total = shape.per_device_bytes + sum(
        layer.weights_bytes for layer in shape.layers[units.start : units.stop]
    )
    if units.start == 0:
        total += shape.first_layer_bytes
    if units.stop > shape.block_count:
        total += shape.output_bytes
    return total


@lru_cache(maxsize=4096)
def estimate(shape: ModelShape, settings: LoadSettings, *, version: str = "") -> MemoryEstimate:
    """Memory of a model that lies wholly on one GPU.

    version: of Ollama; before 0.30 it is what Ollama itself computes, and loads by.
    Raises: Refused when the engine cannot start it so.
    """
    if version and rules(version).era is not Era.LLAMA_SERVER:
        return _believed_estimate(shape, settings, parse(version))
    load = _resolved(shape, settings)
    basis, note = _basis(shape)
    return MemoryEstimate(
        weights_bytes=_weights_bytes(shape, range(shape.block_count + 1)),
        weights_host_bytes=shape.input_host_bytes,
        kv_cache=_cache(shape, load, range(shape.block_count)),
        compute_bytes=compute_bytes(shape, load.layout, load.attention, load.cache_type),
        compute_host_bytes=host_compute_bytes(shape, load.layout, load.attention, load.cache_type),
        output_host_bytes=LOGIT_BYTES * shape.vocabulary_size * settings.parallel,
        projector_bytes=shape.projector_bytes + shape.inline_projector_bytes,
        cuda_context_bytes=CUDA_CONTEXT_BYTES,
        basis=basis,
        note=note,
        projector_compute_bytes=projector_compute(shape).most_bytes,
    )


def _believed_estimate(shape: ModelShape, settings: LoadSettings, version: Version) -> MemoryEstimate:
    """What an Ollama before 0.30 takes a model for on one GPU, the layer that it keeps to spare included."""
    memory = believed_memory(shape, settings, version)
    return MemoryEstimate(
        weights_bytes=sum(memory.layer_weights_bytes) + shape.output_bytes,
        weights_host_bytes=memory.host_bytes,
        kv_cache=memory.kv_cache,
        compute_bytes=memory.graph_bytes + memory.buffer_bytes,
        compute_host_bytes=0,
        output_host_bytes=0,
        projector_bytes=memory.first_gpu_bytes + memory.last_bytes - shape.output_bytes,
        cuda_context_bytes=MINIMUM_GPU_BYTES,
        basis=ESTIMATE,
        note=memory.note,
    )


@lru_cache(maxsize=1024)
def host_estimate(shape: ModelShape, settings: LoadSettings, *, version: str = "") -> MemoryEstimate:
    """Memory of a model that lies wholly on the CPU.

    Raises: Refused when the engine cannot start it so.
    """
    load = _resolved(shape, settings, on_cpu=True)
    basis, note = _basis(shape, with_projector=False)
    return MemoryEstimate(
        weights_bytes=0,
        weights_host_bytes=shape.text_bytes - shape.repacked_bytes,
        kv_cache=KvCache(),
        compute_bytes=0,
        compute_host_bytes=cpu_compute_bytes(shape, load.layout, load.attention, load.cache_type),
        output_host_bytes=LOGIT_BYTES * shape.vocabulary_size * settings.parallel,
        projector_bytes=0,
        cuda_context_bytes=0,
        basis=basis,
        note=note,
        repacked_bytes=shape.repacked_bytes,
        kv_cache_host=_cache(shape, load, range(shape.block_count), on_cpu=True),
    )


def split(
    shape: ModelShape,
    settings: LoadSettings,
    free_bytes: Sequence[int],
    *,
    version: str = "",
    is_pipelined: bool = True,
) -> tuple[DeviceMemory, ...]:
    """Memory of a model on each of several GPUs, split by layers in proportion to their free memory.

    With two GPUs and more, requests are pipelined: every input is kept four times. Where a buffer for that, on a GPU or
    on the host, cannot be had, the engine does without: is_pipelined is then false.
    Raises: Refused when the engine cannot start it so.
    Source: llama.cpp src/llama-context.cpp, sched_reserve (b10488).
    """
    load = _resolved(shape, settings)
    units = assigned_units(shape.block_count + 1, free_bytes)
    copies = PIPELINE_COPIES if len(free_bytes) > 1 and is_pipelined else 1
    return _devices(shape, load, units, copies)


def _devices(shape: ModelShape, load: _Load, units: Sequence[range], copies: int) -> tuple[DeviceMemory, ...]:
    basis, note = _basis(shape)
    last = shape.block_count
    computed = devices_compute_bytes(
        shape, load.layout, load.attention, load.cache_type, tuple(units), copies
    )
    return tuple(
        DeviceMemory(
            layers=len(here),
            weights_bytes=_weights_bytes(shape, here),
            kv_cache=_cache(shape, load, range(here.start, min(here.stop, last))),
            compute_bytes=computed[number],
            projector_bytes=shape.projector_bytes + shape.inline_projector_bytes if not number else 0,
            cuda_context_bytes=CUDA_CONTEXT_BYTES,
            basis=basis,
            note=note,
            projector_compute_bytes=projector_compute(shape).most_bytes if not number else 0,
        )
        for number, here in enumerate(units)
    )
