# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the memory rules foretell it, raised to what the fleet has seen it take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import (
    EngineLoad,
    Launch,
    Loadable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import Observed, key_of

OBSERVED = "observed"


class ObservedEngine(MemoryEngine):
    """Adds to a load what it was seen to take beyond the prediction; it never takes anything away."""

    def __init__(self, observed: Sequence[Observed]) -> None:
        super().__init__()
        self._observed = {one.key: one for one in observed}
        self._raised: dict[tuple[object, ...], EngineLoad] = {}

    def start(self, model: Loadable, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
        started = super().start(model, launch, free_bytes)
        observed = self._observed.get(key_of(model.shape.digest if model.shape else "", launch))
        if observed is None or len(observed.more_bytes) > len(started.memory.gpus):
            return started
        key = (observed.key, launch, launch.details, free_bytes)
        if key not in self._raised:
            self._raised[key] = _raised(started, observed)
        return self._raised[key]


def _raised(started: EngineLoad, observed: Observed) -> EngineLoad:
    memory = started.memory
    more = [*observed.more_bytes, *[(0, 0, 0)] * (len(memory.gpus) - len(observed.more_bytes))]
    gpus = tuple(_with_more(gpu, one) for gpu, one in zip(memory.gpus, more))
    added = [sum(one) for one in more]
    return replace(
        started,
        memory=replace(memory, gpus=gpus, basis=OBSERVED),
        logged_bytes=tuple(size + one for size, one in zip(started.logged_bytes, added)),
        whole_bytes=started.whole_bytes + sum(added) if started.whole_bytes else 0,
    )


def _with_more(gpu: GpuMemory, more_bytes: Sequence[int]) -> GpuMemory:
    weights, kv_cache, compute = more_bytes
    cache = replace(gpu.kv_cache, full_attention_bytes=gpu.kv_cache.full_attention_bytes + kv_cache)
    return replace(
        gpu,
        weights_bytes=gpu.weights_bytes + weights,
        kv_cache=cache,
        compute_bytes=gpu.compute_bytes + compute,
    )
