# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the layers go when the engine starts: the usual split, and what its fit makes of one that does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._cache import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import MemoryEstimate, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import (
    EngineLoad,
    Launch,
    Loadable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._cells import (
    Cells,
    cells,
    layer_cache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import resolved
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._projector import (
    projector_compute,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._split import bounds_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape

# The tensors that fit moves first: the experts' own, not the shared ones.
EXPERT_TENSOR = "_exps"


@dataclass(frozen=True)
class UnitSums:
    """Memory of a model's units (its layers and, last, its output), summed up to each of them."""

    shape: ModelShape
    settings: LoadSettings
    version: str
    weights_bytes: tuple[int, ...]
    full_bytes: tuple[int, ...]
    sliding_bytes: tuple[int, ...]
    recurrent_bytes: tuple[int, ...]
    per_device_bytes: int
    first_only_bytes: int
    streaming_bytes: int

    @property
    def alone(self) -> MemoryEstimate:
        """All of them on one GPU; few of those that lie on several need it."""
        return estimate(self.shape, self.settings, version=self.version)

    @property
    def count(self) -> int:
        return len(self.weights_bytes) - 1

    def weights(self, first: int, last: int) -> int:
        if first == last:
            return 0
        return self.weights_bytes[last] - self.weights_bytes[first] + self.per_device_bytes

    def kv_cache(self, first: int, last: int) -> KvCache:
        return KvCache(
            self.full_bytes[last] - self.full_bytes[first],
            self.sliding_bytes[last] - self.sliding_bytes[first],
            self.recurrent_bytes[last] - self.recurrent_bytes[first],
        )

    def computes_without_pipeline(self, gpu_count: int) -> tuple[int, ...]:
        """Compute buffer of each GPU while the GPUs take turns: the first prepares what others only read.

        Measured: tests/data/engine_memory_multi_gpu.csv, mode `ngl=L-1layer`.
        """
        first = self.alone.compute_bytes
        return (first, *[max(first - self.first_only_bytes, 0)] * (gpu_count - 1))

    def computes_with_cpu(self, gpu_count: int) -> tuple[int, ...]:
        """Compute buffer of each GPU while layers lie on the CPU: the first GPU computes those too."""
        computes = self.computes_without_pipeline(gpu_count)
        return (max(computes[0], self.streaming_bytes), *computes[1:])

    def total(self, first: int, last: int, compute_bytes: int) -> int:
        """Bytes of the units from `first` up to but without `last` on one GPU."""
        if first == last:
            return 0
        return self.weights(first, last) + self.kv_cache(first, last).total_bytes + compute_bytes


def unit_sums(shape: ModelShape, settings: LoadSettings, version: str) -> UnitSums:
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch)
    attention = resolved(shape, settings.flash_attention, settings.kv_cache_type)
    caches = [
        layer_cache(
            shape, index, layout, settings.kv_cache_type, transposed_values=attention.transposes_values
        )
        for index in range(shape.block_count)
    ]
    caches.append(KvCache())
    weights = [layer.weights_bytes for layer in shape.layers]
    weights[0] += shape.first_layer_bytes
    weights.append(shape.output_bytes)
    return UnitSums(
        shape=shape,
        settings=settings,
        version=version,
        weights_bytes=(0, *accumulate(weights)),
        full_bytes=(0, *accumulate(cache.full_attention_bytes for cache in caches)),
        sliding_bytes=(0, *accumulate(cache.sliding_window_bytes for cache in caches)),
        recurrent_bytes=(0, *accumulate(cache.recurrent_bytes for cache in caches)),
        per_device_bytes=shape.per_device_bytes,
        first_only_bytes=_first_only_bytes(shape, layout.batch),
        streaming_bytes=_streaming_bytes(shape, layout, max(cache.total_bytes for cache in caches)),
    )


def _streaming_bytes(shape: ModelShape, layout: Cells, layer_cache_bytes: int) -> int:
    """What the first GPU needs to compute a layer that lies on the CPU with a large cache.

    The layer's cache is copied there, but for llama by half once more, beside the mask and three rows of
    queries: fitted to the buffers that spilled loads logged (tests/data/ollama_scheduler.jsonl).
    """
    queries = max(layer.head_count * layer.key_length for layer in shape.layers)
    mask_bytes = 2 * layout.batch * layout.full
    copies_percent = 100 if shape.architecture == "llama" else 150
    return mask_bytes + layer_cache_bytes * copies_percent // 100 + 3 * 4 * layout.batch * queries


def _first_only_bytes(shape: ModelShape, batch: int) -> int:
    """With sliding windows, the queries of one layer, in 32 bits: fitted to the same measurements."""
    if not shape.sliding_window:
        return 0
    return 4 * batch * max(layer.head_count * layer.key_length for layer in shape.layers)


def placed(
    model: Loadable,
    launch: Launch,
    units: UnitSums,
    computes: tuple[int, ...],
    free_bytes: tuple[int, ...],
) -> EngineLoad:
    """Where the units go. Source: llama.cpp common/fit.cpp, common_params_fit_impl (b10488)."""
    shape = units.shape
    count = units.count
    asked_units = launch.num_gpu if 0 < launch.num_gpu < count else count
    bounds = [count - asked_units + one for one in bounds_of(asked_units, free_bytes)]
    is_partial = asked_units < count
    if is_partial:
        computes = units.computes_with_cpu(len(free_bytes))
    used = _used(units, bounds, computes)
    # The recurrent state is allocated while fit looks at the free memory.
    seen_free = [
        free - units.kv_cache(first, last).recurrent_bytes
        for free, first, last in zip(free_bytes, bounds, bounds[1:])
    ]
    room = [free - target for free, target in zip(seen_free, launch.fit_targets_bytes)]
    fits = all(one <= most for one, most in zip(used, room))
    if fits or not launch.fit or is_partial:
        shortage = [position for position, one in enumerate(used) if one > free_bytes[position]]
        if shortage:
            return EngineLoad(
                (),
                (),
                False,
                layers=count,
                failure=(
                    f"The engine runs out of GPU memory: {model.name} needs {used[shortage[0]] // MIB} MiB, "
                    f"{free_bytes[shortage[0]] // MIB} MiB are free."
                ),
                is_out_of_memory=True,
            )
        return _load(launch, units, bounds, computes, free_bytes, _margin_sentence(used, free_bytes))
    has_experts = shape.number("expert_count") > 0
    bounds, is_whole = _refitted(units, room, has_experts=has_experts)
    targets = "/".join(str(one // MIB) for one in launch.fit_targets_bytes)
    sentence = (
        f"It needs {sum(used) // MIB} of {sum(free_bytes) // MIB} MiB free and is to leave {targets} MiB, "
        f"so the engine {'places its layers anew' if is_whole else 'moves layers to the CPU'}."
    )
    if not is_whole:
        computes = units.computes_with_cpu(len(free_bytes))
        if has_experts and _dense_bytes(shape, units) <= sum(room):
            return _experts_on_cpu(units, room, sentence)
    placed = _load(launch, units, bounds, computes, free_bytes, sentence)
    return replace(placed, refitted=True)


def _experts_on_cpu(units: UnitSums, room: Sequence[int], sentence: str) -> EngineLoad:
    """All layers on GPUs but for experts, which fill what room is left; the last of them go to the CPU."""
    used = tuple(max(one, 0) for one in room)
    cache = units.kv_cache(0, units.count)
    hidden = cache.full_attention_bytes if cache.sliding_window_bytes else 0
    return EngineLoad(
        used_bytes=used,
        logged_bytes=tuple(max(one - hidden * one // max(sum(used), 1), 0) for one in used),
        spilled=True,
        gpu_layers=units.count,
        layers=units.count,
        explanation=(sentence,),
    )


def _dense_bytes(shape: ModelShape, units: UnitSums) -> int:
    """Bytes of a mixture of experts without its experts, by the number of elements."""
    expert_bytes = 0
    for layer in shape.layers:
        elements = {name: math.prod(lengths) for name, lengths in shape.forms[layer.form]}
        of_experts = sum(count for name, count in elements.items() if EXPERT_TENSOR in name)
        expert_bytes += layer.weights_bytes * of_experts // max(sum(elements.values()), 1)
    return units.total(0, units.count, units.alone.compute_bytes) - expert_bytes


def _margin_sentence(used: Sequence[int], free_bytes: Sequence[int]) -> str:
    """What stays free where a model fits."""
    left = "/".join(str((free - one) // MIB) for one, free in zip(used, free_bytes))
    return f"It takes {sum(used) // MIB} MiB and leaves {left} MiB free."


def _refitted(units: UnitSums, room: Sequence[int], *, has_experts: bool) -> tuple[list[int], bool]:
    """The first unit of each GPU after fit has moved what does not fit; whether all units are on GPUs.

    Layers fill the last GPU first. Mixtures of experts fill the first GPU first, once their dense parts fit.
    """
    count = units.count
    computes = units.computes_without_pipeline(len(room))
    if has_experts:
        bounds = [0]
        for most, compute in zip(room[:-1], computes):
            last = bounds[-1]
            while last < count - 1 and units.total(bounds[-1], last + 1, compute) <= most:
                last += 1
            bounds.append(last)
        bounds.append(count)
        if units.total(bounds[-2], count, computes[-1]) <= room[-1]:
            return bounds, True
    firsts = [count]
    streaming = units.computes_with_cpu(len(room))
    for position in reversed(range(len(room))):
        last = firsts[0]
        if units.total(0, last, computes[position]) <= room[position]:
            return [0] * (position + 1) + firsts, True
        first = last
        while first > 1 and units.total(first - 1, last, streaming[position]) <= room[position]:
            first -= 1
        firsts.insert(0, first)
    return firsts, False


def _used(units: UnitSums, bounds: Sequence[int], computes: Sequence[int]) -> list[int]:
    return [units.total(first, last, compute) for first, last, compute in zip(bounds, bounds[1:], computes)]


def _load(
    launch: Launch,
    units: UnitSums,
    bounds: Sequence[int],
    computes: Sequence[int],
    free_bytes: Sequence[int],
    sentence: str,
) -> EngineLoad:
    used = _used(units, bounds, computes)
    logged = []
    for one, first, last in zip(used, bounds, bounds[1:]):
        cache = units.kv_cache(first, last)
        # Of two lines about key-value caches Ollama keeps the last, which is the sliding one.
        hidden = cache.full_attention_bytes if cache.sliding_window_bytes else 0
        logged.append(one - hidden)
    if bounds[0] == units.count:
        # Without any layer the first GPU still computes for the CPU.
        used[0] = logged[0] = computes[0]
    if launch.projector_on_gpu:
        compute = projector_compute(units.shape)
        used[0] += units.shape.projector_bytes + units.shape.inline_projector_bytes + compute.most_bytes
        # Of the projector Ollama counts the compute buffer that is reserved at the start, but not the weights.
        logged[0] += compute.reserved_bytes
    return EngineLoad(
        used_bytes=tuple(min(one, free) for one, free in zip(used, free_bytes)),
        logged_bytes=tuple(min(one, free) for one, free in zip(logged, free_bytes)),
        spilled=bounds[0] > 0,
        gpu_layers=units.count - bounds[0],
        layers=units.count,
        explanation=(sentence,),
    )
