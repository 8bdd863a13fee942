# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model takes of GPU memory at the very least: quickly computed, so that a search can skip what is hopeless."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    cells,
    kinds_of_cache,
    layer_cache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape


class LeastMemory:
    """Weights, projector and KV cache of one model at the smallest batch; compute buffers are left out.

    So is the cache of blocks that only predict further tokens, which not every build of the engine has.
    It never falls when the context length or the number of slots grows.
    """

    def __init__(self, shape: ModelShape) -> None:
        self._shape = shape
        self._weights_bytes = (
            sum(layer.weights_bytes for layer in shape.layers)
            + shape.first_layer_bytes
            + shape.output_bytes
            + shape.per_device_bytes
            + shape.projector_bytes
            + shape.inline_projector_bytes
        )
        alike: Counter[tuple[object, ...]] = Counter()
        self._layers: dict[tuple[object, ...], int] = {}
        for index, kind in enumerate(kinds_of_cache(shape)):
            alike[kind] += 1
            self._layers[kind] = index
        self._alike = alike
        self._known: dict[tuple[int, int, str], int] = {}

    def bytes(self, context_length: int, parallel: int, kv_cache_type: str) -> int:
        """Bytes that the model takes of all GPUs together."""
        key = (context_length, parallel, kv_cache_type)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._weights_bytes + self._caches_bytes(*key)
        return known

    def _caches_bytes(self, context_length: int, parallel: int, kv_cache_type: str) -> int:
        layout = replace(cells(self._shape, context_length, parallel, 1), ahead=0)
        return sum(
            count
            * layer_cache(
                self._shape, self._layers[kind], layout, kv_cache_type, transposed_values=False
            ).total_bytes
            for kind, count in self._alike.items()
        )
