# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that the engine will allocate for one model at a context length and parallelism.

The rules are those of llama-server as Ollama 0.30 and later start it; docs/arithmetic.md derives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    DEFAULT_BATCH,
    FLASH_ATTENTION,
    KV_CACHE_TYPES,
    LoadSettings,
    Refused,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    ESTIMATE,
    EXACT,
    GpuMemory,
    HostMemory,
    KvCache,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server import _refusals
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    PIPELINE_COPIES,
    Knowledge,
    compute_bytes,
    cpu_compute_bytes,
    devices_compute_bytes,
    host_compute_bytes,
    knowledge,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._draft import (
    with_second_context,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import (
    Attention,
    resolved,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    cells,
    layers_cache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._pool import pool_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._projector import (
    projector_compute,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._split import assigned_units
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import EngineRules

__all__ = (
    "CUDA_CONTEXT_BYTES",
    "DEFAULT_BATCH",
    "FLASH_ATTENTION",
    "KV_CACHE_TYPES",
    "LoadSettings",
    "Refused",
    "estimate",
    "first_context",
    "host_estimate",
    "split",
    "split_computes",
    "whole_compute_bytes",
)

# What a CUDA process holds on a GPU besides its buffers: context, modules, cuBLAS. A bound until measured.
CUDA_CONTEXT_BYTES = 600 * MIB
LOGIT_BYTES = 4
UNMEASURED_NOTE = (
    "this build of the engine was not measured: room is left for changes as large as the largest so far"
)


@dataclass(frozen=True)
class _Load:
    """Settings as the engine resolves them."""

    layout: Cells
    attention: Attention
    settings: LoadSettings

    @property
    def cache_type(self) -> str:
        return self.settings.kv_cache_type


@lru_cache(maxsize=4096)
def _resolved(shape: ModelShape, settings: LoadSettings, *, on_cpu: bool = False) -> _Load:
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch, settings.engine)
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


def _pool_bytes(shape: ModelShape, load: _Load, indices: range, copies: int = 1) -> int:
    settings = load.settings
    return pool_bytes(
        shape,
        load.layout,
        load.attention,
        indices,
        backend=settings.backend,
        engine=settings.engine,
        copies=copies,
    )


def basis_of(
    shape: ModelShape, engine: EngineRules, *, with_projector: bool = True
) -> tuple[str, str]:
    """How far the memory is known, and a note on what is bounded by what."""
    notes = [
        _graph_note(shape),
        projector_compute(shape).note if with_projector else "",
        UNMEASURED_NOTE if engine.allows_for_change else "",
    ]
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


@lru_cache(maxsize=4096)
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


def estimate(shape: ModelShape, settings: LoadSettings) -> ModelMemory:
    """Memory of a model that lies wholly on one GPU, without CUDA context.

    Raises: Refused when the engine cannot start it so.
    """
    return with_second_context(shape, settings, first_context(shape, settings))


@lru_cache(maxsize=4096)
def first_context(shape: ModelShape, settings: LoadSettings) -> ModelMemory:
    """The same without what predicting tokens ahead takes: what the engine fits to the free memory.

    Raises: Refused when the engine cannot start it so.
    """
    load, beside = _resolved(shape, settings), beside_units(shape, settings)
    gpu = replace(
        beside.gpus[0],
        layers=shape.block_count + 1,
        weights_bytes=_weights_bytes(shape, range(shape.block_count + 1)),
        kv_cache=_cache(shape, load, range(shape.block_count)),
        compute_bytes=whole_compute_bytes(shape, settings),
    )
    return replace(beside, gpus=(gpu,))


def whole_compute_bytes(shape: ModelShape, settings: LoadSettings) -> int:
    """The compute buffer of a model that lies wholly on one GPU.

    Raises: Refused when the engine cannot start it so.
    """
    load = _resolved(shape, settings)
    return compute_bytes(shape, load.layout, load.attention, load.cache_type, engine=settings.engine)


@lru_cache(maxsize=4096)
def beside_units(shape: ModelShape, settings: LoadSettings) -> ModelMemory:
    """What a model takes besides its units and their compute buffer, wherever they lie: projector, pools, its host's part.

    Raises: Refused when the engine cannot start it so.
    """
    load = _resolved(shape, settings)
    basis, note = basis_of(shape, settings.engine)
    gpu = GpuMemory(
        projector_bytes=shape.projector_bytes + shape.inline_projector_bytes,
        projector_compute_bytes=projector_compute(shape).most_bytes,
        pool_bytes=_pool_bytes(shape, load, range(shape.block_count)),
    )
    host = HostMemory(
        embeddings_bytes=shape.input_host_bytes,
        compute_bytes=host_compute_bytes(
            shape, load.layout, load.attention, load.cache_type, settings.engine
        ),
        output_bytes=LOGIT_BYTES * shape.vocabulary_size * settings.parallel,
    )
    return ModelMemory((gpu,), host, basis, note)


@lru_cache(maxsize=1024)
def host_estimate(shape: ModelShape, settings: LoadSettings) -> ModelMemory:
    """Memory of a model that lies wholly on the CPU.

    Raises: Refused when the engine cannot start it so.
    """
    load = _resolved(shape, settings, on_cpu=True)
    basis, note = basis_of(shape, settings.engine, with_projector=False)
    host = HostMemory(
        layers=shape.block_count + 1,
        weights_bytes=shape.text_bytes - shape.repacked_bytes,
        kv_cache=_cache(shape, load, range(shape.block_count), on_cpu=True),
        compute_bytes=cpu_compute_bytes(
            shape, load.layout, load.attention, load.cache_type, settings.engine
        ),
        output_bytes=LOGIT_BYTES * shape.vocabulary_size * settings.parallel,
        repacked_bytes=shape.repacked_bytes,
    )
    return ModelMemory((), host, basis, note)


def split_computes(
    shape: ModelShape, settings: LoadSettings, free_bytes: Sequence[int], *, is_pipelined: bool = True
) -> tuple[int, ...]:
    """The compute buffer of each GPU: see split().

    Raises: Refused when the engine cannot start it so.
    """
    load = _resolved(shape, settings)
    units = assigned_units(shape.block_count + 1, free_bytes)
    copies = _input_copies(free_bytes, is_pipelined)
    return devices_compute_bytes(
        shape, load.layout, load.attention, load.cache_type, units, copies, settings.engine
    )


def _input_copies(free_bytes: Sequence[int], is_pipelined: bool) -> int:
    return PIPELINE_COPIES if len(free_bytes) > 1 and is_pipelined else 1


def split(
    shape: ModelShape,
    settings: LoadSettings,
    free_bytes: Sequence[int],
    *,
    is_pipelined: bool = True,
) -> tuple[GpuMemory, ...]:
    """Memory of a model on each of several GPUs, split by layers in proportion to their free memory.

    With two GPUs and more, requests are pipelined: every input is kept four times. Where a buffer for that, on a GPU or
    on the host, cannot be had, the engine does without: is_pipelined is then false.
    Raises: Refused when the engine cannot start it so.
    Source: llama.cpp src/llama-context.cpp, sched_reserve (b10488).
    """
    load = _resolved(shape, settings)
    units = assigned_units(shape.block_count + 1, free_bytes)
    computed = split_computes(shape, settings, free_bytes, is_pipelined=is_pipelined)
    copies = _input_copies(free_bytes, is_pipelined)
    last = shape.block_count
    return tuple(
        GpuMemory(
            layers=len(here),
            weights_bytes=_weights_bytes(shape, here),
            kv_cache=_cache(shape, load, range(here.start, min(here.stop, last))),
            compute_bytes=computed[number],
            projector_bytes=shape.projector_bytes + shape.inline_projector_bytes if not number else 0,
            projector_compute_bytes=projector_compute(shape).most_bytes if not number else 0,
            pool_bytes=_pool_bytes(shape, load, range(here.start, min(here.stop, last)), copies),
        )
        for number, here in enumerate(units)
    )
