# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that keep a state instead of a cache: Mamba, Mamba 2, gated delta net, short convolutions.

Source: llama.cpp src/models/mamba-base.cpp, delta-net-base.cpp, qwen35.cpp, qwen3next.cpp and lfm2.cpp (b10488).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Form,
    elementwise,
    norm,
    operation,
    permuted,
    product,
    projected,
    reshaped,
    stored,
    view,
    weighted,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    INDEX_BYTES,
    Tensor,
)

# Operations on the stored states that take no memory here, for each state that a layer reads, but the first of them.
STATE_OPERATIONS = 7


def _state_rows(context: Context) -> Tensor:
    return context.input("state rows", (context.slots,), INDEX_BYTES)


def _states(context: Context, size: int) -> Tensor:
    """The states of all slots, gathered into the graph now."""
    context.graph.leafs += 1
    context.graph.outside_nodes += STATE_OPERATIONS
    stored(context)
    return context.graph.expand(operation((size, context.slots), _state_rows(context)))


def _by_slot(context: Context, source: Tensor) -> Tensor:
    return reshaped(source, source.shape[0], context.tokens_per_slot, context.slots)


def _by_token(context: Context, source: Tensor) -> Tensor:
    return reshaped(source, source.shape[0], context.tokens)


def _with_history(context: Context, history: Tensor, source: Tensor) -> Tensor:
    """The last tokens of the convolution before the new ones; the newest are kept for the next request."""
    kept, width, slots, _one = history.shape
    joined = operation((kept + context.tokens_per_slot, width, slots), history, permuted(source, 1, 0, 2, 3))
    stored(context, view(joined, (kept, width, slots)))
    context.graph.outside_nodes += 1
    return joined


def _convolved(context: Context, form: Form, joined: Tensor) -> Tensor:
    shape = (joined.shape[1], context.tokens_per_slot, context.slots)
    result = weighted(context, operation(shape, joined))
    if "ssm_conv1d.bias" in form:
        result = weighted(context, elementwise(result))
    return elementwise(result)


def _scan(context: Context, width: int, state_size: int, *sources: Tensor) -> Tensor:
    """The recurrence: a result for every token, then the new states, in one tensor."""
    context.graph.outside_nodes += STATE_OPERATIONS + 1
    length = width * context.tokens + state_size * width * context.slots
    result = context.graph.expand(weighted(context, operation((length,), *sources, _state_rows(context))))
    if context.engine.gathers_once and context.slots > 1:
        others = operation((state_size * width, context.slots - 1), _state_rows(context))
        stored(context, view(others, (state_size * width, 0)))
    stored(context, view(result, (state_size * width, context.slots)))
    context.graph.outside_nodes += 1
    return result


def mamba(context: Context, form: Form, source: Tensor) -> Tensor:
    """A Mamba layer's mixer."""
    numbers = context.shape.number
    width, state_size = numbers("ssm.inner_size"), numbers("ssm.state_size")
    rank, kept = numbers("ssm.time_step_rank"), numbers("ssm.conv_kernel") - 1
    each, slots = context.tokens_per_slot, context.slots
    history = reshaped(_states(context, kept * width), kept, width, slots)
    both = product(context, 2 * width, _by_slot(context, source))
    inner, gate = view(both, (width, each, slots)), view(both, (width, each, slots))
    inner = _convolved(context, form, _with_history(context, history, inner))
    parts = product(context, rank + 2 * state_size, inner)
    step = view(parts, (rank, each, slots))
    before, after = (view(parts, (state_size, 1, each, slots)) for _unused in range(2))
    if context.shape.number("ssm.dt_b_c_rms") or "ssm_dt_norm.weight" in form:
        step = norm(context, form, "ssm_dt_norm", step)
        before = norm(context, form, "ssm_b_norm", before)
        after = norm(context, form, "ssm_c_norm", after)
    elif context.engine.copies_time_step:
        step = operation(step.shape, step)
    step = weighted(context, elementwise(product(context, width, step)))
    by_head = reshaped(inner, 1, width, each, slots)
    scanned = _scan(context, width, state_size, by_head, step, before, after)
    skipped = weighted(context, elementwise(inner))
    result = elementwise(view(scanned, (width, each, slots)), skipped)
    mixed = operation(result.shape, operation(gate.shape, gate), result)
    return _by_token(context, product(context, form["ssm_out.weight"][1], mixed))


def mamba2(context: Context, form: Form, source: Tensor) -> Tensor:
    """A Mamba 2 layer's mixer."""
    numbers = context.shape.number
    width, state_size = numbers("ssm.inner_size"), numbers("ssm.state_size")
    heads, groups = numbers("ssm.time_step_rank"), numbers("ssm.group_count")
    kept = numbers("ssm.conv_kernel") - 1
    each, slots = context.tokens_per_slot, context.slots
    convolved_width = width + 2 * groups * state_size
    by_head = (width // heads, heads, each, slots)
    history = reshaped(_states(context, kept * convolved_width), kept, convolved_width, slots)
    if context.engine.projects_flat:
        everything = _by_slot(context, product(context, form["ssm_in.weight"][1], source))
    else:
        everything = product(context, form["ssm_in.weight"][1], _by_slot(context, source))
    gate = view(everything, by_head)
    step = view(everything, (heads, each, slots))
    inner = view(everything, (convolved_width, each, slots))
    inner = _convolved(context, form, _with_history(context, history, inner))
    values = view(inner, by_head)
    before, after = (view(inner, (state_size, groups, each, slots)) for _unused in range(2))
    step = weighted(context, elementwise(operation(step.shape, step)))
    scanned = _scan(context, width, state_size, values, step, before, after)
    result = elementwise(view(scanned, by_head), weighted(context, elementwise(values)))
    mixed = operation(by_head, operation(by_head, gate), result)
    if "ssm_norm.weight" in form:
        mixed = norm(context, form, "ssm_norm", reshaped(mixed, width // groups, groups, each, slots))
    if context.engine.projects_flat:
        return product(context, form["ssm_out.weight"][1], reshaped(mixed, width, context.tokens))
    mixed = reshaped(mixed, width, each, slots)
    return _by_token(context, product(context, form["ssm_out.weight"][1], mixed))


def gated_delta_net(context: Context, form: Form, source: Tensor) -> Tensor:
    """A gated delta net layer's mixer."""
    numbers = context.shape.number
    width, key_length = numbers("ssm.inner_size"), numbers("ssm.state_size")
    heads, key_heads = numbers("ssm.time_step_rank"), numbers("ssm.group_count")
    kept = numbers("ssm.conv_kernel") - 1
    value_length = width // heads
    each, slots = context.tokens_per_slot, context.slots
    convolved_width = width + 2 * key_heads * key_length
    if "ssm_in.weight" in form:
        mixed, gate = _split_projection(context, source, width, key_heads, key_length)
    else:
        mixed = _by_slot(context, product(context, convolved_width, source))
        gate = product(context, width, source)
    if "ssm_ba.weight" in form:
        strength, decay = _split_strength(context, source, heads, key_heads)
    else:
        strength = elementwise(reshaped(product(context, heads, source), 1, heads, each, slots))
        decay = _by_slot(context, product(context, heads, source))
    decay = reshaped(elementwise(elementwise(elementwise(decay))), 1, heads, each, slots)
    history = reshaped(_states(context, kept * convolved_width), kept, convolved_width, slots)
    joined = _with_history(context, history, mixed)
    state = reshaped(_states(context, value_length * width), value_length, value_length, heads, slots)
    convolved = _convolved(context, form, joined)
    by_key = (key_length, key_heads, each, slots)
    query, key = (operation(by_key, view(convolved, by_key)) for _unused in range(2))
    if "ssm_ba.weight" in form and heads != key_heads:
        query, key = (_repeated(query_or_key, heads) for query_or_key in (query, key))
    value = view(convolved, (value_length, heads, each, slots))
    length = context.tokens + value_length * slots * context.kept_states
    result = operation((width, length), query, key, value, decay, strength, state)
    stored(context, view(result, (value_length, value_length, heads, slots)))
    context.graph.outside_nodes += 1
    output = view(result, (value_length, heads, each, slots))
    opened = elementwise(reshaped(gate, *output.shape))
    output = elementwise(norm(context, form, "ssm_norm", output), opened)
    output = reshaped(output, width, each, slots)
    return _by_token(context, product(context, form["ssm_out.weight"][1], output))


def delta_attention(context: Context, form: Form, source: Tensor) -> Tensor:
    """The mixer of a Kimi delta attention layer: a gated delta net with a decay of its own for each element.

    Decay and gate are made of a shorter row, or where there are no tensors for that, in one product.
    Source: llama.cpp src/models/kimi-linear.cpp (b10488) and bailingmoe3.cpp (b11218).
    """
    length, kept = context.shape.number("kda.head_dim"), context.shape.number("ssm.conv_kernel") - 1
    width = form["attn_output.weight"][0]
    heads = width // length
    each, slots, tokens = context.tokens_per_slot, context.slots, context.tokens
    by_head = (length, heads, each, slots)
    histories = _states(context, 3 * kept * width)

    def convolved() -> Tensor:
        history = view(histories, (kept, width, slots))
        joined = _with_history(context, history, _by_slot(context, product(context, width, source)))
        result = weighted(context, operation((width, each, slots), joined))
        return reshaped(elementwise(reshaped(result, width, tokens)), *by_head)

    query, key, value = convolved(), convolved(), convolved()

    def full_rank(name: str, of: Tensor) -> Tensor:
        made = product(context, form[f"{name}_a.weight"][1], of)
        return product(context, width, made) if f"{name}_b.weight" in form else made

    decay = elementwise(weighted(context, elementwise(full_rank("ssm_f", source))))
    decay = reshaped(weighted(context, elementwise(reshaped(decay, length, heads, tokens))), *by_head)
    strength = elementwise(reshaped(product(context, heads, source), 1, heads, each, slots))
    state = reshaped(_states(context, length * width), length, length, heads, slots)
    query, key = operation(by_head, query), operation(by_head, key)
    result = operation((width, tokens + length * slots), query, key, value, decay, strength, state)
    output = operation(by_head, view(result, by_head))
    stored(context, view(result, (length, length, heads, slots)))
    context.graph.outside_nodes += 1
    rows = _by_token(context, _by_slot(context, source))
    gate = reshaped(full_rank("ssm_g", rows), length, heads, tokens)
    normed = norm(context, form, "ssm_norm", reshaped(output, length, heads, tokens))
    mixed = operation((width, tokens), elementwise(normed, elementwise(gate)))
    return product(context, form["attn_output.weight"][1], mixed)


def _split_projection(
    context: Context, source: Tensor, width: int, key_heads: int, key_length: int
) -> tuple[Tensor, Tensor]:
    """Queries, keys, values and gate from one projection that has them side by side for each key head."""
    each, slots = context.tokens_per_slot, context.slots
    value_part = width // key_heads
    everything = product(context, 2 * key_heads * key_length + 2 * width, source)
    everything = reshaped(everything, 2 * key_length + 2 * value_part, key_heads, each, slots)

    def flat(part: int) -> Tensor:
        return operation((part * key_heads, each, slots), view(everything, (part, key_heads, each, slots)))

    query_key = operation((2 * key_heads * key_length, each, slots), flat(key_length), flat(key_length))
    mixed = operation((query_key.shape[0] + width, each, slots), query_key, flat(value_part))
    gate_view = view(everything, (value_part, key_heads, each, slots))
    return mixed, operation(gate_view.shape, gate_view)


def _split_strength(context: Context, source: Tensor, heads: int, key_heads: int) -> tuple[Tensor, Tensor]:
    each, slots = context.tokens_per_slot, context.slots
    part = heads // key_heads
    both = reshaped(product(context, 2 * heads, source), 2 * part, key_heads, each, slots)
    halves = [view(both, (part, key_heads, each, slots)) for _unused in range(2)]
    strength = elementwise(operation(halves[0].shape, halves[0]))
    decay = operation((heads, each, slots), halves[1])
    return reshaped(strength, 1, heads, each, slots), decay


def _repeated(source: Tensor, heads: int) -> Tensor:
    length, key_heads, each, slots = source.shape
    apart = reshaped(source, length, 1, key_heads, each * slots)
    repeated = operation((length, heads // key_heads, key_heads, each * slots), apart)
    return reshaped(repeated, length, heads, each, slots)


def short_convolution(context: Context, form: Form, source: Tensor) -> Tensor:
    """A short convolution's mixer, gated before and after."""
    width = context.shape.embedding_length
    kept = context.shape.number("shortconv.l_cache") - 1
    each, slots = context.tokens_per_slot, context.slots
    three = product(context, 3 * width, _by_slot(context, source))
    before, after, inner = (view(three, (width, each, slots)) for _unused in range(3))
    gated_inner = elementwise(before, inner)
    history = reshaped(_states(context, kept * width), kept, width, slots)
    joined = _with_history(context, history, gated_inner)
    convolved = weighted(context, operation((width, each, slots), joined))
    result = elementwise(after, convolved)
    return _by_token(context, projected(context, form, "shortconv.out_proj", result))
