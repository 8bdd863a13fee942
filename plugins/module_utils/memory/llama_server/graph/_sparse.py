# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers whose attention sees only the cells that an indexer has chosen.

Source: llama.cpp src/models/deepseek32.cpp and glm-dsa.cpp; src/llama-graph.cpp, build_attn (b10488).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import has_indexer
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Form,
    added,
    attention,
    elementwise,
    norm,
    operation,
    output_projection,
    product,
    reshaped,
    rows,
    stored,
    view,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    HALF_BYTES,
    INDEX_BYTES,
    LONG_INDEX_BYTES,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._layers import (
    Style,
    fed_forward,
    latent_attention_heads,
    turned,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape


def sparse_latent_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer with latent attention over the cells that its indexer, or that of a layer before it, has chosen."""
    layer = context.shape.layers[index]
    normed = norm(context, form, "attn_norm", source)
    compressed = norm(context, form, "attn_q_a_norm", product(context, form["attn_q_a.weight"][1], normed))
    if has_indexer(context.shape, layer):
        context.chosen_cells = _chosen(context, form, layer, compressed, normed)
    heads, decompressed = latent_attention_heads(context, form, layer, normed, compressed=compressed)
    mask = _mask_of_chosen(context, layer)
    result = attention(context, layer, heads, decompressed_length=decompressed, mask=mask)
    current = output_projection(context, form, result)
    if is_last:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    middle = added(current, source)
    network = fed_forward(context, style, form, norm(context, form, "ffn_norm", middle))
    return added(network, middle)


def _chosen(context: Context, form: Form, layer: LayerShape, compressed: Tensor, normed: Tensor) -> Tensor:
    """The numbers of the cells that the indexer chooses for each token; its own keys are stored now."""
    number, tokens = context.shape.number, context.tokens
    length, heads = number("attention.indexer.key_length"), number("attention.indexer.head_count")
    each, slots, cells = context.tokens_per_slot, context.slots, context.cells(layer)
    query = product(context, length * heads, compressed)
    query = turned(context, reshaped(query, length, heads, tokens))
    key = norm(context, form, "indexer.k_norm", product(context, length, normed), centred=True)
    key = turned(context, reshaped(key, length, 1, tokens))
    matrix = context.input("indexer rotation", (length, length))
    query = operation((length, heads, tokens), matrix, query)
    key = operation((length, 1, tokens), matrix, key)
    stored(context, view(key, (length, tokens)), context.input("indexer key rows", (tokens,), LONG_INDEX_BYTES))
    weights = product(context, heads, normed)
    weights = operation((heads, each, 1, slots), view(weights, (heads, each, 1, slots)))
    mask = context.input("indexer mask", (cells, each, 1, slots), HALF_BYTES)
    scores = operation((cells, each, 1, slots), view(query, (length, heads, each, slots)), weights, mask)
    count = min(cells, number("attention.indexer.top_k"))
    best = operation((count, each, 1, slots), scores, element_bytes=INDEX_BYTES)
    return operation(best.shape, best, element_bytes=INDEX_BYTES)


def _mask_of_chosen(context: Context, layer: LayerShape) -> Tensor:
    """The mask of a layer, without the cells that were not chosen."""
    if context.chosen_cells is None:
        raise ValueError("the first layers have no indexer, and nothing before them has chosen cells")
    whole, chosen = context.mask(layer), context.chosen_cells
    count, each, _one, slots = chosen.shape
    zeros = elementwise(Tensor((1, count, each, slots), is_input=True, is_scratch=True))
    hidden = elementwise(whole)
    shown = Tensor(
        (1, *whole.shape[:2], slots),
        (zeros, view(chosen, (count, each, slots)), view(hidden, (1, *whole.shape[:2], slots))),
        element_bytes=whole.element_bytes,
        root=hidden,
    )
    return Tensor(
        whole.shape, (view(shown, whole.shape), whole), element_bytes=whole.element_bytes, reuses=True
    )
