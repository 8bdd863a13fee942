# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the layers go when the engine starts: the usual split, and what its fit makes of one that does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    beside_units,
    first_context,
    whole_compute_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    GpuMemory,
    HostMemory,
    KvCache,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import (
    EngineLoad,
    Launch,
    Loadable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    compute_bytes,
    devices_compute_bytes,
    runs_flash_elsewhere,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import (
    Attention,
    resolved,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    cells,
    each_cache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._projector import (
    projector_compute,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._split import bounds_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape

# The tensors that fit moves first: the experts' own, not the shared ones.
EXPERT_TENSOR = "_exps"

# Of a layer's quantised cache on the CPU the first GPU had up to 1.44 times as much beside its whole graph (gemma3:12b and
# hunyuan:0.5b, half of their layers there, v0.5.0).
QUANTISED_CACHE_TIMES = 1.5


@dataclass(frozen=True)
class UnitSums:
    """Memory of a model's units (its layers and, last, its output), summed up to each of them."""

    shape: ModelShape
    settings: LoadSettings
    weights_bytes: tuple[int, ...]
    full_bytes: tuple[int, ...]
    sliding_bytes: tuple[int, ...]
    recurrent_bytes: tuple[int, ...]
    per_device_bytes: int
    copied_bytes: int

    @property
    def pool_bytes(self) -> int:
        """What the pools of a GPU take at the most, whichever units lie there."""
        return self.beside.gpus[0].pool_bytes

    @property
    def beside(self) -> ModelMemory:
        """What the model takes besides them."""
        return beside_units(self.shape, self.settings)

    @property
    def alone(self) -> ModelMemory:
        """All of them on one GPU."""
        return first_context(self.shape, self.settings)

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

    def computes_bound(self, gpu_count: int, *, with_cpu: bool) -> tuple[int, ...]:
        """A bound of each GPU's compute buffer before it is known what lies there, while the GPUs take turns.

        None needs more than the whole graph on one GPU. While layers lie on the CPU, the first GPU computes prompts for
        them too, one operation at a time: what that reads is copied there. The bound for that GPU is never below the
        176 buffers measured and at the median 0.1 GiB above (tests/data/engine_memory_multi_gpu.csv, `ngl=L-1layer`).
        Source: llama.cpp ggml/src/ggml-backend.cpp, ggml_backend_sched_split_graph, op_offload (b10488).
        """
        whole = whole_compute_bytes(self.shape, self.settings)
        return (whole + (self.copied_bytes if with_cpu else 0), *[whole] * (gpu_count - 1))

    def loses_flash(self, first: int) -> bool:
        """Whether the engine does without flash attention because of layers before this unit, which lie on the CPU.

        Where it is left to the engine, flash attention of all layers must run where they lie.
        Source: llama.cpp src/llama-context.cpp, resolve_fused_ops (b11218); lfm2:350m with 6 and 8 of 17 units on the GPU.
        """
        settings = self.settings
        is_left = settings.flash_attention == "auto" and not settings.is_quantised
        if not first or not is_left or _resolved(self.shape, settings)[1] is not Attention.FLASH:
            return False
        return any(layer < first <= unit for layer, unit in runs_flash_elsewhere(self.shape, settings.engine))

    def computes(self, bounds: Sequence[int]) -> tuple[int, ...]:
        """Compute buffer of each GPU with the units from one bound to the next, while the GPUs take turns.

        Of a first GPU that computes for the CPU too it is the bound.
        """
        layout, attention = _resolved(self.shape, self.settings)
        loses_flash = self.loses_flash(bounds[0])
        if loses_flash:
            attention = Attention.PLAIN_ROWS
        here = tuple(range(first, last) for first, last in zip(bounds, bounds[1:]))
        kind, engine = self.settings.kv_cache_type, self.settings.engine
        computes = devices_compute_bytes(self.shape, layout, attention, kind, here, 1, engine)
        if not bounds[0]:
            return computes
        (bound,) = self.computes_bound(1, with_cpu=True)
        if loses_flash:
            bound = compute_bytes(self.shape, layout, attention, kind, engine=engine) + self.copied_bytes
        return (bound, *computes[1:])

    def on_gpus(self, bounds: Sequence[int], computes: Sequence[int]) -> list[GpuMemory]:
        """What each GPU holds with the units from one bound to the next.

        The first GPU has a compute buffer without any of them, where it computes for the CPU.
        """
        pool = self.pool_bytes
        if self.loses_flash(bounds[0]):
            pool = beside_units(self.shape, replace(self.settings, flash_attention="off")).gpus[0].pool_bytes
        return [
            GpuMemory(
                layers=last - first,
                weights_bytes=self.weights(first, last),
                kv_cache=self.kv_cache(first, last),
                compute_bytes=compute if last > first or (bounds[0] and not position) else 0,
                pool_bytes=pool if last > first else 0,
            )
            for position, (first, last, compute) in enumerate(zip(bounds, bounds[1:], computes))
        ]

    def rest(self, host: HostMemory, gpus: Sequence[GpuMemory]) -> HostMemory:
        """What is in system memory beside these GPUs; `host`: with all units on GPUs."""
        rest = self.kv_cache(0, self.count)
        for gpu in gpus:
            rest = rest - gpu.kv_cache
        copies = sum(gpu.weights_bytes > 0 for gpu in gpus) * self.per_device_bytes
        return HostMemory(
            layers=self.count - sum(gpu.layers for gpu in gpus),
            embeddings_bytes=host.embeddings_bytes,
            weights_bytes=max(self.weights_bytes[-1] + copies - sum(gpu.weights_bytes for gpu in gpus), 0),
            kv_cache=rest,
            compute_bytes=host.compute_bytes,
            output_bytes=host.output_bytes,
            repacked_bytes=host.repacked_bytes,
        )

    def total(self, first: int, last: int, compute_bytes: int) -> int:
        """Bytes of the units from `first` up to but without `last` on one GPU."""
        if first == last:
            return 0
        return self.weights(first, last) + self.kv_cache(first, last).total_bytes + compute_bytes


def _resolved(shape: ModelShape, settings: LoadSettings) -> tuple[Cells, Attention]:
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch, settings.engine)
    return layout, resolved(shape, settings.flash_attention, settings.kv_cache_type)


def unit_sums(shape: ModelShape, settings: LoadSettings) -> UnitSums:
    layout, attention = _resolved(shape, settings)
    caches = each_cache(
        shape,
        range(shape.block_count),
        layout,
        settings.kv_cache_type,
        transposed_values=attention.transposes_values,
    )
    return UnitSums(
        shape=shape,
        settings=settings,
        weights_bytes=_weights_sums(shape),
        full_bytes=_sums([cache.full_attention_bytes for cache in caches]),
        sliding_bytes=_sums([cache.sliding_window_bytes for cache in caches]),
        recurrent_bytes=_sums([cache.recurrent_bytes for cache in caches]),
        per_device_bytes=shape.per_device_bytes,
        copied_bytes=_largest_tensor_bytes(shape)
        + int(max(cache.total_bytes for cache in caches) * (QUANTISED_CACHE_TIMES if settings.is_quantised else 1)),
    )


def _sums(of_layers: Sequence[int]) -> tuple[int, ...]:
    """The sums up to each unit; the output, which is the last, keeps nothing."""
    sums = (0, *accumulate(of_layers))
    return (*sums, sums[-1])


@lru_cache(maxsize=256)
def _weights_sums(shape: ModelShape) -> tuple[int, ...]:
    weights = [layer.weights_bytes for layer in shape.layers]
    weights[0] += shape.first_layer_bytes
    return (0, *accumulate([*weights, shape.output_bytes]))


@lru_cache(maxsize=1024)
def _largest_tensor_bytes(shape: ModelShape) -> int:
    """Bytes of the largest tensor of any layer; where that is not told, by the number of elements."""
    if shape.largest_tensor_bytes:
        return shape.largest_tensor_bytes
    elements = [[math.prod(lengths) for _name, lengths in form] for form in shape.forms]
    shares = [(max(counts, default=0), max(sum(counts), 1)) for counts in elements]
    return max(
        layer.weights_bytes * shares[layer.form][0] // shares[layer.form][1] for layer in shape.layers
    )


def placed(
    model: Loadable,
    launch: Launch,
    units: UnitSums,
    computes: tuple[int, ...],
    free_bytes: tuple[int, ...],
) -> EngineLoad:
    """Where the units go; `computes`: the compute buffers, pipelined, where all of them lie on GPUs as usual.

    Where that does not fit and no details are asked for, the memory told is that of the usual split.

    Source: llama.cpp common/fit.cpp, common_params_fit_impl (b10488).
    """
    count = units.count
    asked_units = launch.num_gpu if 0 < launch.num_gpu < count else count
    bounds = [count - asked_units + one for one in bounds_of(asked_units, free_bytes)]
    is_partial = asked_units < count
    if is_partial:
        computes = units.computes(bounds)
    gpus = units.on_gpus(bounds, computes)
    used = [gpu.total_bytes for gpu in gpus]
    # The recurrent state is allocated while fit looks at the free memory.
    seen_free = [free - gpu.kv_cache.recurrent_bytes for free, gpu in zip(free_bytes, gpus)]
    room = [free - target for free, target in zip(seen_free, launch.fit_targets_bytes)]
    fits = all(one <= most for one, most in zip(used, room))
    if fits or not launch.fit or is_partial:
        shortage = [position for position, one in enumerate(used) if one > free_bytes[position]]
        if shortage:
            return EngineLoad(
                layers=count,
                failure=(
                    f"The engine runs out of GPU memory: {model.name} needs {used[shortage[0]] // MIB} MiB, "
                    f"{free_bytes[shortage[0]] // MIB} MiB are free."
                ),
                is_out_of_memory=True,
            )
        sentence = _margin_sentence(used, free_bytes)
        return _load(
            launch, units, gpus, free_bytes, sum(used), spilled=is_partial, sentence=sentence, refitted=False
        )
    has_experts = units.shape.number("expert_count") > 0
    bounds, is_whole = _refitted(units, room, has_experts=has_experts)
    targets = "/".join(str(one // MIB) for one in launch.fit_targets_bytes)
    sentence = (
        f"It needs {sum(used) // MIB} of {sum(free_bytes) // MIB} MiB free and is to leave {targets} MiB, "
        f"so the engine {'places its layers anew' if is_whole else 'moves layers to the CPU'}."
    )
    if not launch.details:
        pass
    elif has_experts and not is_whole and _dense_bytes(units) <= sum(room):
        gpus = _without_experts(units, room)
    else:
        gpus = units.on_gpus(bounds, units.computes(bounds))
    return _load(
        launch, units, gpus, free_bytes, sum(used), spilled=not is_whole, sentence=sentence, refitted=True
    )


def _without_experts(units: UnitSums, room: Sequence[int]) -> list[GpuMemory]:
    """All layers on GPUs but for experts, which fill what room is left; the last of them go to the CPU.

    Which GPU gets which is not told apart: layers are shared out by the room.
    """
    room = [max(one, 0) for one in room]
    bounds = bounds_of(units.count, tuple(room))
    computes = units.computes_bound(len(room), with_cpu=True)
    return [
        replace(gpu, weights_bytes=max(gpu.weights_bytes + most - gpu.total_bytes, 0)).at_most(most)
        for gpu, most in zip(units.on_gpus(bounds, computes), room)
    ]


def _dense_bytes(units: UnitSums) -> int:
    """Bytes of a mixture of experts without its experts, by the number of elements."""
    expert_bytes = 0
    for layer in units.shape.layers:
        elements = {name: math.prod(lengths) for name, lengths in units.shape.forms[layer.form]}
        of_experts = sum(count for name, count in elements.items() if EXPERT_TENSOR in name)
        expert_bytes += layer.weights_bytes * of_experts // max(sum(elements.values()), 1)
    return units.alone.gpus[0].buffers_bytes - expert_bytes


def _margin_sentence(used: Sequence[int], free_bytes: Sequence[int]) -> str:
    """What stays free where a model fits."""
    left = "/".join(str((free - one) // MIB) for one, free in zip(used, free_bytes))
    return f"It takes {sum(used) // MIB} MiB and leaves {left} MiB free."


def _refitted(units: UnitSums, room: Sequence[int], *, has_experts: bool) -> tuple[list[int], bool]:
    """The first unit of each GPU after fit has moved what does not fit; whether all units are on GPUs.

    Layers fill the last GPU first. Mixtures of experts fill the first GPU first, once their dense parts fit.
    """
    count = units.count
    computes = units.computes_bound(len(room), with_cpu=False)
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
    with_cpu = units.computes_bound(len(room), with_cpu=True)
    for position in reversed(range(len(room))):
        last = firsts[0]
        if units.total(0, last, computes[position]) <= room[position]:
            return [0] * (position + 1) + firsts, True
        first = last
        while first and units.total(first - 1, last, with_cpu[position]) <= room[position]:
            first -= 1
        firsts.insert(0, first)
    return firsts, False


def _load(
    launch: Launch,
    units: UnitSums,
    gpus: Sequence[GpuMemory],
    free_bytes: Sequence[int],
    usual_bytes: int,
    *,
    spilled: bool,
    sentence: str,
    refitted: bool,
) -> EngineLoad:
    """What the engine took; `usual_bytes`: what the usual split takes, without a projector."""
    beside = units.beside
    logged = []
    for gpu in gpus:
        # Of two lines about key-value caches Ollama keeps the last, which is the sliding one.
        hidden = gpu.kv_cache.full_attention_bytes if gpu.kv_cache.sliding_window_bytes else 0
        logged.append(gpu.buffers_bytes - hidden)
    if launch.projector_on_gpu:
        projector = beside.gpus[0]
        gpus = [
            replace(
                gpus[0],
                projector_bytes=projector.projector_bytes,
                projector_compute_bytes=projector.projector_compute_bytes,
            ),
            *gpus[1:],
        ]
        usual_bytes += projector.all_projector_bytes
        # Of the projector Ollama counts the compute buffer that is reserved at the start, but not the weights.
        logged[0] += projector_compute(units.shape).reserved_bytes
    host = units.rest(beside.host, gpus)
    return EngineLoad(
        memory=ModelMemory(
            tuple(gpu.at_most(free) for gpu, free in zip(gpus, free_bytes)), host, beside.basis, beside.note
        ),
        logged_bytes=tuple(min(one, free) for one, free in zip(logged, free_bytes)),
        spilled=spilled,
        layers=units.count,
        whole_bytes=usual_bytes,
        explanation=(sentence,),
        refitted=refitted,
    )
