# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transformer layers: how each architecture strings norms, attention and feed-forward networks together.

Most of it follows from the tensors that a layer has; what does not is the architecture's style.
Source: llama.cpp src/models/*.cpp (b10488).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Form,
    Heads,
    Routing,
    activation,
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
    projected,
    query_key_value,
    reshaped,
    root_mean_square_norm,
    rows,
    view,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._recurrent import (
    delta_attention,
    gated_delta_net,
    mamba,
    mamba2,
    short_convolution,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape, ModelShape

NO_ROUTING = Routing()
UNLESS_NORMED = "unless_normed"


@dataclass(frozen=True)
class Style:
    """What the tensors of a layer do not say.

    centred: layer norm instead of RMS norm; bare_norms: norms without weights.
    parallel: attention and feed-forward network read the same input; which of them comes first, and whether the sum is
    theirs before the residual's ('attention', 'feed_forward', 'feed_forward_residual'), or 'unless_normed': only
    layers without a norm between them do, and the residual joins attention first.
    residual_first: the sum after the feed-forward network starts from the residual stream; mixer_residual_first: the
    one after the mixer does.
    rotates: positions turn queries and keys ('always', 'never', or 'sliding': not in full layers beside sliding ones,
    'sliding_or_dense': unless they lead and have no experts), but in every n-th layer by no_rotation_interval.
    tempers_unturned: queries that are not turned are scaled by position. norms_after_rotation: queries and keys are
    normalised after they are turned.
    norms_values: values are normalised too. scales_query, scales_residual: multiplied by a constant. soft_cap: scores
    are capped.
    rows_at_end: the rows wanted are picked after the last layer. expands_norm: the mixer's input is made before its
    states are read. routing: how experts are weighed; routes_by_source: chosen by the residual stream. squared:
    squared ReLU.
    """

    centred: bool = False
    bare_norms: bool = False
    parallel: str = ""
    residual_first: bool = False
    mixer_residual_first: bool = False
    rotates: str = "always"
    no_rotation_interval: int = 0
    tempers_unturned: bool = False
    norms_after_rotation: bool = False
    norms_values: bool = False
    scales_query: bool = False
    scales_residual: bool = False
    rows_at_end: bool = False
    soft_cap: bool = False
    expands_norm: bool = False
    routing: Routing = NO_ROUTING
    routes_by_source: bool = False
    squared: bool = False


PLAIN = Style()


def _rotates(context: Context, style: Style, layer: LayerShape, index: int) -> bool:
    if style.rotates == "sliding_or_dense" and index < context.shape.number("leading_dense_block_count"):
        return True
    if style.rotates.startswith("sliding"):
        return layer.attention == "sliding" or not context.shape.sliding_window
    if style.no_rotation_interval:
        return (index + 1) % style.no_rotation_interval != 0
    return style.rotates == "always"


def _normed_before_heads(form: Form, name: str, layer: LayerShape) -> bool:
    """Whether the norm runs over all heads at once, told by the width of its weight."""
    return f"{name}.weight" in form and form[f"{name}.weight"][0] > layer.key_length


def turned(context: Context, source: Tensor) -> Tensor:
    """Queries or keys turned by the positions of their tokens."""
    return Tensor(source.shape, (source, context.positions()), reuses=True)


def attention_heads(
    context: Context, style: Style, form: Form, layer: LayerShape, source: Tensor, index: int
) -> Heads:
    """Queries, keys and values of a layer, normalised and turned by their positions."""
    heads = query_key_value(context, form, layer, source)
    rotates = _rotates(context, style, layer, index)

    def finished(tensor: Tensor, name: str) -> Tensor:
        if _normed_before_heads(form, name, layer):
            flat = tensor.sources[0] if "attn_qkv.weight" not in form else tensor
            tensor = reshaped(norm(context, form, name, flat, centred=style.centred), *tensor.shape)
        elif f"{name}.weight" in form and not style.norms_after_rotation:
            tensor = norm(context, form, name, tensor, centred=style.centred)
        if rotates:
            tensor = turned(context, tensor)
        if style.norms_after_rotation and f"{name}.weight" in form:
            tensor = norm(context, form, name, tensor, centred=style.centred)
        return tensor

    query = finished(heads.query, "attn_q_norm")
    if style.tempers_unturned and not rotates:
        scale = context.input("attention scale", (1, 1, context.tokens))
        query = Tensor(query.shape, (query, scale), reuses=True)
    if style.scales_query:
        query = elementwise(query)
    if layer.cache_layer is not None and layer.cache_layer != index:
        return Heads(query, None, None)
    if heads.key is None or heads.value is None:
        return heads
    value = root_mean_square_norm(heads.value) if style.norms_values else heads.value
    return Heads(query, finished(heads.key, "attn_k_norm"), value)


def attended(
    context: Context, style: Style, form: Form, layer: LayerShape, source: Tensor, index: int
) -> Tensor:
    """What the attention of a layer gives back to the residual stream; gated where the layer has a gate."""
    heads = attention_heads(context, style, form, layer, source, index)
    result = attention(context, layer, heads, has_sinks="attn_sinks.weight" in form, soft_cap=style.soft_cap)
    if "attn_gate.weight" in form:
        width = form["attn_gate.weight"][1]
        gate = elementwise(product(context, width, source))
        if width == layer.head_count:
            by_head = reshaped(result, layer.value_length, width, context.tokens)
            opened = elementwise(by_head, reshaped(gate, 1, width, context.tokens))
            result = reshaped(opened, layer.value_length * width, context.tokens)
        else:
            result = elementwise(result, gate)
    if "attn_sub_norm.weight" in form:
        result = norm(context, form, "attn_sub_norm", result)
    return output_projection(context, form, result)


def fed_forward(
    context: Context, style: Style, form: Form, source: Tensor, *, scores: Tensor | None = None
) -> Tensor:
    """The feed-forward half of a layer: a network, or experts with or without a shared one."""
    if "ffn_gate_inp.weight" not in form:
        return feed_forward(context, form, source, squared=style.squared)
    if "ffn_latent_down.weight" in form:
        # Experts that work on a shorter row.
        shortened = product(context, form["ffn_latent_down.weight"][1], source)
        scores = product(context, form["ffn_gate_inp.weight"][1], source)
        chosen = experts(context, form, shortened, style.routing, scores=scores)
        result = product(context, form["ffn_latent_up.weight"][1], chosen)
    else:
        grouped = activation(context, form, source, suffix="_shexp") if _is_grouped(context, form) else None
        result = experts(context, form, source, style.routing, scores=scores, shared=grouped)
        if grouped is not None:
            shared = projected(context, form, "ffn_down_shexp", grouped)
            return added(result, _opened(context, form, source, shared))
    if "ffn_up_shexp.weight" not in form:
        return result
    shared = feed_forward(context, form, source, suffix="_shexp", squared=style.squared)
    return added(result, _opened(context, form, source, shared))


def _opened(context: Context, form: Form, source: Tensor, shared: Tensor) -> Tensor:
    """The shared expert's result, gated where it has a gate."""
    if "ffn_gate_inp_shexp.weight" in form:
        scores = product(context, 1, source)
        opened = elementwise(elementwise(scores), scores)
        shared = elementwise(shared, opened)
    return shared


def _is_grouped(context: Context, form: Form) -> bool:
    """Whether the first half of the shared expert runs right after that of the chosen ones, which it is like.

    Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, ggml_cuda_match_shared_expert (b11434).
    """
    gates = form.get("ffn_gate_exps.weight"), form.get("ffn_gate_shexp.weight")
    if not context.engine.groups_shared_expert or context.on_cpu or None in gates:
        return False
    return form["ffn_up_exps.weight"][:2] == form["ffn_up_shexp.weight"][:2]


def _normed(context: Context, style: Style, form: Form, name: str, source: Tensor) -> Tensor:
    if style.bare_norms:
        return operation(source.shape, source) if style.centred else root_mean_square_norm(source)
    return norm(context, form, name, source, centred=style.centred)


def _in_parallel(
    context: Context, style: Style, form: Form, normed: Tensor, source: Tensor, current: Tensor
) -> Tensor:
    if "ffn_norm.weight" in form:
        normed = norm(context, form, "ffn_norm", source, centred=style.centred)
    network = fed_forward(context, style, form, normed)
    if style.parallel == "feed_forward_residual":
        return added(added(network, source), current)
    if style.parallel == UNLESS_NORMED:
        return added(network, added(current, source))
    if style.parallel == "feed_forward":
        return added(added(network, current), source)
    return added(added(current, network), source)


def transformer_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer: attention, then a feed-forward network, each added to the residual stream."""
    layer = context.shape.layers[index]
    picks_rows = is_last and not style.rows_at_end
    scores = None
    if style.routes_by_source:
        scores = product(context, form["ffn_gate_inp.weight"][1], source)
    has_norm = style.bare_norms or "attn_norm.weight" in form
    normed = _normed(context, style, form, "attn_norm", source) if has_norm else source
    before_attention = normed
    if "attn_norm_2.weight" in form:
        before_attention = norm(context, form, "attn_norm_2", source, centred=style.centred)
    current = attended(context, style, form, layer, before_attention, index)
    if picks_rows:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
        normed = rows(normed, context.output_rows()) if style.parallel else normed
        scores = rows(scores, context.output_rows()) if scores is not None else None
    if style.parallel and not (style.parallel == UNLESS_NORMED and "ffn_norm.weight" in form):
        return _in_parallel(context, style, form, normed, source, current)
    has_own_norm = style.bare_norms or "ffn_norm.weight" in form
    norms_afterwards = has_own_norm or "post_ffw_norm.weight" in form
    if norms_afterwards and "post_attention_norm.weight" in form:
        current = norm(context, form, "post_attention_norm", current, centred=style.centred)
    if style.scales_residual:
        current = elementwise(current)
    middle = added(source, current) if style.mixer_residual_first else added(current, source)
    inside = middle
    if has_own_norm or not norms_afterwards:
        name = "ffn_norm" if has_own_norm else "post_attention_norm"
        inside = _normed(context, style, form, name, middle)
    network = fed_forward(context, style, form, inside, scores=scores)
    if "post_ffw_norm.weight" in form:
        network = norm(context, form, "post_ffw_norm", network, centred=style.centred)
    if style.scales_residual:
        network = elementwise(network)
    current = added(middle, network) if style.residual_first else added(network, middle)
    if context.deep_inputs is not None and index < context.shape.number("n_deepstack_layers"):
        current = added(current, view(context.deep_inputs, current.shape))
    return current


def looped_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One run of a layer; between two runs of them all the residual stream is normalised as at the end.

    Source: llama.cpp src/models/nanbeige.cpp (b10362 to b11434).
    """
    current = transformer_layer(context, style, form, index, source, is_last)
    if not ends_a_loop(context.shape, index) or is_last or context.shape.number("skip_loop_final_norm"):
        return current
    context.weights_device = context.device_of(context.shape.block_count)
    return norm(context, dict(context.shape.model_form), "output_norm", current)


def ends_a_loop(shape: ModelShape, index: int) -> bool:
    """Whether a layer is the last one of all that run again and again."""
    return (index + 1) % (shape.block_count // shape.runs) == 0


def partial_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer that may lack attention, or have only the product after it, or lack the feed-forward network.

    Source: llama.cpp src/models/deci.cpp (b11218).
    """
    layer = context.shape.layers[index]
    current = source
    if layer.head_count:
        normed = norm(context, form, "attn_norm", source)
        if layer.head_count_kv:
            current = attended(context, style, form, layer, normed, index)
        else:
            current = output_projection(context, form, normed)
    if is_last:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    if not layer.feed_forward_length:
        return source
    middle = added(current, source) if layer.head_count else current
    return added(fed_forward(context, style, form, norm(context, form, "ffn_norm", middle)), middle)


def doubly_fed_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer with a feed-forward network after attention, and experts beside both.

    Source: llama.cpp src/models/arctic.cpp (b10488).
    """
    layer = context.shape.layers[index]
    normed = norm(context, form, "attn_norm", source)
    current = attended(context, style, form, layer, normed, index)
    if is_last:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    middle = added(current, source)
    network = added(feed_forward(context, form, norm(context, form, "ffn_norm", middle)), middle)
    chosen = experts(context, form, norm(context, form, "ffn_norm_exps", source), style.routing)
    return added(chosen, network)


def encoder_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer of an encoder: sums are normalised after attention and after the feed-forward network.

    Source: llama.cpp src/models/bert.cpp (b10488).
    """
    layer = context.shape.layers[index]
    current = attended(context, style, form, layer, source, index)
    if is_last:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    current = norm(context, form, "attn_output_norm", added(current, source), centred=True)
    if "attn_norm_2.weight" in form:
        current = norm(context, form, "attn_norm_2", added(current, source), centred=True)
    network = fed_forward(context, style, form, current)
    return norm(context, form, "layer_output_norm", added(network, current), centred=True)


def latent_attention_heads(
    context: Context, form: Form, layer: LayerShape, source: Tensor, *, compressed: Tensor | None = None, rotates: bool = True
) -> tuple[Heads, int]:
    """Queries, keys and values compressed into a latent (MLA), and the length of a decompressed value.

    A file without the split tensors (attn_k_b, attn_v_b) is decompressed before the cache; then the length is 0.
    compressed: the compressed queries, where something else reads them too. rotates: positions turn a part of each head.
    Source: llama.cpp src/models/deepseek2.cpp (b10488).
    """
    shape, tokens, count = context.shape, context.tokens, layer.head_count
    turned_length = shape.number("rope.dimension_count")
    latent = shape.number("attention.kv_lora_rank")
    if compressed is not None:
        query = projected(context, form, "attn_q_b", compressed)
    elif "attn_q_a.weight" in form:
        compressed = norm(context, form, "attn_q_a_norm", projected(context, form, "attn_q_a", source))
        query = projected(context, form, "attn_q_b", compressed)
    else:
        query = projected(context, form, "attn_q", source)
    head_length = query.shape[0] // count
    plain_length = head_length - turned_length
    both = product(context, latent + turned_length, source)
    value_latent, key_turned = _views(both, ((latent, tokens), (turned_length, 1, tokens)))
    parts = ((plain_length, count, tokens), (turned_length, count, tokens))
    turns_whole = context.engine.turns_whole_query
    if turns_whole:
        query = reshaped(query, head_length, count, tokens)
    if shape.is_latent_attention or not turns_whole:
        query_plain, query_turned = _views(query, parts)
        query_turned = turned(context, query_turned) if rotates else query_turned
    key_turned = turned(context, key_turned) if rotates else key_turned
    value_latent = norm(context, form, "attn_kv_a_norm", value_latent)
    if shape.is_latent_attention:
        return _absorbed(context, form, layer, query_plain, query_turned, value_latent, key_turned)
    value_length = layer.value_length
    decompressed = product(context, (plain_length + value_length) * count, value_latent)
    key_plain, value = _views(decompressed, ((plain_length, count, tokens), (value_length, count, tokens)))
    value = operation(value.shape, value)
    if turns_whole:
        joined_query, repeated = turned(context, query), operation(parts[1], key_turned)
    else:
        joined_query = operation((head_length, count, tokens), query_plain, query_turned)
        repeated = operation(parts[1], key_turned, query_turned)
    joined_key = operation((head_length, count, tokens), key_plain, repeated)
    return Heads(joined_query, joined_key, value), 0


def _views(source: Tensor, shapes: tuple[tuple[int, ...], ...]) -> tuple[Tensor, ...]:
    return tuple(view(source, shape) for shape in shapes)


def _absorbed(
    context: Context,
    form: Form,
    layer: LayerShape,
    query_plain: Tensor,
    query_turned: Tensor,
    value_latent: Tensor,
    key_turned: Tensor,
) -> tuple[Heads, int]:
    tokens, count = context.tokens, layer.head_count
    latent = value_latent.shape[0]
    absorbed = permuted(product(context, latent, permuted(query_plain, 0, 2, 1, 3)), 0, 2, 1, 3)
    query = operation((layer.key_length, count, tokens), absorbed, query_turned)
    value = reshaped(value_latent, latent, 1, tokens)
    key = operation((layer.key_length, 1, tokens), value, key_turned)
    return Heads(query, key, value), form["attn_v_b.weight"][1]


def latent_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer with latent attention.

    Source: llama.cpp src/models/deepseek2.cpp (b10488).
    """
    layer = context.shape.layers[index]
    normed = norm(context, form, "attn_norm", source)
    heads, decompressed = latent_attention_heads(context, form, layer, normed)
    current = output_projection(
        context, form, attention(context, layer, heads, decompressed_length=decompressed)
    )
    if is_last:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    middle = added(current, source)
    network = fed_forward(context, style, form, norm(context, form, "ffn_norm", middle))
    return added(network, middle)


def delta_or_latent_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer with Kimi delta attention, or with latent attention whose heads may be gated.

    Source: llama.cpp src/models/kimi-linear.cpp (b10488) and bailingmoe3.cpp (b11218).
    """
    layer = context.shape.layers[index]
    normed = norm(context, form, "attn_norm", source)
    if style.expands_norm:
        context.graph.expand(normed)
    if layer.is_recurrent:
        current = delta_attention(context, form, normed)
    else:
        rotates = style.rotates != "never"
        heads, decompressed = latent_attention_heads(context, form, layer, normed, rotates=rotates)
        result = attention(context, layer, heads, decompressed_length=decompressed)
        if "attn_gate.weight" in form:
            count, tokens = layer.head_count, context.tokens
            gate = elementwise(reshaped(product(context, count, normed), 1, count, tokens))
            opened = elementwise(reshaped(result, decompressed, count, tokens), gate)
            result = operation((decompressed * count, tokens), opened)
        current = output_projection(context, form, result)
    if is_last and not style.rows_at_end:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    middle = added(current, source)
    network = fed_forward(context, style, form, norm(context, form, "ffn_norm", middle))
    return added(network, middle)


def mixed(
    context: Context, style: Style, form: Form, layer: LayerShape, source: Tensor, index: int
) -> Tensor:
    """The mixer that the layer's tensors say: a recurrence or attention."""
    if "shortconv.in_proj.weight" in form:
        return short_convolution(context, form, source)
    if "ssm_x.weight" in form:
        return mamba(context, form, source)
    if "ssm_alpha.weight" in form or "ssm_ba.weight" in form:
        return gated_delta_net(context, form, source)
    if "ssm_in.weight" in form:
        return mamba2(context, form, source)
    if form["attn_q.weight"][1] == 2 * layer.key_length * layer.head_count:
        return gated_attention(context, form, layer, source)
    return attended(context, style, form, layer, source, index)


def hybrid_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer of a hybrid: a recurrence or attention, then a feed-forward network."""
    layer = context.shape.layers[index]
    normed = norm(context, form, "attn_norm", source)
    if style.expands_norm:
        context.graph.expand(normed)
    current = mixed(context, style, form, layer, normed, index)
    if is_last and not style.rows_at_end:
        current, source = rows(current, context.output_rows()), rows(source, context.output_rows())
    if style.scales_residual:
        current = elementwise(current)
    middle = added(source, current) if style.mixer_residual_first else added(current, source)
    if not any(name.startswith("ffn_") for name in form):
        return middle
    name = "ffn_norm" if "ffn_norm.weight" in form else "post_attention_norm"
    network = fed_forward(context, style, form, norm(context, form, name, middle))
    if style.scales_residual:
        network = elementwise(network)
    return added(middle, network) if style.residual_first else added(network, middle)


def gated_attention(
    context: Context, form: Form, layer: LayerShape, source: Tensor
) -> Tensor:
    """Attention whose result is gated by the second half of the query projection.

    Source: llama.cpp src/models/qwen35.cpp, build_layer_attn (b10488).
    """
    tokens = context.tokens
    half = (layer.key_length, layer.head_count, tokens)
    both = product(context, 2 * layer.key_length * layer.head_count, source)
    query = turned(context, norm(context, form, "attn_q_norm", view(both, half)))
    gate = operation((layer.key_length * layer.head_count, tokens), view(both, half))
    key = reshaped(product(context, layer.key_width, source), layer.key_length, layer.head_count_kv, tokens)
    key = turned(context, norm(context, form, "attn_k_norm", key))
    value = product(context, layer.value_width, source)
    value = reshaped(value, layer.value_length, layer.head_count_kv, tokens)
    result = attention(context, layer, Heads(query, key, value))
    return output_projection(context, form, elementwise(result, elementwise(gate)))


def sole_mixer_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, _is_last: bool
) -> Tensor:
    """One layer that is only a recurrence, only attention or only a feed-forward network.

    Source: llama.cpp src/models/nemotron-h.cpp (b10488).
    """
    layer = context.shape.layers[index]
    normed = norm(context, form, "attn_norm", source)
    if "ssm_in.weight" in form:
        current = mamba2(context, form, normed)
    elif layer.attention != "none":
        current = attended(context, style, form, layer, normed, index)
    else:
        current = fed_forward(context, style, form, normed)
    return added(current, source)


def parallel_hybrid_layer(
    context: Context, style: Style, form: Form, index: int, source: Tensor, is_last: bool
) -> Tensor:
    """One layer with attention and a recurrence side by side.

    Source: llama.cpp src/models/falcon-h1.cpp (b10488).
    """
    layer = context.shape.layers[index]
    by_attention = attended(context, style, form, layer, norm(context, form, "attn_norm", source), index)
    by_recurrence = mamba2(context, form, norm(context, form, "attn_norm", source))
    middle = added(added(by_attention, by_recurrence), source)
    if is_last:
        middle = rows(middle, context.output_rows())
    network = fed_forward(context, style, form, norm(context, form, "ffn_norm", middle))
    return added(network, middle)
