# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of gemma3n and gemma4: inputs of their own for each layer, shared caches, alternating residual streams.

Source: llama.cpp src/models/gemma3n.cpp and src/models/gemma4.cpp (b10488).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Form,
    Heads,
    Routing,
    added,
    attention,
    elementwise,
    experts,
    feed_forward,
    norm,
    operation,
    output_projection,
    permuted,
    product,
    reshaped,
    root_mean_square_norm,
    rows,
    scaled_tokens,
    view,
    weighted,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._layers import (
    Style,
    attended,
    turned,
)

# The first layers of gemma3n keep only the strongest activations of their gates.
# Source: llama.cpp src/models/models.h, n_layer_sparsity (b10488)
SPARSE_LAYERS = 10
# Residual streams of gemma3n. Source: llama.cpp src/llama-hparams.h, n_altup (b10488)
DEFAULT_STREAMS = 4
MAX_STREAMS = 16


def _slice(source: Tensor) -> Tensor:
    """One of the matrices that a tensor stacks."""
    return view(source, source.shape[:2], is_plain=True)


def _layer_inputs(context: Context, scaled: Tensor) -> Tensor:
    """The inputs of all layers: looked up on the host, and added to a projection of the embeddings."""
    length = context.shape.number("embedding_length_per_layer_input")
    count = context.shape.block_count
    looked_up = elementwise(context.looked_up("layer inputs", (length, count, context.tokens)))
    context.graph.expand(looked_up)
    projection = elementwise(product(context, length * count, scaled))
    projection = reshaped(projection, length, count, context.tokens)
    form = dict(context.shape.model_form)
    joined = elementwise(added(norm(context, form, "per_layer_proj_norm", projection), looked_up))
    return operation((length, context.tokens, count), permuted(joined, 0, 2, 1, 3))


def _gated_by_layer_input(context: Context, form: Form, source: Tensor) -> Tensor:
    """What a layer makes of its own input."""
    gate = elementwise(product(context, form["inp_gate.weight"][1], source))
    if context.layer_inputs is None:
        length = context.shape.number("embedding_length_per_layer_input")
        own = context.input(f"layer input {len(context.inputs())}", (length, context.tokens))
    else:
        own = _slice(context.layer_inputs)
    gated_input = elementwise(gate, own)
    return norm(context, form, "post_norm", product(context, form["proj.weight"][1], gated_input))


def begin_gemma4(context: Context, embedding: Tensor) -> Tensor:
    """Scaled embeddings and, where the model has them, the layers' own inputs."""
    scaled = scaled_tokens(context, embedding)
    if context.shape.number("embedding_length_per_layer_input"):
        context.layer_inputs = _layer_inputs(context, scaled)
    return scaled


def resume_gemma4(context: Context, _after_last: bool) -> Tensor:
    """The residual stream as another device hands it over, of all tokens."""
    return context.input("residual stream", (context.shape.embedding_length, context.tokens))


def gemma4_layer(
    context: Context, _style: Style, form: Form, index: int, source: Tensor, _is_last: bool
) -> Tensor:
    """One layer of gemma4."""
    layer, tokens = context.shape.layers[index], context.tokens
    normed = norm(context, form, "attn_norm", source)
    query = product(context, layer.key_length * layer.head_count, normed)
    query = reshaped(query, layer.key_length, layer.head_count, tokens)
    query = turned(context, norm(context, form, "attn_q_norm", query))
    heads = Heads(query, None, None)
    if layer.cache_layer == index:
        key = product(context, layer.key_width, normed)
        value = product(context, layer.value_width, normed) if "attn_v.weight" in form else key
        key = reshaped(key, layer.key_length, layer.head_count_kv, tokens)
        value = reshaped(value, layer.value_length, layer.head_count_kv, tokens)
        key = turned(context, norm(context, form, "attn_k_norm", key))
        heads = Heads(query, key, root_mean_square_norm(value))
    current = output_projection(context, form, attention(context, layer, heads))
    middle = added(norm(context, form, "post_attention_norm", current), source)
    current = added(norm(context, form, "post_ffw_norm", _network(context, form, middle)), middle)
    if "inp_gate.weight" in form:
        current = added(current, _gated_by_layer_input(context, form, current))
    if "layer_output_scale.weight" in form:
        current = weighted(context, elementwise(current))
    return current


def _network(context: Context, form: Form, middle: Tensor) -> Tensor:
    """A feed-forward network; with experts, both side by side, the experts chosen by the residual stream."""
    network = feed_forward(context, form, norm(context, form, "ffn_norm", middle))
    if "ffn_gate_inp.weight" not in form:
        return network
    network = norm(context, form, "post_ffw_norm_1", network)
    normed = norm(context, form, "pre_ffw_norm_2", middle)
    scores = elementwise(elementwise(root_mean_square_norm(middle)))
    scores = product(context, form["ffn_gate_inp.weight"][1], scores)
    chosen = experts(context, form, normed, Routing(normalises=True), scores=scores)
    return added(network, norm(context, form, "post_ffw_norm_2", chosen))


def _magnitude(source: Tensor) -> Tensor:
    """The length of every row."""
    return elementwise(operation((1, *source.shape[1:]), elementwise(source)))


def _as_long_as(source: Tensor, wanted: Tensor) -> Tensor:
    """Rows stretched to the lengths wanted."""
    return elementwise(elementwise(source, wanted), _magnitude(source))


def begin_gemma3n(context: Context, embedding: Tensor) -> Tensor:
    """Scaled embeddings, the layers' own inputs, and the further residual streams made of the embeddings."""
    scaled = scaled_tokens(context, embedding)
    context.layer_inputs = _layer_inputs(context, scaled)
    streams = _streams(context)
    width, tokens = scaled.shape[0], context.tokens
    wanted = _magnitude(scaled)
    repeated = operation((width, tokens, streams - 1), scaled)
    projected_streams = product(context, width, repeated)
    # Its weights lie with the output's. Source: llama.cpp src/llama-arch.cpp, LLM_TENSOR_ALTUP_PROJ (b10488)
    projected_streams.device = context.device_of(context.shape.block_count)
    others = _as_long_as(projected_streams, wanted)
    return operation((width, tokens, streams), scaled, others)


def resume_gemma3n(context: Context, _after_last: bool) -> Tensor:
    """The residual streams as another device hands them over."""
    return context.input(
        "residual streams", (context.shape.embedding_length, context.tokens, _streams(context))
    )


def _streams(context: Context) -> int:
    count = context.shape.number("altup.num_inputs", DEFAULT_STREAMS)
    if not 1 < count <= MAX_STREAMS:
        raise ValueError(f"{count} residual streams, expected 2 to {MAX_STREAMS}")
    return count


def _modalities(context: Context, form: Form, source: Tensor) -> Tensor:
    normed = elementwise(norm(context, form, "altup_router_norm", source))
    return elementwise(product(context, _streams(context), normed))


def _predicted(context: Context, form: Form, source: Tensor) -> Tensor:
    """What each residual stream will be, from all of them."""
    streams, tokens, width = _streams(context), context.tokens, source.shape[0]
    coefficients = product(context, streams * streams, _modalities(context, form, _slice(source)))
    coefficients = reshaped(coefficients, streams, streams, tokens)
    turned_source = operation((streams, width, tokens), permuted(source, 1, 2, 0, 3))
    predictions = operation((width, streams, tokens), turned_source, coefficients)
    predictions = operation((width, tokens, streams), permuted(predictions, 0, 2, 1, 3))
    return added(predictions, source)


def _corrected(context: Context, form: Form, predictions: Tensor, activated: Tensor) -> Tensor:
    """The residual streams after what the active one became."""
    streams, tokens, width = _streams(context), context.tokens, activated.shape[0]
    modalities = _modalities(context, form, activated)
    innovation = elementwise(activated, _slice(predictions))
    coefficients = elementwise(product(context, streams, modalities))
    coefficients = operation((1, tokens, streams), permuted(coefficients, 1, 0, 2, 3))
    repeated = operation((width, tokens, streams), innovation)
    return added(elementwise(repeated, coefficients), predictions)


def _strongest(gate: Tensor) -> Tensor:
    """The gate without the activations below a threshold."""
    mean = operation((1, gate.shape[1]), gate)
    deviation = operation((1, gate.shape[1]), elementwise(elementwise(gate, mean)))
    threshold = elementwise(mean, elementwise(elementwise(elementwise(deviation))))
    return elementwise(elementwise(gate, threshold))


def gemma3n_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, _is_last: bool
) -> Tensor:
    """One layer of gemma3n."""
    layer, width = context.shape.layers[index], context.shape.embedding_length
    predictions = _predicted(context, form, source)
    active = _slice(predictions)
    normed = norm(context, form, "attn_norm", active)
    low_rank = product(context, width, product(context, form["laurel_l.weight"][1], normed))
    laurel = added(norm(context, form, "laurel_post_norm", low_rank), normed)
    current = attended(context, style, form, layer, normed, index)
    current = added(norm(context, form, "post_attention_norm", current), active)
    middle = elementwise(added(current, laurel))
    normed = norm(context, form, "ffn_norm", middle)
    up = product(context, form["ffn_up.weight"][1], normed)
    gate = product(context, form["ffn_gate.weight"][1], normed)
    if index < SPARSE_LAYERS:
        gate = _strongest(gate)
    current = product(context, width, elementwise(up, elementwise(gate)))
    activated = added(norm(context, form, "post_ffw_norm", current), middle)
    corrected = _corrected(context, form, predictions, activated)
    first = _gated_by_layer_input(context, form, elementwise(_slice(corrected)))
    rest = view(corrected, (width, context.tokens, _streams(context) - 1), is_plain=True)
    return operation(corrected.shape, _slice(corrected), elementwise(rest, first))


def merged_streams(context: Context, current: Tensor) -> Tensor:
    """The residual streams of gemma3n as one, only the rows wanted."""
    streams, width = _streams(context), context.shape.embedding_length
    wanted = _magnitude(_slice(current))
    others = product(context, width, view(current, (width, context.tokens, streams - 1), is_plain=True))
    others = _as_long_as(others, wanted)
    merged = _slice(current)
    for _unused in range(streams - 1):
        merged = added(merged, _slice(others))
    return rows(elementwise(merged), context.output_rows())
