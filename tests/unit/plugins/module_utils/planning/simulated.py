# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulations of models whose sizes one can add up in the head."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    GpuMemory,
    HostMemory,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import Host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import Simulation
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel

MIB = 1 << 20
SYSTEM_MIB = 1000


class SizedEngine:
    """An engine whose models take what a table says, in MiB, on one GPU or evenly on all; what is not free spills.

    What lies on no GPU lies in system memory. `pool_mib`: what each takes on top of each GPU while it computes.
    """

    def __init__(self, *, pool_mib: float = 0, **sizes_mib: int) -> None:
        self.sizes_mib = sizes_mib
        self.pool_bytes = int(pool_mib * MIB)

    def start(self, model: SchedulerModel, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
        size = self.sizes_mib[model.name] * MIB // max(len(free_bytes), 1)
        if size < 0:
            return EngineLoad(failure="It cannot be.")
        used = tuple(min(size, free) for free in free_bytes)
        spilled = any(size > free for free in free_bytes)
        whole = size * len(free_bytes)
        memory = ModelMemory(
            tuple(GpuMemory(weights_bytes=size, pool_bytes=self.pool_bytes) for size in used),
            HostMemory(weights_bytes=whole - sum(used) if free_bytes else size),
        )
        return EngineLoad(
            memory,
            used,
            spilled,
            whole_bytes=whole,
            explanation=("It was tried.", "It is large."),
            refitted=model.name == "refitted",
        )


def model(name: str, file_mib: float = 100, **changes: object) -> SchedulerModel:
    """A model of which nothing is known but its file; Ollama predicts no more than that."""
    return replace(SchedulerModel(name, name, int(file_mib * MIB), 0, 131072, 32), **changes)


def simulation(
    gpus_mib: list[float],
    models: list[SchedulerModel],
    *,
    headroom_mib: int = 0,
    overhead_mib: int = 0,
    version: str = "0.33.0",
    pool_mib: float = 0,
    engine: MemoryEngine | None = None,
    **sizes_mib: int,
) -> Simulation:
    """Models on GPUs of so many MiB, all of it free. `overhead_mib`: what each runner takes besides its size.

    `engine`: one that is asked for the sizes in place of the table.
    """
    sizes_bytes = [int(mib * MIB) for mib in gpus_mib]
    gpus = tuple(
        GpuDevice(
            number,
            f"GPU-{number}",
            "",
            "nvidia",
            "",
            memory_total_bytes=size,
            memory_free_bytes=size,
            compute_capability="8.6",
        )
        for number, size in enumerate(sizes_bytes)
    )
    return Simulation(
        Host(gpus, SYSTEM_MIB * MIB, SYSTEM_MIB * MIB, {}, ()),
        models,
        version=version,
        environment={},
        headroom_bytes=headroom_mib * MIB,
        runner_overhead_bytes=overhead_mib * MIB,
        engine=engine or SizedEngine(pool_mib=pool_mib, **sizes_mib),
    )
