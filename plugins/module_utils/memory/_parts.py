# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a loaded model consists of, on each GPU and in system memory."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._remembered import remembered

EXACT = "exact"
ESTIMATE = "estimate"


@dataclass(frozen=True)
class KvCache:
    """KV cache of one loaded model, all slots together. Sizes in bytes."""

    full_attention_bytes: int = 0
    sliding_window_bytes: int = 0
    recurrent_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.full_attention_bytes + self.sliding_window_bytes + self.recurrent_bytes

    def __sub__(self, other: KvCache) -> KvCache:
        return KvCache(
            self.full_attention_bytes - other.full_attention_bytes,
            self.sliding_window_bytes - other.sliding_window_bytes,
            self.recurrent_bytes - other.recurrent_bytes,
        )

    def without(self, excess_bytes: int) -> KvCache:
        """So much less, of full attention first; nothing is left where it is no larger."""
        sizes = []
        for size in (self.full_attention_bytes, self.sliding_window_bytes, self.recurrent_bytes):
            left = max(size - excess_bytes, 0)
            excess_bytes -= size - left
            sizes.append(left)
        return KvCache(*sizes)

    def __add__(self, other: KvCache) -> KvCache:
        return KvCache(
            self.full_attention_bytes + other.full_attention_bytes,
            self.sliding_window_bytes + other.sliding_window_bytes,
            self.recurrent_bytes + other.recurrent_bytes,
        )


NO_CACHE = KvCache()


@dataclass(frozen=True)
class GpuMemory:
    """What one GPU holds of a model. Sizes in bytes; `layers` counts the output layer too.

    `projector_compute_bytes`: with the largest image. `cuda_context_bytes`: what the process takes besides its
    buffers; the memory rules leave it to those who know what it was measured to be. `pool_bytes`: what comes while it
    computes, once every context is full: it is not taken at the start, so no total has it.
    """

    layers: int = 0
    weights_bytes: int = 0
    kv_cache: KvCache = NO_CACHE
    compute_bytes: int = 0
    projector_bytes: int = 0
    projector_compute_bytes: int = 0
    cuda_context_bytes: int = 0
    pool_bytes: int = 0

    @property
    def buffers_bytes(self) -> int:
        """Weights, KV cache and compute buffer: what the engine's log lines add up to."""
        return self.weights_bytes + self.kv_cache.total_bytes + self.compute_bytes

    @remembered
    def total_bytes(self) -> int:
        """All that the model takes on this GPU."""
        return self.buffers_bytes + self.all_projector_bytes + self.cuda_context_bytes

    @property
    def all_projector_bytes(self) -> int:
        """The projector's weights and its compute buffer."""
        return self.projector_bytes + self.projector_compute_bytes

    def with_context(self, cuda_context_bytes: int) -> GpuMemory:
        """The same with so much of a process besides its buffers."""
        return GpuMemory(
            self.layers,
            self.weights_bytes,
            self.kv_cache,
            self.compute_bytes,
            self.projector_bytes,
            self.projector_compute_bytes,
            cuda_context_bytes,
            self.pool_bytes,
        )

    def at_most(self, limit_bytes: int) -> GpuMemory:
        """The same without what exceeds a GPU's free memory: nothing can take that.

        What is allocated last goes first: context, compute buffers, projector, cache, weights.
        """
        excess = self.total_bytes - max(limit_bytes, 0)
        if excess <= 0:
            return self
        sizes = {}
        for name in (
            "cuda_context_bytes",
            "projector_compute_bytes",
            "compute_bytes",
            "projector_bytes",
        ):
            sizes[name] = max(getattr(self, name) - excess, 0)
            excess -= getattr(self, name) - sizes[name]
        cache = self.kv_cache.without(excess)
        excess -= self.kv_cache.total_bytes - cache.total_bytes
        return replace(self, kv_cache=cache, weights_bytes=self.weights_bytes - excess, **sizes)


NO_MEMORY = GpuMemory()


@dataclass(frozen=True)
class HostMemory:
    """What system memory holds of a model. Sizes in bytes; `layers` counts the output layer too.

    `weights_bytes` and `kv_cache`: of the layers that the CPU computes. `embeddings_bytes`: of the input, which lie
    here beside any GPU. Weights and embeddings are mapped from the file; `repacked_bytes` are copies beside them.
    """

    layers: int = 0
    embeddings_bytes: int = 0
    weights_bytes: int = 0
    kv_cache: KvCache = NO_CACHE
    compute_bytes: int = 0
    output_bytes: int = 0
    repacked_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All that the model takes of system memory."""
        buffers_bytes = self.compute_bytes + self.output_bytes + self.repacked_bytes
        return self.embeddings_bytes + self.weights_bytes + self.kv_cache.total_bytes + buffers_bytes


NO_HOST = HostMemory()


@dataclass(frozen=True)
class ModelMemory:
    """What lies where of a loaded model.

    basis: 'exact' when the architecture's rules are known, 'estimate' when they are not: then an upper bound, and
    `note` says of what.
    """

    gpus: tuple[GpuMemory, ...] = ()
    host: HostMemory = NO_HOST
    basis: str = EXACT
    note: str = ""

    @property
    def gpu_bytes(self) -> int:
        """What it takes of all GPUs together."""
        return sum(gpu.total_bytes for gpu in self.gpus)

    @property
    def gpu_layers(self) -> int:
        """Layers on GPUs."""
        return sum(gpu.layers for gpu in self.gpus)


NOTHING = ModelMemory()
