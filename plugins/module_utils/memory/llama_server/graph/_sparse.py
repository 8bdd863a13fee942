# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers whose attention sees only the cells that an indexer has chosen.

Source: llama.cpp src/models/deepseek32.cpp and glm-dsa.cpp; src/models/minimax-m3.cpp; src/llama-graph.cpp, build_attn (b10488).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import has_indexer
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Form,
    added,
    attention,
    elementwise,
    half_precision_copy_bytes,
    norm,
    operation,
    output_projection,
    permuted,
    product,
    reshaped,
    rotated_back,
    rotated_heads,
    rows,
    store,
    stored,
    view,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    FLOAT_BYTES,
    HALF_BYTES,
    INDEX_BYTES,
    LONG_INDEX_BYTES,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._layers import (
    Style,
    attention_heads,
    fed_forward,
    latent_attention_heads,
    transformer_layer,
    turned,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape

# An empty context has so many positions: the engine reserves the buffer before it has any token.
# Source: llama.cpp src/llama-kv-cache-msa.cpp, get_n_pos (b10488)
POSITIONS_AT_FIRST = 256


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
    if context.chosen_cells is None:
        raise ValueError("the first layers have no indexer, and nothing before them has chosen cells")
    mask = mask_of_chosen(context.mask(layer), context.chosen_cells)
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


def mask_of_chosen(whole: Tensor, chosen: Tensor, zero_bytes: int = FLOAT_BYTES) -> Tensor:
    """A mask without the cells that were not chosen. zero_bytes: of what shows one that was."""
    count, each, _one, slots = chosen.shape
    zeros = elementwise(
        Tensor((1, count, each, slots), element_bytes=zero_bytes, is_input=True, is_scratch=True)
    )
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


def sparse_block_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer whose indexer chooses blocks of cells, if it has one; without flash attention it sees all."""
    layer = context.shape.layers[index]
    if not has_indexer(context.shape, layer) or not context.attention.is_flash:
        return transformer_layer(context, style, form, index, source, is_last)
    normed = norm(context, form, "attn_norm", source)
    current = output_projection(context, form, _over_blocks(context, style, form, index, normed))
    if is_last:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    middle = added(current, source)
    network = fed_forward(context, style, form, norm(context, form, "ffn_norm", middle))
    return added(network, middle)


def _over_blocks(context: Context, style: Style, form: Form, index: int, normed: Tensor) -> Tensor:
    """Attention over the blocks that each group of heads has chosen, one slot after the other."""
    layer, number, tokens = context.shape.layers[index], context.shape.number, context.tokens
    length, groups = number("attention.indexer.key_length"), number("attention.indexer.head_count")
    each, width = context.tokens_per_slot, layer.value_length * layer.head_count
    heads = attention_heads(context, style, form, layer, normed, index)
    index_query = reshaped(product(context, length * groups, normed), length, groups, tokens)
    index_key = reshaped(product(context, length, normed), length, 1, tokens)
    index_query = turned(context, norm(context, form, "indexer.q_norm", index_query))
    index_key = turned(context, norm(context, form, "indexer.k_norm", index_key))
    stored(
        context, view(index_key, (length, tokens)), context.input("indexer key rows", (tokens,), LONG_INDEX_BYTES)
    )
    heads = rotated_heads(context, layer, heads)
    for part in (heads.query, heads.key, heads.value):
        if part is not None:
            context.graph.expand(part)
    store(context, layer, heads.key, heads.value)
    if context.single_mask is None:
        mask = context.mask(layer)
        context.single_mask = operation(mask.shape, mask)
    result = None
    for _slot in range(context.slots):
        query = view(heads.query, (layer.key_length, layer.head_count, each), is_plain=True)
        mask = _mask_of_blocks(context, layer, view(index_query, (length, groups, each), is_plain=True))
        query = permuted(reshaped(query, layer.key_length, layer.head_count // groups, groups, each), 0, 2, 3, 1)
        seen = Tensor(
            (layer.value_length, layer.head_count // groups, each, groups),
            (query, mask),
            padding_bytes=half_precision_copy_bytes(context, layer, is_latent=False) // context.slots,
        )
        seen = reshaped(operation(seen.shape, permuted(seen, 0, 1, 3, 2)), width, each)
        result = seen if result is None else operation((width, result.shape[1] + each), result, seen)
    if result is None:
        raise ValueError("a context has at least one slot")
    return rotated_back(context, layer, result)


def _mask_of_blocks(context: Context, layer: LayerShape, query: Tensor) -> Tensor:
    """The mask of one slot's tokens for each group of heads: of all cells but those in blocks that were not chosen."""
    number, cells, slots = context.shape.number, context.cells(layer), context.slots
    length, groups, each = query.shape[:3]
    block = number("attention.indexer.block_size", 1)
    positions = -(-POSITIONS_AT_FIRST // block) * block
    blocks = positions // block
    count = min(number("attention.indexer.top_k"), blocks)

    def piece(name: str, whole: tuple[int, ...], shape: tuple[int, ...], element_bytes: int = 4) -> Tensor:
        return view(context.input(name, whole, element_bytes), shape, is_plain=True)

    cell_of = piece("cells of positions", (positions, slots), (positions,), INDEX_BYTES)
    visible = piece("visible positions", (positions, context.tokens), (positions, 1, each))
    bias = piece("local blocks", (blocks, context.tokens), (blocks, 1, each))
    block_of = piece("blocks of cells", (cells, slots), (cells,), INDEX_BYTES)
    if context.single_mask is None:
        raise ValueError("the mask in single precision comes before those of blocks")
    keys = operation((length, positions), cell_of)
    scores = operation((positions, groups * each), keys, reshaped(query, length, groups * each))
    scores = reshaped(scores, positions, groups, each)
    scores = Tensor(scores.shape, (scores, visible), root=scores.root, writes=True)
    best = elementwise(operation((blocks, groups, each), scores), bias)
    chosen = operation((count, groups, each), best, element_bytes=INDEX_BYTES)
    zeros = elementwise(operation(chosen.shape, chosen))
    hidden = operation((blocks, 1, each), elementwise(bias), element_bytes=HALF_BYTES)
    hidden = operation((blocks, groups, each), hidden, element_bytes=HALF_BYTES)
    shown = Tensor(
        (1, blocks, groups * each),
        (
            reshaped(zeros, 1, count, groups * each),
            reshaped(chosen, count, groups * each),
            reshaped(hidden, 1, blocks, groups * each),
        ),
        element_bytes=HALF_BYTES,
        root=hidden,
        writes=True,
    )
    shown = operation(
        (blocks, each, groups),
        permuted(reshaped(shown, blocks, groups, each), 0, 2, 1, 3),
        element_bytes=HALF_BYTES,
    )
    by_block = operation(
        (each * groups, blocks), permuted(reshaped(shown, blocks, each * groups), 1, 0, 2, 3), element_bytes=HALF_BYTES
    )
    by_cell = operation((each * groups, cells), by_block, block_of)
    mask = reshaped(operation((cells, each * groups), permuted(by_cell, 1, 0, 2, 3)), cells, each, groups)
    own = view(context.single_mask, (cells, each, 1), is_plain=True)
    mask = Tensor(mask.shape, (mask, own), root=mask.root, writes=True)
    return operation((cells, each, 1, groups), reshaped(mask, cells, each, 1, groups), element_bytes=HALF_BYTES)
