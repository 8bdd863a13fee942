# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With what an engine is started, and what it took then: the words that scheduler and memory rules share."""

from __future__ import annotations

from dataclasses import field
from typing import Protocol

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._remembered import remembered
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    USUAL_BACKEND,
    Backend,
    LoadSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import NOTHING, ModelMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    B10488,
    EngineBuild,
)


@dataclass(frozen=True)
class Launch:
    """How Ollama starts the engine; `fit_targets_bytes`: what fit leaves free, one value per visible GPU.

    `details`: whether it is asked what lies where also when the usual split does not fit; else nothing depends on it.
    """

    context_length: int
    parallel: int
    batch: int
    kv_cache_type: str
    flash_attention: str
    num_gpu: int
    fit: bool
    fit_targets_bytes: tuple[int, ...]
    projector_on_gpu: bool
    version: str
    build: EngineBuild = B10488
    backend: Backend = USUAL_BACKEND
    details: bool = field(default=True, compare=False)

    def __hash__(self) -> int:
        return int(self._hash)

    @remembered
    def _hash(self) -> int:
        sizes = (self.context_length, self.parallel, self.batch)
        return hash((sizes, self.kv_cache_type, self.fit_targets_bytes, self.projector_on_gpu))

    @remembered
    def settings(self) -> LoadSettings:
        """What of it the memory depends on.

        Raises: ValueError for a value that the engine refuses.
        """
        return LoadSettings(
            self.context_length,
            self.parallel,
            self.batch,
            self.kv_cache_type,
            self.flash_attention,
            self.build,
            self.backend,
        )


@dataclass(frozen=True)
class EngineLoad:
    """What the engine took: `memory` has one entry per visible GPU, without CUDA context; none where it failed.

    `logged_bytes` is what Ollama counts of it on each of them. `whole_bytes`: what the usual split takes, or would
    take, of all GPUs together. `spilled`: something that could lie on a GPU lies on the CPU.
    `refitted`: not the default split of the layers, but the one that the engine's fit made of it.
    """

    memory: ModelMemory = NOTHING
    logged_bytes: tuple[int, ...] = ()
    spilled: bool = False
    layers: int = 0
    whole_bytes: int = 0
    explanation: tuple[str, ...] = ()
    failure: str = ""
    is_out_of_memory: bool = False
    refitted: bool = False

    @property
    def used_bytes(self) -> tuple[int, ...]:
        """What it took of each visible GPU."""
        return tuple(gpu.total_bytes for gpu in self.memory.gpus)


class Loadable(Protocol):
    """What an engine is told of a model; without a shape only a recording can say what the model takes."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def shape(self) -> ModelShape | None:
        """Its shape."""


class Engine(Protocol):
    """Something that knows what a model takes on GPUs with so much free memory."""

    def start(self, model: Loadable, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
        """What starting the model does; `free_bytes` is what the engine itself finds free."""

    def believed(self, model: Loadable, launch: Launch) -> BelievedMemory:
        """What an Ollama before 0.30 takes the model for."""
