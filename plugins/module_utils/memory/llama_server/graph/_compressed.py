# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of DeepSeek V4: several residual streams, a window of tokens, and what older tokens are compressed into.

Of every few tokens each layer makes one row, some layers of many more; an indexer chooses among the rows of the former.
Source: llama.cpp src/models/deepseek4.cpp and src/llama-kv-cache-dsv4.cpp (b10362 to b11434).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    OVERLAPPING_RATIO,
    compressed_cells,
    compression,
    state_rows,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Form,
    added,
    elementwise,
    experts,
    feed_forward,
    norm,
    operation,
    permuted,
    product,
    reshaped,
    root_mean_square_norm,
    rows,
    stored,
    view,
    weighted,
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
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._sparse import (
    mask_of_chosen,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import tensor_bytes

MAX_STREAMS = 16


def _streams(context: Context) -> int:
    count = context.shape.number("hyper_connection.count")
    if not 1 < count <= MAX_STREAMS:
        raise ValueError(f"{count} residual streams, expected 2 to {MAX_STREAMS}")
    return count


def begin_streams(context: Context, embedding: Tensor) -> Tensor:
    """The residual streams, all of which are the embeddings at first."""
    width, tokens = embedding.shape[:2]
    return operation((width, _streams(context), tokens), reshaped(embedding, width, 1, tokens))


def resume_streams(context: Context, _after_last: bool) -> Tensor:
    """The residual streams as another device hands them over."""
    return context.input("residual streams", (context.shape.embedding_length, _streams(context), context.tokens))


@dataclass(frozen=True)
class _Mixed:
    """One stream of several, and by what a result of it goes back to them."""

    single: Tensor
    after: Tensor
    among: Tensor


def _mixes(context: Context, form: Form, name: str, streams: Tensor) -> Tensor:
    """How much of each stream a token takes."""
    width, count, tokens = streams.shape[:3]
    return product(context, form[name][1], root_mean_square_norm(reshaped(streams, width * count, tokens)))


def _scaled(context: Context, source: Tensor) -> Tensor:
    """Scaled, moved and put between bounds."""
    moved = weighted(context, elementwise(weighted(context, elementwise(source))))
    return elementwise(elementwise(moved))


def _mixed(context: Context, form: Form, name: str, streams: Tensor) -> _Mixed:
    width, count, tokens = streams.shape[:3]
    mixes = _mixes(context, form, f"{name}_fn.weight", streams)
    before = _scaled(context, view(mixes, (count, tokens)))
    after = _scaled(context, view(mixes, (count, tokens)))
    among = weighted(context, operation((count, count, tokens), mixes))
    return _Mixed(operation((width, tokens), streams, before), after, among)


def _spread(result: Tensor, streams: Tensor, mixed: _Mixed) -> Tensor:
    """The residual streams with a result in them."""
    return operation(streams.shape[:3], result, streams, mixed.after, mixed.among)


def end_streams(context: Context, streams: Tensor) -> Tensor:
    """The output, of the streams of the rows wanted."""
    width, count, tokens = streams.shape[:3]
    picked = rows(reshaped(streams, width * count, tokens), context.output_rows())
    wanted = picked.shape[1]
    form = dict(context.shape.model_form)
    before = _scaled(context, _mixes(context, form, "output_hc_fn.weight", reshaped(picked, width, count, wanted)))
    total = None
    for _unused in range(count):
        part = elementwise(view(picked, (width, wanted)), view(before, (1, wanted)))
        total = part if total is None else added(total, part)
    if total is None:
        raise ValueError("there are several residual streams")
    normed = norm(context, form, "output_norm", total)
    return context.graph.expand(product(context, context.shape.vocabulary_size, normed))


def compressing_layer(
    context: Context, style: Style, form: Form, index: int, streams: Tensor, _is_last: bool
) -> Tensor:
    """One layer."""
    mixed = _mixed(context, form, "hc_attn", streams)
    normed = norm(context, form, "attn_norm", mixed.single)
    streams = _spread(_attended(context, form, index, normed), streams, mixed)
    mixed = _mixed(context, form, "hc_ffn", streams)
    for tensor in (streams, mixed.after, mixed.among):
        context.graph.expand(tensor)
    normed = norm(context, form, "ffn_norm", mixed.single)
    chosen = None
    if "ffn_gate_tid2eid.weight" in form:
        used = form["ffn_gate_tid2eid.weight"][0]
        tokens = context.input("tokens", (context.tokens,), INDEX_BYTES)
        chosen = weighted(context, operation((used, context.tokens), tokens, element_bytes=INDEX_BYTES))
    network = experts_beside_shared(context, style, form, normed, chosen)
    return _spread(network, streams, mixed)


def experts_beside_shared(
    context: Context, style: Style, form: Form, source: Tensor, chosen: Tensor | None
) -> Tensor:
    """Experts, chosen by scores or by the token itself, and the shared one."""
    result = experts(context, form, source, style.routing, chosen=chosen)
    return added(result, feed_forward(context, form, source, suffix="_shexp"))


def _turned(context: Context, source: Tensor, positions: Tensor | None = None) -> Tensor:
    """Rows of which the last elements are turned by their positions.

    Builds before turned a piece of its own and joined the row again.
    """
    by = context.positions() if positions is None else positions
    if context.engine.turns_in_place:
        return Tensor(source.shape, (source, by), reuses=True)
    part = (context.shape.number("rope.dimension_count"), *source.shape[1:3])
    rest = (source.shape[0] - part[0], *source.shape[1:3])
    piece = Tensor(part, (view(source, part), by), reuses=True)
    return operation(source.shape[:3], view(source, rest), piece)


def _by_matrix(context: Context, source: Tensor, name: str, length: int) -> Tensor:
    """Rows turned by a Hadamard matrix."""
    return operation(source.shape, context.input(name, (length, length)), source)


def _attended(context: Context, form: Form, index: int, normed: Tensor) -> Tensor:
    """What the attention of a layer gives back."""
    layer, tokens = context.shape.layers[index], context.tokens
    ratio = compression(context.shape, layer)
    compressed = norm(context, form, "attn_q_a_norm", product(context, form["attn_q_a.weight"][1], normed))
    query = product(context, layer.key_length * layer.head_count, compressed)
    query = root_mean_square_norm(reshaped(query, layer.key_length, layer.head_count, tokens))
    query = _turned(context, query)
    key = norm(context, form, "attn_kv_a_norm", product(context, layer.key_length, normed))
    key = _turned(context, reshaped(key, layer.key_length, 1, tokens))
    if ratio:
        _compress(context, form, "attn_compressor", ratio, layer.key_length, normed)
    if ratio == OVERLAPPING_RATIO:
        length = context.shape.number("attention.indexer.key_length")
        _compress(context, form, "indexer_compressor", ratio, length, normed)
    mask = None
    if ratio == OVERLAPPING_RATIO:
        count = compressed_cells(context.layout, ratio)
        chosen = _chosen(context, compressed, normed, count)
        whole = _mask_of_rows(context, count, "attn_compressor")
        mask = mask_of_chosen(whole, chosen, whole.element_bytes)
    elif ratio:
        mask = _mask_of_rows(context, compressed_cells(context.layout, ratio), "attn_compressor many")
    result = _attention(context, layer, query, key, mask)
    groups = context.shape.number("attention.output_group_count")
    result = _turned(context, reshaped(result, layer.value_length, layer.head_count, tokens))
    each = layer.value_length * layer.head_count // groups
    result = permuted(reshaped(result, each, groups, tokens), 0, 2, 1, 3)
    rank = context.shape.number("attention.output_lora_rank")
    result = permuted(product(context, rank, result), 0, 2, 1, 3)
    result = operation((rank * groups, tokens), result)
    return product(context, form["attn_output_b.weight"][1], result)


def _compress(context: Context, form: Form, name: str, ratio: int, length: int, normed: Tensor) -> None:
    """Make rows of the tokens that are there, store them, and keep what belongs to the next row.

    Where rows overlap, each is made of as many tokens again before its own.
    """
    width, tokens, kept = form[f"{name}_kv.weight"][1], context.tokens, state_rows(ratio) * context.slots
    kind = name if ratio == OVERLAPPING_RATIO else f"{name} many"

    def indices(what: str, count: int, element_bytes: int = INDEX_BYTES) -> Tensor:
        return context.input(f"{kind} {what}", (count,), element_bytes)

    values = product(context, width, normed)
    scores = product(context, width, normed)
    by_position = weighted(context, operation((width, tokens), indices("positions", tokens)))
    scores = elementwise(scores, by_position)
    count = _rows_made(context, ratio)
    joined = [operation((width, kept + tokens), one) for one in (values, scores)]
    read = count * ratio * (2 if ratio == OVERLAPPING_RATIO else 1)
    if ratio == OVERLAPPING_RATIO:
        # Before the first row there is nothing.
        nothing = [elementwise(view(one, (width,))) for one in joined]
        joined = [
            operation((width, kept + tokens + 1), one, reshaped(row, width, 1)) for one, row in zip(joined, nothing)
        ]
    taken = [operation((width, read), one, indices("read", read)) for one in joined]
    if ratio == OVERLAPPING_RATIO:
        taken = [_overlapping(one, length, ratio, count) for one in taken]
    values_of, scores_of = (
        operation((read // count, length, count), permuted(reshaped(one, length, read // count, count), 1, 0, 2, 3))
        for one in taken
    )
    row = operation((1, length, count), elementwise(values_of, elementwise(scores_of)))
    row = operation((length, 1, count), permuted(row, 1, 0, 2, 3))
    row = norm(context, form, f"{name}_norm", row)
    row = _turned(context, row, indices("written positions", count))
    if not context.caches_halves or name.startswith("indexer"):
        row = _by_matrix(context, row, f"{kind} rotation", length)
    stored(context, view(row, (length, count), is_plain=True), indices("written", count, LONG_INDEX_BYTES))
    persistent = min(tokens, kept)
    for one in (values, scores):
        new = operation((width, persistent), one, indices("persistent", persistent))
        stored(context, new, indices("persisted", persistent))


def _overlapping(taken: Tensor, length: int, ratio: int, count: int) -> Tensor:
    """Halves of rows: the first of those before, the second of a row's own."""
    halves = [operation((length, ratio * count), view(taken, (length, ratio * count))) for _unused in range(2)]
    before, own = (reshaped(half, length, ratio, count) for half in halves)
    return operation((length, 2 * ratio, count), before, own)


def _rows_made(context: Context, ratio: int) -> int:
    """So many rows a batch makes at the most."""
    if context.engine.counts_rows_together:
        return context.tokens // ratio + context.slots
    return context.slots * -(-context.tokens_per_slot // ratio)


def _chosen(context: Context, compressed: Tensor, normed: Tensor, count: int) -> Tensor:
    """The numbers of the rows that the indexer chooses for each token."""
    number, tokens, each, slots = context.shape.number, context.tokens, context.tokens_per_slot, context.slots
    length, heads = number("attention.indexer.key_length"), number("attention.indexer.head_count")
    query = _turned(context, reshaped(product(context, length * heads, compressed), length, heads, tokens))
    query = _by_matrix(context, query, "indexer_compressor rotation", length)
    weights = elementwise(product(context, heads, normed))
    mask = context.input("indexer mask", (count, each, 1, slots), HALF_BYTES)
    scores = operation(
        (count, each, 1, slots),
        view(query, (length, heads, each, slots)),
        view(weights, (heads, each, 1, slots)),
        mask,
    )
    best = operation(
        (min(count, number("attention.indexer.top_k")), each, 1, slots), scores, element_bytes=INDEX_BYTES
    )
    return operation(best.shape, best, element_bytes=INDEX_BYTES)


def _mask_of_rows(context: Context, count: int, kind: str) -> Tensor:
    element_bytes = HALF_BYTES if context.attention.is_flash else FLOAT_BYTES
    return context.input(f"{kind} mask", (count, context.tokens_per_slot, 1, context.slots), element_bytes)


def _attention(context: Context, layer: LayerShape, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Attention over the window and, with a mask of them, over rows that older tokens are compressed into.

    Keys are the values too.
    """
    graph, length, heads, slots = context.graph, layer.key_length, layer.head_count, context.slots
    if not context.caches_halves:
        query = _by_matrix(context, query, "window rotation", length)
        key = _by_matrix(context, key, "window rotation", length)
    graph.expand(query)
    graph.expand(key)
    written = context.input("window rows", (context.tokens,), LONG_INDEX_BYTES)
    stored(context, view(key, (length, context.tokens), is_plain=True), written)
    query = permuted(view(query, (length, heads, context.tokens_per_slot, slots)), 0, 2, 1, 3)
    own, count, keys = context.mask(layer), context.layout.sliding, None
    if mask is not None:
        count += mask.shape[0]
        row_bytes = tensor_bytes(context.cache_type.upper(), (length,))
        keys = Tensor((row_bytes, 1, count, slots), element_bytes=1)
        mask = operation((count, *own.shape[1:]), own, mask, element_bytes=own.element_bytes)
    seen = own if mask is None else mask
    if context.attention is Attention.FLASH:
        is_copied = not context.caches_halves and not context.on_cpu
        result = Tensor(
            (length, heads, context.tokens_per_slot, slots),
            (query, *([keys] if keys else []), seen),
            padding_bytes=HALF_BYTES * count * slots * length if is_copied else 0,
        )
        result = graph.expand(reshaped(result, length * heads, context.tokens))
    else:
        scores = operation((count, context.tokens_per_slot, heads, slots), *([keys] if keys else []), query)
        scores = elementwise(scores, seen)
        values = operation((count, length, 1, slots), *([keys] if keys else []), element_bytes=HALF_BYTES)
        result = operation((length, context.tokens_per_slot, heads, slots), values, scores)
        result = graph.expand(operation((length * heads, context.tokens), permuted(result, 0, 2, 1, 3)))
    return result if context.caches_halves else _by_matrix(context, result, "window rotation", length)
