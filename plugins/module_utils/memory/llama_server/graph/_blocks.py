# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the layers of all architectures are made of: norms, projections, attention, feed-forward networks, experts.

Each function adds the operations of llama.cpp's function of that purpose to the graph and returns the result.
Source: llama.cpp src/llama-graph.cpp and src/llama-kv-cache.cpp (b10488).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Dict, Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    widest_value,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    FLOAT_BYTES,
    HALF_BYTES,
    HOST,
    INDEX_BYTES,
    LONG_INDEX_BYTES,
    OUTSIDE,
    Graph,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._ahead import tokens_ahead
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import traits
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape, ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import tensor_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import (
    AS_FIRST_READ,
    EngineRules,
)

# Quantised caches are rotated by a Hadamard matrix where the head is a multiple of this.
# Source: llama.cpp src/llama-kv-cache.cpp, attn_rot_k and attn_rot_v (b10488)
ROTATION_LENGTH = 64
# Up to so many tokens per slot a quantised cache is read as it is; above, a half-precision copy is made.
# Source: llama.cpp ggml/src/ggml-cuda/fattn.cu, ggml_cuda_get_best_fattn_kernel (b10488)
VECTOR_KERNEL_TOKENS = 2
VECTOR_KERNEL_HEAD = 256

# As many experts as the GPU weighs and adds up as one operation.
# Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, MOE_WEIGHTED_REDUCTION_MAX_EXPERTS (b10760)
REDUCED_TOGETHER = range(2, 16)
# Among so many experts, when it is a power of two, or so many, the GPU chooses as one operation.
CHOSEN_AT_ONCE = 512
ALSO_CHOSEN_AT_ONCE = (288, 576)
# Architectures whose batches are tokens or embeddings, in any build.
# Source: llama.cpp src/llama-arch.cpp, llm_arch_supports_mixed_batch (b11434)
ONE_KIND_OF_INPUT = frozenset(("cogvlm", "deepseek4", "granite_switch", "qwen35/predicting", "qwen35moe/predicting"))
# What a model may look up besides its tokens' embeddings: a table, and the key that says how long each row is.
POSITIONS = "position_embd.weight"
LAYER_INPUTS = "embedding_length_per_layer_input"
# More experts than any model uses for one token.
MAX_USED_EXPERTS = 128

# Views of a layer's cached keys and values that its attention reads.
CACHE_VIEWS = 4

HALF_PRECISION = "f16"

Form = Dict[str, Tuple[int, ...]]


@dataclass
class Context:
    """The graph of one device, under construction.

    cache_type: of the KV cache. here: the layers on this device. layer_inputs: what each layer gets
    besides the residual stream, deep_inputs: what the first layers get of an image, chosen_cells: which cells the last
    indexer has chosen, single_mask: the mask in single precision, in models that have it. device:
    the GPU with the caches at hand, where the graph spans several, weights_device: that with the weights, if it is another
    one, and devices: the units of each; is_inside: while layers are built.
    layer_ends: operations and leafs that the graph had after each layer. engine: what this build of it does.
    """

    shape: ModelShape
    layout: Cells
    attention: Attention
    cache_type: str
    here: range
    on_cpu: bool = False
    engine: EngineRules = AS_FIRST_READ
    graph: Graph = field(default_factory=Graph)
    layer_inputs: Tensor | None = None
    deep_inputs: Tensor | None = None
    chosen_cells: Tensor | None = None
    single_mask: Tensor | None = None
    devices: Sequence[range] = ()
    device: int | None = None
    weights_device: int | None = None
    is_inside: bool = False
    layer_ends: list[tuple[int, int]] = field(default_factory=list)
    _inputs: dict[str, Tensor] = field(default_factory=dict)

    @property
    def caches_halves(self) -> bool:
        """Whether the KV cache is not quantised."""
        return self.cache_type == HALF_PRECISION

    def device_of(self, unit: int) -> int | None:
        """The GPU that holds a unit, where the graph spans several."""
        return next((number for number, units in enumerate(self.devices) if unit in units), None)

    def has_cache_here(self, index: int) -> bool:
        """Whether the cache of a layer is where the operations at hand run."""
        if self.devices:
            return self.device_of(index) == self.device
        return index in self.here

    @property
    def keeps_experts(self) -> bool:
        """Whether the experts' results and weights live until they are added up; that is the GPU's doing."""
        return self.engine.keeps_experts and not self.on_cpu

    @property
    def keeps_routing(self) -> bool:
        """Whether all that the choice of experts is made of lives until they are chosen."""
        return self.engine.keeps_routing and not self.on_cpu

    @property
    def slots(self) -> int:
        """Requests side by side."""
        return self.layout.slots

    @property
    def tokens(self) -> int:
        """Tokens computed at once, a multiple of the slots."""
        return self.layout.tokens

    @property
    def tokens_per_slot(self) -> int:
        """Tokens of one request computed at once."""
        return self.layout.tokens // self.layout.slots

    def input(self, name: str, shape: tuple[int, ...], element_bytes: int = FLOAT_BYTES) -> Tensor:
        """The input of that name, made at its first use."""
        tensor = self._inputs.get(name)
        if tensor is None:
            tensor = Tensor(shape, element_bytes=element_bytes, is_input=True)
            self._inputs[name] = tensor
        return tensor

    def inputs(self) -> list[Tensor]:
        """All inputs so far."""
        return list(self._inputs.values())

    def embeddings(self) -> Tensor:
        """Embeddings of the tokens, looked up on the host."""
        return self.looked_up("embedding", (self.shape.embedding_length, self.tokens))

    def takes_mixed_batches(self) -> bool:
        """Whether tokens and embeddings may come in one batch."""
        return self.engine.takes_mixed_batches and self.shape.architecture not in ONE_KIND_OF_INPUT

    def looked_up(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Rows of a table on the host: an input of the GPU, an operation of the CPU."""
        if self.on_cpu:
            return operation(shape, self.input("tokens", (self.tokens,), INDEX_BYTES))
        return self.input(name, shape)

    def positions(self) -> Tensor:
        """Positions of the tokens; several for models with sections of positions."""
        count = self.tokens * (4 if self.shape.number("rope.dimension_sections") else 1)
        return self.input("positions", (count,), INDEX_BYTES)

    def mask(self, layer: LayerShape) -> Tensor:
        """Which cells each token may see."""
        element_bytes = HALF_BYTES if self.attention.is_flash else FLOAT_BYTES
        if layer.cache_layer is None:
            return self.input(f"mask {layer.attention}", (self.tokens, self.tokens), element_bytes)
        shape = (self.cells(layer), self.tokens_per_slot, 1, self.slots)
        return self.input(f"mask {layer.attention}", shape, element_bytes)

    def cells(self, layer: LayerShape) -> int:
        """Cells per slot that the layer sees."""
        return self.layout.sliding if layer.attention == "sliding" else self.layout.full

    @property
    def kept_states(self) -> int:
        """States that a recurrence keeps for each slot: the newest, and one for each token that may be taken back."""
        return 1 + tokens_ahead(self.shape) if traits(self.shape.architecture).takes_back else 1

    def output_rows(self) -> Tensor:
        """Which tokens the result is wanted of: of each slot one and those predicted ahead, or all of them for embeddings."""
        count = self.tokens if self.shape.is_embedding else self.slots * (1 + tokens_ahead(self.shape))
        return self.input("output rows", (count,), INDEX_BYTES)


def operation(shape: tuple[int, ...], *sources: Tensor, element_bytes: int = FLOAT_BYTES) -> Tensor:
    """A result that takes new memory."""
    return Tensor(shape, sources, element_bytes=element_bytes)


def elementwise(first: Tensor, *others: Tensor) -> Tensor:
    """A result that may be written over an operand of the same shape."""
    return Tensor(first.shape, (first, *others), element_bytes=first.element_bytes, reuses=True)


def view(source: Tensor, shape: tuple[int, ...], *, is_plain: bool = False) -> Tensor:
    """The same memory in another shape."""
    root = source if source.root is None else source.root
    return Tensor(shape, (source,), element_bytes=source.element_bytes, root=root, is_plain=is_plain)


def reshaped(source: Tensor, *shape: int) -> Tensor:
    """The same elements, in the same order, under another shape."""
    return view(source, shape, is_plain=True)


def permuted(source: Tensor, *order: int) -> Tensor:
    """The same memory with its dimensions in another order; `order[i]` is where dimension i goes."""
    shape = [0, 0, 0, 0]
    for place, length in zip(order, source.shape):
        shape[place] = length
    return view(source, tuple(shape))


def stored(context: Context, *sources: Tensor) -> Tensor:
    """A write to memory outside of the graph, done now."""
    return context.graph.expand(Tensor((0,), sources, root=OUTSIDE, device=context.device))


def weighted(context: Context, result: Tensor) -> Tensor:
    """An operation that reads weights, and so runs where they are."""
    context.graph.leafs += 1
    result.device = context.device if context.weights_device is None else context.weights_device
    return result


def product(context: Context, width: int, source: Tensor) -> Tensor:
    """A matrix of weights, `width` rows, times the source."""
    return weighted(context, operation((width, *source.shape[1:]), source))


def projected(context: Context, form: Form, name: str, source: Tensor) -> Tensor:
    """A linear layer, with its bias where the model has one."""
    result = product(context, form[f"{name}.weight"][1], source)
    if f"{name}.bias" in form:
        result = weighted(context, elementwise(result))
    return result


def root_mean_square_norm(source: Tensor) -> Tensor:
    """RMS norm without weights."""
    return elementwise(source)


def norm(context: Context, form: Form, name: str, source: Tensor, *, centred: bool = False) -> Tensor:
    """A norm with its weight and bias where the model has them; centred: layer norm instead of RMS norm."""
    result = operation(source.shape, source) if centred else elementwise(source)
    for suffix in ("weight", "bias"):
        if f"{name}.{suffix}" in form:
            if context.is_inside:
                # Source: llama.cpp src/llama-context.cpp, graph_get_cb: "norm" runs where its layer is (b10488)
                result.device = context.device
            result = weighted(context, elementwise(result))
    return result


def reserve_mixed_input(context: Context, width: int) -> None:
    """The input of a batch of tokens and embeddings, which has its room in the graph and is not read.

    Source: llama.cpp src/llama-graph.cpp, build_inp_embd (b11434).
    """
    own = context.shape.embedding_length
    tokens = context.looked_up("mixed tokens", (own, context.tokens))
    embeddings = context.input("mixed embeddings", (width, context.tokens))
    slots = context.input("mixed slots", (context.tokens,), LONG_INDEX_BYTES)
    has_second_table = POSITIONS in dict(context.shape.model_form) or context.shape.number(LAYER_INPUTS)
    if has_second_table and not context.on_cpu:
        # The host looks that up next, and so does this too.
        return
    if width > own:
        tokens = operation((width, context.tokens), tokens)
    copy = operation((width, context.tokens), embeddings)
    context.graph.expand(Tensor(copy.shape, (tokens, slots, copy), root=copy, writes=True))


def scaled_tokens(context: Context, embedding: Tensor) -> Tensor:
    """Embeddings multiplied by a constant; by one for each row where a batch may hold embeddings too."""
    if not context.takes_mixed_batches():
        return elementwise(embedding)
    scales = context.input("row scales", (1, context.tokens))
    # Before layers' inputs are looked up, that is still the host's work.
    is_on_host = context.shape.number(LAYER_INPUTS) and not context.on_cpu
    return embedding if is_on_host else elementwise(embedding, scales)


def rows(source: Tensor, indices: Tensor) -> Tensor:
    """The rows that `indices` names."""
    return operation((source.shape[0], indices.shape[0]), source, indices)


def added(first: Tensor, second: Tensor) -> Tensor:
    """A sum."""
    return elementwise(first, second)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """The activation of a gate times the other half: one operation with a result of its own."""
    return operation(gate.shape, gate, up)


def _rotated(context: Context, source: Tensor, length: int, name: str) -> Tensor:
    matrix = context.input(f"{name} {length}", (length, length))
    first, second, third, fourth = source.shape
    count = first * second * third * fourth // length
    flat = reshaped(source, length, count) if source.is_plain else operation((length, count), source)
    return reshaped(operation((length, count), matrix, flat), *source.shape)


def _power_of_two_divisor(length: int) -> int:
    divisor = ROTATION_LENGTH
    while length and length % (2 * divisor) == 0:
        divisor *= 2
    return divisor


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of one layer; keys and values are None where the layer reuses another's cache."""

    query: Tensor
    key: Tensor | None
    value: Tensor | None


def query_key_value(context: Context, form: Form, layer: LayerShape, source: Tensor) -> Heads:
    """Queries, keys and values, from one fused projection or three."""
    tokens = context.tokens
    key = (layer.key_length, layer.head_count_kv, tokens)
    value = (layer.value_length, layer.head_count_kv, tokens)
    query = (layer.key_length, layer.head_count, tokens)
    if "attn_qkv.weight" in form:
        fused = projected(context, form, "attn_qkv", source)
        return Heads(view(fused, query), view(fused, key), view(fused, value))
    return Heads(
        reshaped(projected(context, form, "attn_q", source), *query),
        reshaped(projected(context, form, "attn_k", source), *key),
        reshaped(projected(context, form, "attn_v", source), *value),
    )


def attention(
    context: Context,
    layer: LayerShape,
    heads: Heads,
    *,
    decompressed_length: int = 0,
    has_sinks: bool = False,
    soft_cap: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention of the heads over the layer's cache; the result has one row per token.

    decompressed_length: with latent attention, the length of one head's value after decompression. mask: another one
    than the layer's.
    Source: llama.cpp src/llama-graph.cpp, build_attn and build_attn_mha (b10488).
    """
    graph = context.graph
    query, key, value = heads.query, heads.key, heads.value
    is_sliding_model = bool(context.layout.sliding)
    if not decompressed_length:
        heads = rotated_heads(context, layer, heads)
        query, key, value = heads.query, heads.key, heads.value
    graph.expand(query)
    for part in (key, value) if is_sliding_model or layer.cache_layer is None else (value, key):
        if part is not None and not (decompressed_length and part is value):
            graph.expand(part)
    if layer.cache_layer is None:
        result = _attention_over_batch(context, layer, query, key, value)
    else:
        store(context, layer, key, None if decompressed_length else value)
        if context.attention is Attention.FLASH:
            result = _flash_attention(context, layer, query, decompressed_length, mask)
        elif context.attention is Attention.FLASH_ON_HOST:
            result = _flash_attention_on_host(context, layer, query)
        else:
            result = _plain_attention(context, layer, query, decompressed_length, soft_cap, mask)
    if has_sinks:
        graph.leafs += 1
    graph.expand(result)
    if decompressed_length or layer.cache_layer is None:
        return result
    return rotated_back(context, layer, result)


def rotated_heads(context: Context, layer: LayerShape, heads: Heads) -> Heads:
    """Queries, keys and values as a quantised cache wants them."""
    query, key, value = heads.query, heads.key, heads.value
    if context.caches_halves or layer.cache_layer is None:
        return heads
    by_key, by_value = _rotations(context, layer)
    if by_key:
        divisor = _power_of_two_divisor(layer.key_length)
        query = _rotated(context, query, divisor, f"rotation {layer.attention}")
        if key is not None:
            key = _rotated(context, key, divisor, f"rotation {layer.attention}")
    if by_value and value is not None:
        value = _rotated(context, value, ROTATION_LENGTH, f"value rotation {layer.attention}")
    return Heads(query, key, value)


def rotated_back(context: Context, layer: LayerShape, result: Tensor) -> Tensor:
    """What attention over a cache of rotated values gives, as it would be without."""
    if context.caches_halves or not _rotations(context, layer)[1]:
        return result
    return _rotated(context, result, ROTATION_LENGTH, f"value rotation {layer.attention}")


def _rotations(context: Context, layer: LayerShape) -> tuple[bool, bool]:
    """Whether keys and values of the cache that the layer belongs to are rotated.

    Source: llama.cpp src/llama-kv-cache.cpp, attn_rot_k and attn_rot_v (b10488).
    """
    owners = [
        one
        for index, one in enumerate(context.shape.layers)
        if one.cache_layer == index and one.attention == layer.attention
    ]
    first = context.shape.layers[0]
    same_key = len({one.key_length for one in owners}) == 1
    same_value = len({one.value_length for one in owners}) == 1
    return (
        same_key and first.key_length % ROTATION_LENGTH == 0,
        same_value and first.value_length % ROTATION_LENGTH == 0 and not context.shape.is_latent_attention,
    )


def store(context: Context, layer: LayerShape, key: Tensor | None, value: Tensor | None) -> None:
    """Write keys and values into the layer's cache, now."""
    tokens = context.tokens
    merged = 1 if context.slots > 1 else 0
    if key is not None:
        rows_wanted = context.input(f"key rows {layer.attention}", (tokens,), LONG_INDEX_BYTES)
        stored(context, view(key, (layer.key_width, tokens), is_plain=True), rows_wanted)
        context.graph.leafs += 1
        context.graph.outside_nodes += merged
    if value is None:
        return
    if not context.attention.transposes_values:
        rows_wanted = context.input(f"value rows {layer.attention}", (tokens,), LONG_INDEX_BYTES)
        stored(context, view(value, (layer.value_width, tokens), is_plain=True), rows_wanted)
        context.graph.leafs += 1
        context.graph.outside_nodes += merged
        return
    widest = widest_value(context.shape)
    rows_wanted = context.input(f"value rows {layer.attention}", (tokens * widest,), LONG_INDEX_BYTES)
    joined = (layer.value_width, tokens)
    value = reshaped(value, *joined) if value.is_plain else operation(joined, value)
    if layer.value_width < widest:
        value = operation((widest, tokens), value)
    stored(context, reshaped(value, 1, widest * tokens), rows_wanted)
    context.graph.leafs += 1
    context.graph.outside_nodes += 1


def _split_by_slot(context: Context, query: Tensor) -> Tensor:
    length, heads, _tokens, _one = query.shape
    return permuted(view(query, (length, heads, context.tokens_per_slot, context.slots)), 0, 2, 1, 3)


def half_precision_copy_bytes(context: Context, layer: LayerShape, is_latent: bool) -> int:
    """Room that flash attention takes to read a quantised cache in half precision.

    Source: llama.cpp ggml/src/ggml-cuda/fattn-common.cuh, ggml_cuda_flash_attn_ext_get_f16_extra_data (b10488).
    """
    if context.caches_halves or context.on_cpu:
        return 0
    reads_blocks = layer.key_length <= VECTOR_KERNEL_HEAD and layer.key_length % ROTATION_LENGTH == 0
    if reads_blocks and context.tokens_per_slot <= VECTOR_KERNEL_TOKENS:
        return 0
    width = layer.key_width + (0 if is_latent else layer.value_width)
    return HALF_BYTES * context.cells(layer) * context.slots * width


def _distant_cache(context: Context, layer: LayerShape) -> tuple[Tensor, ...]:
    """Copies of the keys and values that another device keeps, for a layer that reuses them."""
    if layer.cache_layer is None or context.has_cache_here(layer.cache_layer):
        return ()
    owner = context.shape.layers[layer.cache_layer]
    count = context.cells(layer) * context.slots
    value_bytes = tensor_bytes(context.cache_type.upper(), (owner.value_width, count))
    if context.attention.transposes_values:
        # What is copied spans the rows that wider layers have beside those of this one.
        unused = widest_value(context.shape) - owner.value_width
        value_bytes += HALF_BYTES * unused * context.cells(layer) * (context.slots - 1)
    key_bytes = tensor_bytes(context.cache_type.upper(), (owner.key_width, count))
    name = f"distant {len(context.inputs())}"
    return (
        context.input(f"{name} keys", (key_bytes,), 1),
        context.input(f"{name} values", (value_bytes,), 1),
    )


def _flash_attention(
    context: Context,
    layer: LayerShape,
    query: Tensor,
    decompressed_length: int,
    mask: Tensor | None,
) -> Tensor:
    heads = layer.head_count
    context.graph.outside_nodes += CACHE_VIEWS
    mask = context.mask(layer) if mask is None else mask
    operands = (_split_by_slot(context, query), *_distant_cache(context, layer), mask)
    result = Tensor(
        (layer.value_length, heads, context.tokens_per_slot, context.slots),
        operands,
        padding_bytes=half_precision_copy_bytes(context, layer, bool(decompressed_length)),
    )
    if not decompressed_length:
        return reshaped(result, layer.value_length * heads, context.tokens)
    heads_first = permuted(result, 0, 2, 1, 3)
    values = product(context, decompressed_length, heads_first)
    joined = operation(
        (decompressed_length, heads, context.tokens_per_slot, context.slots), permuted(values, 0, 2, 1, 3)
    )
    return reshaped(joined, decompressed_length * heads, context.tokens)


def _flash_attention_on_host(context: Context, layer: LayerShape, query: Tensor) -> Tensor:
    """The GPU hands the queries over and gets the result back."""
    result = (layer.value_length * layer.head_count, context.tokens)
    if context.device is not None:
        return Tensor(result, (_split_by_slot(context, query),), device=HOST)
    stored(context, _split_by_slot(context, query))
    return Tensor(result)


def _plain_attention(
    context: Context,
    layer: LayerShape,
    query: Tensor,
    decompressed_length: int,
    soft_cap: bool,
    mask: Tensor | None,
) -> Tensor:
    heads = layer.head_count
    turned = None
    if decompressed_length or not context.attention.transposes_values:
        # Values that lie in rows are transposed into a copy.
        heads_kv = 1 if decompressed_length else layer.head_count_kv
        turned = operation(
            (context.cells(layer), layer.value_length, heads_kv, context.slots), element_bytes=HALF_BYTES
        )
        context.graph.outside_nodes += 1
        context.graph.expand(turned)
    query = _split_by_slot(context, query)
    cached = _distant_cache(context, layer)
    scores = operation(
        (context.cells(layer), context.tokens_per_slot, heads, context.slots), *cached[:1], query
    )
    for _unused in range(3 if soft_cap else 0):
        scores = elementwise(scores)
    scores = elementwise(scores, context.mask(layer) if mask is None else mask)
    context.graph.outside_nodes += CACHE_VIEWS
    operands = (*cached[1:], scores) if turned is None else (turned, scores)
    weighted = operation((layer.value_length, *scores.shape[1:]), *operands)
    if decompressed_length:
        weighted = product(context, decompressed_length, weighted)
    return operation((weighted.shape[0] * heads, context.tokens), permuted(weighted, 0, 2, 1, 3))


def _attention_over_batch(
    context: Context, layer: LayerShape, query: Tensor, key: Tensor | None, value: Tensor | None
) -> Tensor:
    """Attention of an encoder, which keeps no cache."""
    if key is None or value is None:
        raise ValueError("an encoder's layer has keys and values of its own")
    heads, tokens = layer.head_count, context.tokens
    query = permuted(view(query, query.shape), 0, 2, 1, 3)
    key, value = permuted(key, 0, 2, 1, 3), permuted(value, 0, 2, 1, 3)
    if context.attention.is_flash:
        key = operation(key.shape, key, element_bytes=HALF_BYTES)
        value = operation(value.shape, value, element_bytes=HALF_BYTES)
        result = operation((layer.value_length, heads, tokens), query, key, value, context.mask(layer))
        return reshaped(result, layer.value_length * heads, tokens)
    scores = elementwise(operation((tokens, tokens, heads), key, query), context.mask(layer))
    turned = operation(
        (tokens, layer.value_length, layer.head_count_kv),
        view(value, (tokens, layer.value_length, layer.head_count_kv)),
    )
    weighted = operation((layer.value_length, tokens, heads), turned, scores)
    return operation((layer.value_length * heads, tokens), permuted(weighted, 0, 2, 1, 3))


def output_projection(context: Context, form: Form, source: Tensor, name: str = "attn_output") -> Tensor:
    """What attention gives back to the residual stream."""
    return projected(context, form, name, source)


def feed_forward(
    context: Context, form: Form, source: Tensor, *, suffix: str = "", squared: bool = False
) -> Tensor:
    """A feed-forward network: gated, fused or plain, as its tensors say.

    suffix: '' for the network itself, '_shexp' for the shared expert. squared: squared ReLU.
    """
    return projected(
        context, form, f"ffn_down{suffix}", activation(context, form, source, suffix=suffix, squared=squared)
    )


def activation(
    context: Context, form: Form, source: Tensor, *, suffix: str = "", squared: bool = False
) -> Tensor:
    """The first half of a feed-forward network."""
    up_name, gate_name, down_name = (f"ffn_{part}{suffix}" for part in ("up", "gate", "down"))
    up = projected(context, form, up_name, source)
    down_width = form[f"{down_name}.weight"][0]
    if f"{gate_name}.weight" in form:
        activated = gated(projected(context, form, gate_name, source), up)
    elif up.shape[0] == 2 * down_width:
        activated = operation((down_width, *up.shape[1:]), up)
    else:
        activated = elementwise(up)
        if squared:
            activated = elementwise(activated)
    if "ffn_sub_norm.weight" in form:
        activated = norm(context, form, "ffn_sub_norm", activated)
    return activated


@dataclass(frozen=True)
class Routing:
    """How experts are chosen and weighed.

    normalises: the weights are made to sum to one; normalises_if_told: where the header says so.
    scales: they are multiplied by a constant. weighs_chosen_only:
    the soft maximum is taken over the chosen experts. weighs_input: the weight is applied before the experts.
    squared: the experts' activation is a squared ReLU. roots: scores are roots of what they were.
    """

    normalises: bool = False
    normalises_if_told: bool = False
    scales: bool = False
    weighs_chosen_only: bool = False
    weighs_input: bool = False
    squared: bool = False
    roots: bool = False


def experts(
    context: Context,
    form: Form,
    source: Tensor,
    routing: Routing,
    *,
    scores: Tensor | None = None,
    shared: Tensor | None = None,
    chosen: Tensor | None = None,
) -> Tensor:
    """A mixture of experts; the result is a sum over the chosen ones.

    shared: the first half of a shared expert, where that runs right after theirs. chosen: which ones, where scores do
    not say that.

    Source: llama.cpp src/llama-graph.cpp, build_moe_ffn (b10488).
    """
    graph, tokens = context.graph, source.shape[1]
    width, count = source.shape[0], form["ffn_gate_inp.weight"][1]
    used = context.shape.number("expert_used_count", 1)
    if not 0 < used <= MAX_USED_EXPERTS:
        raise ValueError(f"{used} experts are used at once, expected 1 to {MAX_USED_EXPERTS}")
    if scores is None:
        scores = projected(context, form, "ffn_gate_inp", source)
    elif "ffn_gate_inp.bias" in form:
        scores = elementwise(scores)
    probabilities = scores if routing.weighs_chosen_only else elementwise(scores)
    if routing.roots:
        probabilities = elementwise(probabilities)
    selection = probabilities
    if "exp_probs_b.bias" in form or "exp_probs_b" in form:
        selection = weighted(context, elementwise(probabilities))
    is_grouped = context.shape.number("expert_group_count") > 1
    if routing.weighs_input:
        selection = scores
    is_given = chosen is not None
    if chosen is None:
        selection = _selected_groups(context, selection, count, tokens)
        chosen = view(operation((count, tokens), selection, element_bytes=INDEX_BYTES), (used, tokens))
    weights = operation((1, used, tokens), reshaped(probabilities, 1, count, tokens), chosen)
    if routing.weighs_chosen_only:
        weights = reshaped(elementwise(reshaped(weights, used, tokens)), 1, used, tokens)
    told = routing.normalises_if_told and context.shape.number("expert_weights_norm")
    if routing.normalises or told:
        flat = reshaped(weights, used, tokens)
        total = operation((1, tokens), flat)
        clamped = _clamped(context, total)
        weights = reshaped(elementwise(flat, clamped), 1, used, tokens)
    if routing.scales:
        weights = elementwise(weights)
    graph.expand(weights)
    chosen_by_all = not (is_given or is_grouped or routing.weighs_chosen_only or routing.weighs_input)
    if context.keeps_routing and chosen_by_all and _is_chosen_at_once(count):
        graph.keep_past_next(*_between(scores, weights))
    current = reshaped(source, width, 1, tokens)
    if routing.weighs_input:
        current = elementwise(operation((width, used, tokens), current), weights)
    activated = _expert_activation(context, form, current, chosen, routing, used, tokens)
    if shared is not None:
        graph.expand(activated)
        graph.expand(shared)
        graph.keep_until_here(current, chosen)
    result = weighted(context, operation((width, used, tokens), activated, chosen))
    if "ffn_down_exps.bias" in form:
        result = weighted(context, elementwise(result, chosen))
    raw = result
    if not routing.weighs_input:
        result = elementwise(result, weights)
    graph.expand(result)
    parts = [graph.expand(view(result, (width, tokens))) for _unused in range(used)]
    total = parts[0]
    for part in parts[1:]:
        total = graph.expand(added(total, part))
    if context.keeps_experts and not routing.weighs_input and used in REDUCED_TOGETHER:
        graph.keep_until_here(raw, weights)
    if used == 1:
        total = operation(total.shape, total)
    return total


def _is_chosen_at_once(count: int) -> bool:
    """Whether the GPU chooses among so many experts as one operation.

    Source: llama.cpp ggml/src/ggml-cuda/topk-moe.cu, ggml_cuda_should_use_topk_moe (b11218).
    """
    return (count <= CHOSEN_AT_ONCE and count & (count - 1) == 0) or count in ALSO_CHOSEN_AT_ONCE


def _between(first: Tensor, last: Tensor) -> list[Tensor]:
    """Two tensors and all that the way from one to the other reads, each once, in the order of the operations."""
    found: dict[Tensor, None] = {}

    def add(tensor: Tensor) -> None:
        if tensor is first or tensor in found:
            return
        for source in tensor.sources:
            add(source)
        found[tensor] = None

    add(last)
    return [first, *found]


def _clamped(context: Context, source: Tensor) -> Tensor:
    if context.engine.clamps_apart:
        return elementwise(source)
    return view(source, source.shape, is_plain=True)


def _selected_groups(context: Context, selection: Tensor, count: int, tokens: int) -> Tensor:
    """With experts in groups, only the best groups stay in the choice."""
    groups = context.shape.number("expert_group_count")
    if groups <= 1:
        return selection
    kept = context.shape.number("expert_group_used_count", 1)
    size = count // groups
    grouped = reshaped(selection, size, groups, tokens)
    best = view(operation((size, groups, tokens), grouped, element_bytes=INDEX_BYTES), (2, groups, tokens))
    values = operation((1, 2, groups, tokens), reshaped(grouped, 1, size, groups, tokens), best)
    sums = reshaped(operation((1, groups, tokens), reshaped(values, 2, groups, tokens)), groups, tokens)
    best_groups = view(operation((groups, tokens), sums, element_bytes=INDEX_BYTES), (kept, tokens))
    inside = operation((size, kept, tokens), grouped, best_groups)
    emptied = elementwise(grouped)
    filled = Tensor(emptied.shape, (emptied, inside, best_groups), root=emptied)
    return reshaped(filled, count, tokens)


def _expert_activation(
    context: Context, form: Form, source: Tensor, chosen: Tensor, routing: Routing, used: int, tokens: int
) -> Tensor:
    hidden = form["ffn_down_exps.weight"][0]
    if "ffn_gate_up_exps.weight" in form:
        both = weighted(context, operation((2 * hidden, used, tokens), source, chosen))
        if "ffn_gate_up_exps.bias" in form:
            both = elementwise(both, chosen)
        half = (hidden, used, tokens)
        return gated(view(both, half), view(both, half))

    def one(name: str) -> Tensor:
        result = weighted(context, operation((hidden, used, tokens), source, chosen))
        if f"{name}.bias" in form:
            result = weighted(context, elementwise(result, chosen))
        return result

    up = one("ffn_up_exps")
    if "ffn_gate_exps.weight" in form:
        return gated(one("ffn_gate_exps"), up)
    activated = elementwise(up)
    return elementwise(activated) if routing.squared else activated
