# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that Ollama's own engine (0.11.11 to 0.24) allocates for the models that run in it."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB, padded
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
    uses_flash_attention,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._formula import (
    KNOWN_TOWERS,
    tower_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape, ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import Version

# Cells of a cache come in such multiples. Source: ollama ml/backend/ggml/ggml.go, CacheConfig().
CELL_PADDING = 256
# Sliding layers of gpt-oss keep more tokens than their window. Source: ollama model/models/gptoss/model.go.
KEPT_WINDOW = {"gpt-oss": 4096}
CACHE_BYTES_PER_32 = {"f16": 64, "q8_0": 34, "q4_0": 18}
RECURRENT_BYTES_PER_ELEMENT = 4
# The graph beside its masks, against the widest point of one layer: fitted to the sizes that 0.12 and 0.13
# logged for gemma3:1b and qwen3:30b-a3b.
GRAPH_FACTOR_PERCENT = 150
# Graph of gemma3's vision tower in llama.cpp, which computes it alike.
VISION_GRAPH_BYTES = 122 * MIB
# Pixels of the largest image that a tower is given, where that is not a square of its own.
# Source: ollama model/models/qwen25vl/process_image.go (0.13.3, 0.13.4), model/models/qwen3vl/imageprocessor.go (0.12.7 to 0.24).
_FEWER_PIXELS = 28 * 28 * 1280
_MORE_PIXELS = 2 << 20
_MORE_PIXELS_SINCE = (0, 13, 4)
_BY_PIXELS = frozenset(("qwen25vl", "qwen3vl", "qwen3vlmoe"))
# Its tower computes attention without the fused operation, whatever the settings, and adds a mask to it.
_WITHOUT_FLASH = "qwen25vl"


def go_engine_memory(shape: ModelShape, settings: LoadSettings, version: Version) -> BelievedMemory:
    """What the engine allocates for a model.

    Full-attention layers keep a context per slot; sliding-window layers one window per slot and one batch.

    Source: ollama kvcache/causal.go, Init(); llm/server.go, createLayout() (0.11.11 to 0.24).
    """
    flash = uses_flash_attention(shape, settings.flash_attention, version)
    parallel = settings.parallel
    batch = min(settings.batch, settings.context_length)
    row_bytes = CACHE_BYTES_PER_32[settings.kv_cache_type if flash else "f16"]
    full_cells = padded(parallel * settings.context_length, CELL_PADDING)
    window = KEPT_WINDOW.get(shape.architecture, shape.sliding_window)
    sliding_cells = min(full_cells, padded(parallel * window + batch, CELL_PADDING)) if window else 0
    caches = tuple(
        _cache(shape, layer, parallel, row_bytes, full_cells, sliding_cells)
        if layer.cache_layer in (None, i)
        else KvCache()
        for i, layer in enumerate(shape.layers)
    )
    projector = shape.projector_bytes or shape.inline_projector_bytes
    graph = _graph_bytes(shape, batch, full_cells, sliding_cells, flash)
    if projector:
        beside_scores = VISION_GRAPH_BYTES * GRAPH_FACTOR_PERCENT // 100
        graph = max(graph, beside_scores + _tower_scores_bytes(shape, version, flash=flash))
    return BelievedMemory(
        layer_weights_bytes=tuple(layer.weights_bytes for layer in shape.layers),
        caches=caches,
        output_bytes=shape.output_bytes,
        beside_output_bytes=projector,
        first_gpu_bytes=0,
        graph_bytes=graph,
        partial_graph_bytes=graph,
        buffer_bytes=0,
        host_bytes=shape.input_host_bytes,
        note="the graph of Ollama's own engine is an estimate within a tenth of the total",
    )


def _tower_scores_bytes(shape: ModelShape, version: Version, *, flash: bool) -> int:
    """The attention of a vision tower over the largest image: a score for every two patches and each head.

    None where one fused operation keeps none; the tower of gemma3 is measured as a whole.

    Source: ollama runner/ollamarunner/runner.go (reserveWorstCaseGraph); model/models/*/model_vision.go; issues 13687 and
    13722: 1.8 GiB for qwen2.5vl:3b, and 6.7 GiB from 0.13.4 on.
    """
    tower = tower_of(shape)
    if tower is None or shape.architecture in KNOWN_TOWERS or (flash and shape.architecture != _WITHOUT_FLASH):
        return 0
    patches = (tower.image // tower.patch) ** 2
    if shape.architecture in _BY_PIXELS:
        is_larger = shape.architecture != "qwen25vl" or version.release >= _MORE_PIXELS_SINCE
        usual = _MORE_PIXELS if is_larger else _FEWER_PIXELS
        patches = shape.number("vision.max_pixels", usual) // tower.patch**2
    masks = shape.architecture == _WITHOUT_FLASH
    return 4 * patches**2 * (tower.heads + masks)


def _cache(
    shape: ModelShape,
    layer: LayerShape,
    parallel: int,
    row_bytes: int,
    full_cells: int,
    sliding_cells: int,
) -> KvCache:
    if layer.is_recurrent:
        elements = shape.convolution_state_size + shape.recurrent_state_size
        return KvCache(recurrent_bytes=RECURRENT_BYTES_PER_ELEMENT * elements * parallel)
    width = layer.key_width + (0 if shape.is_latent_attention else layer.value_width)
    if layer.attention == "sliding":
        return KvCache(sliding_window_bytes=sliding_cells * width * row_bytes // 32)
    if layer.attention == "full":
        return KvCache(full_attention_bytes=full_cells * width * row_bytes // 32)
    return KvCache()


def _graph_bytes(shape: ModelShape, batch: int, full_cells: int, sliding_cells: int, flash: bool) -> int:
    widest = max(
        _widest_point(shape, layer, sliding_cells if layer.attention == "sliding" else full_cells, flash)
        for layer in shape.layers
    )
    masks = (2 if flash else 4) * batch * (full_cells + sliding_cells)
    return masks + 4 * batch * widest * GRAPH_FACTOR_PERCENT // 100


def _widest_point(shape: ModelShape, layer: LayerShape, cells: int, flash: bool) -> int:
    """Elements for one token where a layer has the most at once: in its network, or in its scores."""
    embedding = shape.embedding_length
    used = shape.number("expert_used_count")
    expert = shape.number("expert_feed_forward_length")
    queries = layer.head_count * max(layer.key_length, layer.value_length)
    network = 3 * layer.feed_forward_length + 2 * embedding + queries
    if used:
        network = max(
            3 * used * expert + 2 * embedding + queries, 2 * used * embedding + used * expert + 2 * embedding
        )
    return network if flash else max(network, layer.head_count * cells + 2 * embedding + 2 * queries)
