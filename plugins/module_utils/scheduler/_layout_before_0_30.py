# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ollama before 0.30 lays a model out on GPUs: on as few as will hold it, the fullest last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    MINIMUM_GPU_BYTES,
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerGpu, by_library

NO_GPU = GpuMemory()
# Steps of the search for the smallest share of the free memory that still holds all layers.
BALANCING_STEPS = 20


@dataclass(frozen=True)
class Layout:
    """Where a model lies: positions in the list of GPUs, and what each of them holds."""

    placement: tuple[int, ...]
    gpus: tuple[GpuMemory, ...]
    is_whole: bool

    @property
    def layers(self) -> int:
        """Layers on GPUs, the output included."""
        return sum(gpu.layers for gpu in self.gpus)

    @property
    def bytes_each(self) -> tuple[int, ...]:
        """What Ollama counts on each GPU, with what it sets aside there."""
        return tuple(gpu.total_bytes + MINIMUM_GPU_BYTES for gpu in self.gpus)


def lay_out(
    memory: BelievedMemory,
    gpus: Sequence[SchedulerGpu],
    free_bytes: Sequence[int],
    *,
    num_gpu: int,
    overhead_bytes: int,
    spread: bool,
    is_go_engine: bool,
) -> Layout:
    """The layout that Ollama finds, whole where some number of GPUs of one library can hold the model.

    Source: ollama llm/memory.go, pickBestFullFitByLibrary(); llm/server.go, assignLayers() (0.11.8).
    """
    best = Layout((), (), False)
    count_all = len(memory.layers_bytes) + 1
    asked = count_all if num_gpu < 0 else min(num_gpu, count_all)
    for group in by_library(gpus):
        order = sorted(group, key=lambda i: (gpus[i].integrated, -free_bytes[i]))
        # The first one, the first two, ..., all.
        for chosen in [order] if spread else accumulate([position] for position in order):
            free = [free_bytes[i] for i in chosen]
            fill = _fill_go_engine if is_go_engine else _fill_formula
            held = fill(memory, free, asked, overhead_bytes)
            layout = _layout(chosen, held, asked)
            if layout.is_whole:
                return layout
            if layout.layers > best.layers:
                best = layout
    return best


def _layout(chosen: Sequence[int], held: Sequence[GpuMemory], asked: int) -> Layout:
    """Without the GPUs that got nothing, by position."""
    pairs = sorted(
        ((position, gpu) for position, gpu in zip(chosen, held) if gpu.layers), key=lambda pair: pair[0]
    )
    is_whole = sum(gpu.layers for gpu in held) >= asked
    return Layout(tuple(position for position, _gpu in pairs), tuple(gpu for _i, gpu in pairs), is_whole)


def _fill_formula(
    memory: BelievedMemory, free_bytes: Sequence[int], asked: int, overhead_bytes: int
) -> list[GpuMemory]:
    """What each GPU holds, layers dealt out in turn.

    Source: ollama llm/memory.go, estimateGPULayers() (0.11.8).
    """
    several = len(free_bytes) > 1
    full_graph = memory.partial_graph_bytes if several else memory.graph_bytes
    graph = max(memory.partial_graph_bytes, full_graph)
    used: dict[int, int] = {}
    held: list[list[int]] = [[] for _unused in free_bytes]
    for position, free in enumerate(free_bytes):
        first = 0 if used else memory.first_gpu_bytes
        needed = MINIMUM_GPU_BYTES + memory.buffer_bytes + first
        if free >= overhead_bytes + needed + memory.buffer_bytes + graph:
            used[position] = needed
    room = list(used)
    first_room = next(iter(used), None)
    sizes = memory.layers_bytes
    layers = 0
    for index in list(reversed(range(len(sizes))))[:asked]:
        while room:
            position = room[index % len(room)]
            if free_bytes[position] > overhead_bytes + used[position] + graph + sizes[index]:
                used[position] += sizes[index]
                held[position].append(index)
                layers += 1
                break
            room.remove(position)
    is_whole = layers == len(sizes)
    if layers < asked:
        places = [room[layers % count] for count in range(len(room), 0, -1)]
        fitting = [
            position
            for position in places
            if free_bytes[position] > overhead_bytes + used[position] + graph + memory.last_bytes
        ]
        if fitting:
            held[fitting[0]].append(len(sizes))
        else:
            is_whole = False
    compute_bytes = memory.buffer_bytes + (full_graph if is_whole else memory.partial_graph_bytes)
    return [
        memory.gpu(units, compute_bytes=compute_bytes, is_first=position == first_room) if units else NO_GPU
        for position, units in enumerate(held)
    ]


def _fill_go_engine(
    memory: BelievedMemory, free_bytes: Sequence[int], asked: int, overhead_bytes: int
) -> list[GpuMemory]:
    """What each GPU holds, filled from the last GPU and evened out.

    Where not all fits, the output stays on the CPU.

    Source: ollama llm/server.go, createLayout(), assignLayers() and findBestFit() (0.11.11).
    """
    reserved = MINIMUM_GPU_BYTES + overhead_bytes + memory.graph_bytes
    room = [free - reserved for free in free_bytes]
    whole = [*memory.layers_bytes, memory.last_bytes]
    for sizes in (whole, whole[:-1]):
        wanted = min(asked, len(sizes))
        held = _greedy(sizes, room, wanted, 1.0)
        most = sum(len(one) for one in held)
        if most >= wanted:
            break
    low, high = 0.0, 1.0
    for _unused in range(BALANCING_STEPS if len(room) > 1 else 0):
        middle = (low + high) / 2
        tried = _greedy(sizes, room, wanted, middle)
        if sum(len(one) for one in tried) == most:
            held, high = tried, middle
        else:
            low = middle
    return [
        memory.gpu(units, compute_bytes=memory.graph_bytes, is_first=False) if units else NO_GPU
        for units in held
    ]


def _greedy(sizes: Sequence[int], room: Sequence[int], asked: int, capacity: float) -> list[list[int]]:
    """The layers on each GPU, the last layers on the last GPU, each filled to a share."""
    held: list[list[int]] = [[] for _unused in room]
    device = len(room) - 1
    left = int(room[device] * capacity)
    for index in reversed(range(len(sizes) - asked, len(sizes))):
        while sizes[index] > left:
            device -= 1
            if device < 0:
                return held
            left = int(room[device] * capacity)
        held[device].append(index)
        left -= sizes[index]
    return held
