# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which figures a version of Ollama places models: 80 % of free memory, batches, what is to stay free."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, MIB


@dataclass(frozen=True)
class BatchStep:
    """A batch that Ollama takes by itself where the context of all slots is longer than `above_context` tokens.

    The model has to be predicted within `within_percent` of the memory that is available, and with
    `surcharge_bytes` more within the percentage for loading.
    """

    batch: int
    above_context: int
    within_percent: int
    surcharge_bytes: int


@dataclass(frozen=True)
class PlacementRules:
    """The figures of one version; sizes in bytes, batches and contexts in tokens.

    `load_percent`: the share of the available memory within which a model loads beside others.
    `batch_steps`: the largest first; where none applies the batch is `default_batch`. `constrained_batch`: without
    flash attention on a GPU of at most `constrained_gpu_bytes`, above `constrained_context`.
    `projector_headroom_bytes`: what stays free beside a projector. `projector_above_bytes`: a GPU with no more than that
    free takes none, and an integrated one only where `projector_on_integrated`; `projector_pads_fit`: the engine's fit leaves
    it room. `fit_target_bytes`: what the engine's fit leaves
    free on each GPU. `models_per_gpu`: how many are loaded where nothing says so. `lower_contexts`: what Ollama's
    own choice of a context is lowered to after a failure.

    Source: ollama server/sched.go, load(), automaticGenerationBatch(), defaultModelsPerGPU and nextLowerAutoNumCtx();
    llm/llama_server.go, DefaultEmbeddingNumBatch, mmprojOffloadHeadroom, limitedMMProjOffloadMemory (0.30.0 to 0.30.10) and
    shouldDisableMMProjOffload (compared in every release from 0.30.0 on); issues 16496 and 16419; llama.cpp common/common.h,
    fit_params_target. These defaults are those of v0.33.0-rc2.
    """

    load_percent: int = 80
    batch_steps: tuple[BatchStep, ...] = (
        BatchStep(2048, above_context=32768, within_percent=60, surcharge_bytes=2 * GIB),
        BatchStep(1024, above_context=4096, within_percent=75, surcharge_bytes=768 * MIB),
    )
    default_batch: int = 512
    constrained_batch: int = 256
    constrained_context: int = 4096
    constrained_gpu_bytes: int = 8 * GIB
    embedding_batch: int = 2048
    projector_headroom_bytes: int = 1 * GIB
    projector_above_bytes: int = 0
    projector_on_integrated: bool = True
    projector_pads_fit: bool = True
    fit_target_bytes: int = 1024 * MIB
    models_per_gpu: int = 3
    lower_contexts: tuple[int, ...] = (32768, 4096)

    def load_limit_bytes(self, available_bytes: int) -> int:
        """Within how much of the available memory a model loads beside others."""
        return available_bytes * self.load_percent // 100

    def surcharge_bytes(self, batch: int) -> int:
        """What Ollama adds to its prediction for a batch."""
        return next((step.surcharge_bytes for step in self.batch_steps if batch >= step.batch), 0)
