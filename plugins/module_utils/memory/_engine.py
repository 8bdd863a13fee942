# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens when the engine starts with a model: which layers lie where, and what it takes."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    host_estimate,
    split_computes,
    whole_compute_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    KV_CACHE_TYPES,
    LoadSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import ESTIMATE, GpuMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import (
    EngineLoad,
    Launch,
    Loadable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._which_rule import (
    believed_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._draft import (
    with_second_context,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._fit import (
    UnitSums,
    placed,
    unit_sums,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._split import bounds_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._ahead import tokens_ahead, without_ahead
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import Era, rules
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse

OLD_ON_CPU = "on a CPU an Ollama before 0.30 is taken for one of 0.30"


class MemoryEngine:
    """The engine as the memory rules foretell it; it remembers what it has found."""

    def __init__(self) -> None:
        # With details and without.
        self._starts: dict[tuple[object, ...], dict[bool, EngineLoad]] = {}
        self._units: dict[tuple[object, ...], UnitSums] = {}
        self._computes: dict[tuple[object, ...], tuple[int, ...]] = {}
        self._believed: dict[tuple[object, ...], BelievedMemory] = {}
        # Shapes are told apart by identity, which holds only while they live; hashing one takes too long.
        self._shapes: dict[int, ModelShape | None] = {}

    def start(self, model: Loadable, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
        """What starting the model does."""
        starts = self._starts.setdefault((id(model.shape), launch, free_bytes), {})
        known = starts.get(launch.details)
        if known is None:
            known = starts.get(not launch.details)
            # Only a load that does not lie as usual is told otherwise with details.
            if known is None or known.refitted:
                known = self._start(model, launch, free_bytes)
            starts[launch.details] = known
        return known

    def _start(self, model: Loadable, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
        if model.shape is None:
            raise ValueError(f"the memory of {model.name} cannot be foretold without the model's shape.")
        predicts = rules(launch.version).era is Era.LLAMA_SERVER
        shape = model.shape if predicts else without_ahead(model.shape)
        self._shapes.update({id(one): one for one in (model.shape, shape)})
        try:
            if not free_bytes or launch.num_gpu == 0:
                return self._on_cpu(shape, launch, len(free_bytes))
            settings = launch.settings
            computes = self._computes_of(shape, settings, free_bytes)
        except ValueError as refusal:
            failure = f"The engine refuses {model.name}: {refusal}."
            return EngineLoad(layers=shape.block_count + 1, failure=failure)
        units = self._units_of(shape, settings)
        load = placed(model, launch, units, computes, free_bytes)
        taken = _taken_ahead(shape, settings, load)
        if not any(taken):
            return load
        targets = tuple(target + more for target, more in zip(launch.fit_targets_bytes, taken))
        load = placed(model, replace(launch, fit_targets_bytes=targets), units, computes, free_bytes)
        return _ahead(model.name, shape, launch, load, free_bytes)

    def _on_cpu(self, shape: ModelShape, launch: Launch, gpu_count: int) -> EngineLoad:
        memory = host_estimate(shape, _understood(launch).settings)
        if rules(launch.version).era is not Era.LLAMA_SERVER:
            memory = replace(memory, basis=ESTIMATE, note="; ".join(filter(None, (memory.note, OLD_ON_CPU))))
        load = EngineLoad(
            memory=replace(memory, gpus=(GpuMemory(),) * gpu_count),
            logged_bytes=(0,) * gpu_count,
            spilled=True,
            layers=shape.block_count + 1,
            explanation=("All of it lies on the CPU.",),
        )
        return _ahead(shape.name, shape, launch, load, ())

    def believed(self, model: Loadable, launch: Launch) -> BelievedMemory:
        """What an Ollama before 0.30 takes the model for."""
        key = (id(model.shape), launch)
        known = self._believed.get(key)
        if known is None:
            if model.shape is None:
                raise ValueError(f"the memory of {model.name} cannot be foretold without the model's shape.")
            self._shapes[id(model.shape)] = model.shape
            settings = _understood(launch).settings
            shape = without_ahead(model.shape)
            known = self._believed[key] = believed_memory(shape, settings, parse(launch.version))
        return known

    def _units_of(self, shape: ModelShape, settings: LoadSettings) -> UnitSums:
        key = (id(shape), settings)
        known = self._units.get(key)
        if known is None:
            known = self._units[key] = unit_sums(shape, settings)
        return known

    def _computes_of(
        self, shape: ModelShape, settings: LoadSettings, free_bytes: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Compute buffer of each GPU while all units lie on GPUs; it depends on which units those are."""
        if len(free_bytes) == 1 or not any(free_bytes):
            return (whole_compute_bytes(shape, settings),) * len(free_bytes)
        key = (id(shape), settings, *bounds_of(shape.block_count + 1, free_bytes))
        known = self._computes.get(key)
        if known is None:
            known = self._computes[key] = split_computes(shape, settings, free_bytes)
        return known


def _taken_ahead(shape: ModelShape, settings: LoadSettings, load: EngineLoad) -> tuple[int, ...]:
    """What the engine's fit leaves free on each GPU for tokens predicted ahead.

    States kept for them count twice: they are there already while it looks at what is free.
    """
    if load.failure or not tokens_ahead(shape):
        return ()
    grown = with_second_context(shape, settings, load.memory)
    return tuple(
        after.total_bytes - before.total_bytes + after.kv_cache.recurrent_bytes - before.kv_cache.recurrent_bytes
        for before, after in zip(load.memory.gpus, grown.gpus)
    )


def _ahead(
    name: str, shape: ModelShape, launch: Launch, load: EngineLoad, free_bytes: tuple[int, ...]
) -> EngineLoad:
    """The load with what predicting tokens ahead takes, which fails where a GPU has not so much."""
    if load.failure or not tokens_ahead(shape):
        return load
    memory = with_second_context(shape, launch.settings, load.memory)
    grown = memory.gpu_bytes - load.memory.gpu_bytes
    short = [most for gpu, most in zip(memory.gpus, free_bytes) if gpu.total_bytes > most]
    if short and not load.spilled:
        failure = (
            f"The engine runs out of GPU memory: {name} predicts tokens ahead, for which {short[0] // MIB} MiB free "
            "are too few."
        )
        return EngineLoad(layers=load.layers, failure=failure, is_out_of_memory=True)
    return replace(load, memory=memory, whole_bytes=load.whole_bytes + grown if load.whole_bytes else 0)


def _understood(launch: Launch) -> Launch:
    """The launch as Ollama before 0.30 takes it: what it does not understand leaves it at its own."""
    if rules(launch.version).era is Era.LLAMA_SERVER:
        return launch
    kv_cache_type = launch.kv_cache_type if launch.kv_cache_type in KV_CACHE_TYPES else "f16"
    return replace(launch, kv_cache_type=kv_cache_type, batch=max(launch.batch, 1))
