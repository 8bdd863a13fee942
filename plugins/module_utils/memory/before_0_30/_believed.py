# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama before 0.30 believes of a model: the form of its estimate, and what both of its rules share."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._cache import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._families import family
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._versions import Version

# What Ollama sets aside on each GPU beside its allocations. Source: ollama ml/device.go, MinimumMemory().
MINIMUM_GPU_BYTES = 457 * MIB


@dataclass(frozen=True)
class BelievedMemory:
    """What Ollama before 0.30 believes a model to take, layer by layer. Sizes in bytes.

    `last_bytes`: the output with what Ollama keeps beside it. `first_gpu_bytes`: a separate projector.
    `graph_bytes` where all layers lie on one GPU, `partial_graph_bytes` on each GPU otherwise.
    `buffer_bytes`: what is set aside on each GPU for one more layer. `host_bytes`: the input embeddings.
    `caches`: of each layer.
    """

    layer_weights_bytes: tuple[int, ...]
    caches: tuple[KvCache, ...]
    last_bytes: int
    first_gpu_bytes: int
    graph_bytes: int
    partial_graph_bytes: int
    buffer_bytes: int
    host_bytes: int
    note: str

    @property
    def layers_bytes(self) -> tuple[int, ...]:
        """Weights and cache of each layer."""
        return tuple(
            weights + cache.total_bytes for weights, cache in zip(self.layer_weights_bytes, self.caches)
        )

    @property
    def kv_cache(self) -> KvCache:
        total = KvCache()
        for cache in self.caches:
            total += cache
        return total

    @property
    def required_bytes(self) -> int:
        """All of it on one GPU, with what Ollama sets aside there."""
        return (
            MINIMUM_GPU_BYTES
            + self.buffer_bytes
            + sum(self.layers_bytes)
            + self.last_bytes
            + self.first_gpu_bytes
            + self.graph_bytes
        )


def uses_flash_attention(shape: ModelShape, flash_attention: str, version: Version) -> bool:
    """Whether a model runs with flash attention; without it the cache is never quantised.

    Source: ollama fs/ggml/ggml.go, FlashAttention() and SupportsFlashAttention() (0.11.8 to 0.24).
    """
    known = family(shape.architecture)
    if flash_attention == "off" or shape.is_embedding or not known.can_flash:
        return False
    lengths = {(layer.key_length, layer.value_length) for layer in shape.layers if layer.attention != "none"}
    if any(key != value for key, value in lengths):
        return False
    return flash_attention == "on" or known.flashes_by_default(version.release)
