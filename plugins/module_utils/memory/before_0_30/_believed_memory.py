# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama before 0.30 believes of a model: the form of its estimate, and what both of its rules share."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    ESTIMATE,
    NO_CACHE,
    GpuMemory,
    HostMemory,
    KvCache,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._families import family
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import Version

# What Ollama sets aside on each GPU beside its allocations. Source: ollama ml/device.go, MinimumMemory().
MINIMUM_GPU_BYTES = 457 * MIB


@dataclass(frozen=True)
class BelievedMemory:
    """What Ollama before 0.30 believes a model to take, layer by layer. Sizes in bytes.

    `output_bytes`: weights of the output. `beside_output_bytes`: a projector that Ollama keeps with them.
    `first_gpu_bytes`: a separate projector.
    `graph_bytes` where all layers lie on one GPU, `partial_graph_bytes` on each GPU otherwise.
    `buffer_bytes`: what is set aside on each GPU for one more layer. `host_bytes`: the input embeddings.
    `caches`: of each layer.
    """

    layer_weights_bytes: tuple[int, ...]
    caches: tuple[KvCache, ...]
    output_bytes: int
    beside_output_bytes: int
    first_gpu_bytes: int
    graph_bytes: int
    partial_graph_bytes: int
    buffer_bytes: int
    host_bytes: int
    note: str

    @property
    def last_bytes(self) -> int:
        """The output with what Ollama keeps beside it."""
        return self.output_bytes + self.beside_output_bytes

    @property
    def layers_bytes(self) -> tuple[int, ...]:
        """Weights and cache of each layer."""
        return tuple(
            weights + cache.total_bytes for weights, cache in zip(self.layer_weights_bytes, self.caches)
        )

    @property
    def kv_cache(self) -> KvCache:
        return sum(self.caches, NO_CACHE)

    @property
    def required_bytes(self) -> int:
        """All of it on one GPU, with what Ollama sets aside there."""
        return MINIMUM_GPU_BYTES + self.whole_bytes(1)

    def gpu(self, units: Sequence[int], *, compute_bytes: int, is_first: bool) -> GpuMemory:
        """What a GPU holds with these layers, the number after the last one for the output."""
        last = len(self.layer_weights_bytes)
        has_output = last in units
        layers = [unit for unit in units if unit < last]
        return GpuMemory(
            layers=len(units),
            weights_bytes=sum(self.layer_weights_bytes[layer] for layer in layers)
            + (self.output_bytes if has_output else 0),
            kv_cache=sum((self.caches[layer] for layer in layers), NO_CACHE),
            compute_bytes=compute_bytes,
            projector_bytes=(self.first_gpu_bytes if is_first else 0)
            + (self.beside_output_bytes if has_output else 0),
        )

    def whole_bytes(self, gpu_count: int) -> int:
        """What so many GPUs hold together with all of it, each with a graph; without what is set aside there."""
        graph_bytes = self.graph_bytes if gpu_count == 1 else self.partial_graph_bytes
        once_bytes = sum(self.layers_bytes) + self.last_bytes + self.first_gpu_bytes
        return once_bytes + gpu_count * (graph_bytes + self.buffer_bytes)

    def on_one_gpu(self) -> ModelMemory:
        """All of it on one GPU, without what Ollama sets aside there."""
        units = range(len(self.layer_weights_bytes) + 1)
        compute_bytes = self.graph_bytes + self.buffer_bytes
        return self.with_rest(self.gpu(units, compute_bytes=compute_bytes, is_first=True))

    def with_rest(self, *gpus: GpuMemory) -> ModelMemory:
        """What lies on these GPUs, and the rest of the model in system memory."""
        weights_bytes = sum(self.layer_weights_bytes) + self.output_bytes
        host = HostMemory(
            layers=len(self.layer_weights_bytes) + 1 - sum(gpu.layers for gpu in gpus),
            embeddings_bytes=self.host_bytes,
            weights_bytes=weights_bytes - sum(gpu.weights_bytes for gpu in gpus),
            kv_cache=self.kv_cache - sum((gpu.kv_cache for gpu in gpus), NO_CACHE),
        )
        return ModelMemory(gpus, host, ESTIMATE, self.note)


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
