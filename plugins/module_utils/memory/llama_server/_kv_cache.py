# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the KV cache takes: the cells of full attention and of sliding windows, and recurrent states."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._remembered import remembered
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import padded
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import traits
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape, ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import (
    CUDA_ALIGNMENT_BYTES,
    cuda_tensor_bytes,
    tensor_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import (
    AS_FIRST_READ,
    EngineRules,
)

# Cells are allotted in multiples of this.
# Source: llama.cpp src/llama-context.cpp and src/llama-kv-cache-iswa.cpp, GGML_PAD(..., 256) (b10488)
CELL_PADDING = 256
RECURRENT_BYTES_PER_ELEMENT = 4
# Key of the header: elements of an indexer's key; and how the names of its tensors begin.
INDEXER_KEYS = "attention.indexer.key_length"
INDEXER_TENSORS = "indexer."
# Key of the header: how many of the last blocks predict further tokens, and never run.
PREDICTING_BLOCKS = "nextn_predict_layers"
# Tensor of a layer that compresses older tokens: a row for each of those that become one.
COMPRESSOR = "attn_compressor_ape.weight"
# Where so few become one, rows overlap and an indexer chooses among them.
# Source: llama.cpp src/llama-kv-cache-dsv4.cpp, DSV4_CSA_RATIO (b10362 to b11434)
OVERLAPPING_RATIO = 4


@dataclass(frozen=True)
class Cells:
    """How a context is laid out: cells per slot, slots, and tokens computed at once.

    ahead: cells per slot of blocks that only predict further tokens, and never run.
    """

    full: int
    sliding: int
    slots: int
    batch: int
    ahead: int = 0

    @remembered
    def tokens(self) -> int:
        """Tokens computed at once, as many of each slot."""
        return padded(self.batch, self.slots)


def cells(
    shape: ModelShape,
    context_length: int,
    parallel: int,
    batch: int,
    engine: EngineRules = AS_FIRST_READ,
) -> Cells:
    """Cells of a context of `context_length` tokens for each of `parallel` slots.

    Source: llama.cpp src/llama-context.cpp (n_ctx_seq, n_ubatch) and src/llama-kv-cache-iswa.cpp (b10488).
    """
    total = padded(context_length * parallel, CELL_PADDING)
    full = padded(total // parallel, CELL_PADDING)
    batch = min(batch, full * parallel if shape.is_encoder else context_length * parallel)
    sliding = padded(min(full, shape.sliding_window + batch), CELL_PADDING) if shape.sliding_window else 0
    caches_ahead = engine.caches_predictions and not traits(shape.architecture).skips_predictions
    ahead = full if caches_ahead and shape.number(PREDICTING_BLOCKS) else 0
    return Cells(full=full, sliding=sliding, slots=parallel, batch=batch, ahead=ahead)


@lru_cache(maxsize=256)
def widest_value(shape: ModelShape) -> int:
    """Elements of the widest value row of any layer."""
    return max(layer.value_width for layer in shape.layers)


def layer_cache(
    shape: ModelShape,
    index: int,
    layout: Cells,
    kv_cache_type: str,
    *,
    transposed_values: bool,
    on_cpu: bool = False,
) -> KvCache:
    """What one layer keeps for all slots.

    transposed_values: without flash attention values lie transposed, all as wide as the widest layer's.
    Source: llama.cpp src/llama-kv-cache.cpp and src/llama-memory-recurrent.cpp (b10488).
    """
    layer = shape.layers[index]
    recurrent_bytes = 0
    if layer.is_recurrent:
        recurrent_bytes = sum(
            padded(RECURRENT_BYTES_PER_ELEMENT * size * layout.slots, CUDA_ALIGNMENT_BYTES)
            for size in (shape.convolution_state_size, shape.recurrent_state_size)
        )
    attention_bytes = 0
    if traits(shape.architecture).compresses and layer.cache_layer == index:
        return KvCache(0, _compressed_bytes(shape, layer, layout, kv_cache_type, on_cpu=on_cpu), recurrent_bytes)
    predicts = index >= shape.block_count - shape.number(PREDICTING_BLOCKS)
    if layer.cache_layer == index or (predicts and layout.ahead):
        widths = _cached_widths(shape, layer, transposed_values)
        count = layout.sliding if layer.attention == "sliding" else layout.full
        sized = tensor_bytes if on_cpu else cuda_tensor_bytes
        attention_bytes = sum(sized(kv_cache_type.upper(), (width, count, layout.slots)) for width in widths)
    if layer.attention == "sliding":
        return KvCache(0, attention_bytes, recurrent_bytes)
    return KvCache(attention_bytes, 0, recurrent_bytes)


def _cached_widths(shape: ModelShape, layer: LayerShape, transposed_values: bool) -> list[int]:
    """Widths of the rows that a layer caches: keys and values, or with latent attention one latent.

    A sparse attention's indexer keeps keys of its own in the layers that have one, and where attention is not latent
    values too, as if they had one head.
    Source: llama.cpp src/llama-kv-cache-dsa.cpp and src/llama-kv-cache-msa.cpp (b10488).
    """
    indexer = shape.number(INDEXER_KEYS) if has_indexer(shape, layer) else 0
    if shape.is_latent_attention:
        return [width for width in (layer.key_width, indexer) if width]
    value = widest_value(shape) if transposed_values else layer.value_width
    return [width for width in (layer.key_width, value, indexer, indexer and layer.value_length) if width]


def compression(shape: ModelShape, layer: LayerShape) -> int:
    """How many older tokens a layer makes one row of; 0 where it forgets them."""
    return next((lengths[1] for name, lengths in shape.forms[layer.form] if name == COMPRESSOR), 0)


def compressed_cells(layout: Cells, ratio: int) -> int:
    """Rows that tokens are compressed into, for each slot."""
    return padded(max(1, -(-layout.full // ratio)), CELL_PADDING)


def state_rows(ratio: int) -> int:
    """Tokens that a slot keeps until they are compressed."""
    return 2 * ratio if ratio == OVERLAPPING_RATIO else ratio


def _compressed_bytes(
    shape: ModelShape, layer: LayerShape, layout: Cells, kv_cache_type: str, *, on_cpu: bool
) -> int:
    """A window of tokens, what older ones are compressed into, and the indexer's keys; keys alone, which are the values too.

    What will be compressed is kept in single precision with its scores.
    Source: llama.cpp src/llama-kv-cache-dsv4.cpp (b10362 to b11434).
    """
    ratio, sized = compression(shape, layer), tensor_bytes if on_cpu else cuda_tensor_bytes
    cached = [(layer.key_width, layout.sliding)]
    kept = []
    if ratio:
        cached.append((layer.key_width, compressed_cells(layout, ratio)))
        kept.append(layer.key_width)
    if ratio == OVERLAPPING_RATIO:
        cached.append((shape.number(INDEXER_KEYS), compressed_cells(layout, ratio)))
        kept = [2 * length for length in (layer.key_width, shape.number(INDEXER_KEYS))]
    total = sum(sized(kv_cache_type.upper(), (width, count, layout.slots)) for width, count in cached)
    return total + sum(2 * sized("F32", (width, state_rows(ratio), layout.slots)) for width in kept)


def has_indexer(shape: ModelShape, layer: LayerShape) -> bool:
    """Whether a layer chooses which cells its attention sees; all do where no tensor says which."""
    return shape.number(INDEXER_KEYS) > 0 and layer.form in _forms_with_indexer(shape)


@lru_cache(maxsize=256)
def _forms_with_indexer(shape: ModelShape) -> frozenset[int]:
    found = {
        number
        for number, form in enumerate(shape.forms)
        if any(name.startswith(INDEXER_TENSORS) for name, _lengths in form)
    }
    return frozenset(found or range(len(shape.forms)))


@lru_cache(maxsize=256)
def kinds_of_cache(shape: ModelShape) -> tuple[tuple[object, ...], ...]:
    """For each layer what tells it apart from those that keep different amounts."""
    first_predicting = shape.block_count - shape.number(PREDICTING_BLOCKS)
    indexed = _forms_with_indexer(shape) if shape.number(INDEXER_KEYS) > 0 else ()
    return tuple(
        (
            layer.attention,
            layer.is_recurrent,
            layer.cache_layer == index,
            layer.key_width,
            layer.value_width,
            index >= first_predicting,
            layer.form in indexed,
            compression(shape, layer),
        )
        for index, layer in enumerate(shape.layers)
    )


@lru_cache(maxsize=1024)
def _first_alike(shape: ModelShape) -> tuple[int, ...]:
    """For each layer the first one that keeps as much."""
    firsts: dict[tuple[object, ...], int] = {}
    return tuple(firsts.setdefault(kind, index) for index, kind in enumerate(kinds_of_cache(shape)))


def each_cache(
    shape: ModelShape,
    indices: range,
    layout: Cells,
    kv_cache_type: str,
    *,
    transposed_values: bool,
    on_cpu: bool = False,
) -> list[KvCache]:
    """What each of several layers keeps for all slots."""
    alike = _first_alike(shape)[indices.start : indices.stop]
    known = {
        index: layer_cache(
            shape, index, layout, kv_cache_type, transposed_values=transposed_values, on_cpu=on_cpu
        )
        for index in set(alike)
    }
    return [known[index] for index in alike]


def layers_cache(
    shape: ModelShape,
    indices: range,
    layout: Cells,
    kv_cache_type: str,
    *,
    transposed_values: bool,
    on_cpu: bool = False,
) -> KvCache:
    """What several layers keep for all slots."""
    alike = Counter(_first_alike(shape)[indices.start : indices.stop])
    full, sliding, recurrent = 0, 0, 0
    for index, count in alike.items():
        one = layer_cache(
            shape, index, layout, kv_cache_type, transposed_values=transposed_values, on_cpu=on_cpu
        )
        full += count * one.full_attention_bytes
        sliding += count * one.sliding_window_bytes
        recurrent += count * one.recurrent_bytes
    return KvCache(full, sliding, recurrent)
