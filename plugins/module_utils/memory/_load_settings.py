# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With which settings a model is loaded, and the error for those that the engine refuses."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._remembered import remembered
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    B10488,
    EngineBuild,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import (
    EngineRules,
    engine_rules,
)

DEFAULT_BATCH = 512
WORKSPACE_BYTES = 32 * MIB
OLD_WORKSPACE_BYTES = 4 * MIB
# The compute capability from which a workspace is the larger one.
HOPPER = (9, 0)
KV_CACHE_TYPES = ("f16", "q8_0", "q4_0")
FLASH_ATTENTION = ("auto", "on", "off")


class Refused(ValueError):
    """The engine would refuse or abort: the message is one sentence that says why."""


@dataclass(frozen=True)
class Backend:
    """How the engine's GPU backend runs.

    fuses: it runs several operations as one where it can, unless GGML_CUDA_DISABLE_FUSION is set. keeps_size_classes:
    its pool cannot grow in place, and keeps a piece of every size. workspace_bytes: of one cuBLAS handle.
    dequantised_bytes: of an element of quantised weights that a product of a batch makes for cuBLAS; 0 where products take
    quantised weights as they are.
    Source: llama.cpp ggml/src/ggml-cuda/common.cuh, cublas_handle: 4 MiB before Hopper, 32 MiB from it on (b11218).
    """

    fuses: bool = True
    keeps_size_classes: bool = False
    workspace_bytes: int = WORKSPACE_BYTES
    dequantised_bytes: int = 0


USUAL_BACKEND = Backend()


@dataclass(frozen=True)
class LoadSettings:
    """How a model is loaded: context_length in tokens per slot, batch in tokens computed at once.

    `build`: of the engine, whose rules count, and `backend`: of the GPUs; the rules for Ollama before 0.30 do not ask.
    """

    context_length: int
    parallel: int
    batch: int = DEFAULT_BATCH
    kv_cache_type: str = "f16"
    flash_attention: str = "auto"
    build: EngineBuild = B10488
    backend: Backend = USUAL_BACKEND

    def __hash__(self) -> int:
        return int(self._hash)

    @remembered
    def _hash(self) -> int:
        return hash((self.context_length, self.parallel, self.batch, self.kv_cache_type, self.build))

    def __post_init__(self) -> None:
        for key in ("context_length", "parallel", "batch"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, expected at least 1")
        if self.kv_cache_type not in KV_CACHE_TYPES:
            raise ValueError(f"kv_cache_type is {self.kv_cache_type}, expected {', '.join(KV_CACHE_TYPES)}")
        if self.flash_attention not in FLASH_ATTENTION:
            raise ValueError(
                f"flash_attention is {self.flash_attention}, expected {', '.join(FLASH_ATTENTION)}"
            )

    @remembered
    def engine(self) -> EngineRules:
        """What the engine of that build does."""
        return engine_rules(self.build, fuses=self.backend.fuses)

    @property
    def is_quantised(self) -> bool:
        """Whether the KV cache is kept in blocks of fewer bits."""
        return self.kv_cache_type != "f16"
