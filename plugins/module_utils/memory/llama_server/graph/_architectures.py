# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which architecture is built from which layers, by `general.architecture`."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Form,
    Routing,
    elementwise,
    norm,
    operation,
    product,
    rows,
    scaled_tokens,
    view,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._compressed import (
    begin_streams,
    compressing_layer,
    end_streams,
    resume_streams,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._gemma import (
    SPARSE_LAYERS,
    begin_gemma3n,
    begin_gemma4,
    gemma3n_layer,
    gemma4_layer,
    merged_streams,
    resume_gemma3n,
    resume_gemma4,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    INDEX_BYTES,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._layers import (
    PLAIN,
    UNLESS_NORMED,
    Style,
    delta_or_latent_layer,
    doubly_fed_layer,
    encoder_layer,
    ends_a_loop,
    hybrid_layer,
    latent_layer,
    looped_layer,
    parallel_hybrid_layer,
    partial_layer,
    sole_mixer_layer,
    transformer_layer,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._sparse import (
    sparse_block_layer,
    sparse_latent_layer,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape

# Source: llama.cpp include/llama.h, LLAMA_POOLING_TYPE_MEAN (b10488)
MEAN_POOLING = 1

Layer = Callable[..., Tensor]


def _begin(_context: Context, embedding: Tensor) -> Tensor:
    return embedding


def _resume(context: Context, after_last: bool) -> Tensor:
    """The residual stream as another device hands it over."""
    count = context.output_rows().shape[0] if after_last else context.tokens
    return context.input("residual stream", (context.shape.embedding_length, count))


def _resume_all_tokens(context: Context, _after_last: bool) -> Tensor:
    return _resume(context, after_last=False)


def _begin_scaled(_context: Context, embedding: Tensor) -> Tensor:
    return elementwise(embedding)


def _begin_tokens_scaled(context: Context, embedding: Tensor) -> Tensor:
    return scaled_tokens(context, embedding)


def _end(context: Context, current: Tensor) -> Tensor:
    form = dict(context.shape.model_form)
    current = norm(context, form, "output_norm", current)
    context.graph.expand(product(context, context.shape.vocabulary_size, current))
    return _pooled(context, current) if context.shape.is_embedding else current


def _end_merging_streams(context: Context, current: Tensor) -> Tensor:
    return _end(context, merged_streams(context, current))


def _end_picking_rows(context: Context, current: Tensor) -> Tensor:
    return _end(context, rows(current, context.output_rows()))


def _end_norming_first(context: Context, current: Tensor) -> Tensor:
    """The rows wanted are picked after the last norm."""
    form = dict(context.shape.model_form)
    current = rows(norm(context, form, "output_norm", current), context.output_rows())
    return context.graph.expand(product(context, context.shape.vocabulary_size, current))


def _pooled(context: Context, current: Tensor) -> Tensor:
    """One embedding for each request.

    Source: llama.cpp src/llama-graph.cpp, build_pooling (b10488).
    """
    width, count, slots = current.shape[0], current.shape[1], context.slots
    if context.shape.number("pooling_type") == MEAN_POOLING:
        weights = context.input("mean weights", (count, slots))
        turned = operation((count, width), view(current, (count, width)))
        return context.graph.expand(operation((width, slots), turned, weights))
    return context.graph.expand(rows(current, context.input("pooled rows", (slots,), INDEX_BYTES)))


def _begin_predicting(context: Context, embedding: Tensor) -> Tensor:
    """The embedding of each token beside what the first context has made of the one before it, both normalised.

    Source: llama.cpp src/models/qwen35.cpp and qwen35moe.cpp, graph_mtp (b10068 to b11434).
    """
    width, count = embedding.shape[:2]
    weights: Form = {"embedding.weight": (width,), "made.weight": (width,)}
    made = norm(context, weights, "made", context.input("made by the first context", (width, count)))
    return product(context, width, operation((2 * width, count), norm(context, weights, "embedding", embedding), made))


def _begin_encoder(context: Context, embedding: Tensor) -> Tensor:
    """Token embeddings, token types and positions, summed and normalised.

    Source: llama.cpp src/models/bert.cpp (b10488).
    """
    form = dict(context.shape.model_form)
    current = embedding
    if "token_types.weight" in form:
        current = elementwise(current, context.looked_up("token types", (current.shape[0],)))
    if "position_embd.weight" in form:
        positions = context.looked_up("position embeddings", current.shape)
        current = elementwise(positions, current)
    return norm(context, form, "token_embd_norm", current, centred=True)


def _end_encoder(context: Context, current: Tensor) -> Tensor:
    return _pooled(context, context.graph.expand(current))


def _end_normed_encoder(context: Context, current: Tensor) -> Tensor:
    form = dict(context.shape.model_form)
    return _end_encoder(context, norm(context, form, "output_norm", current, centred=True))


def _begin_with_positions(context: Context, embedding: Tensor) -> Tensor:
    if "position_embd.weight" not in dict(context.shape.model_form):
        return embedding
    return elementwise(embedding, context.looked_up("position embeddings", embedding.shape))


def _begin_normed(context: Context, embedding: Tensor) -> Tensor:
    return norm(context, dict(context.shape.model_form), "token_embd_norm", embedding, centred=True)


def _begin_deep(context: Context, embedding: Tensor) -> Tensor:
    """Embeddings with room for what the first layers get of an image.

    Source: llama.cpp src/models/qwen3vl.cpp and src/llama-graph.cpp, build_inp_embd (b10488).
    """
    depth = context.shape.number("n_deepstack_layers")
    if not depth:
        return embedding
    width, count = embedding.shape[:2]
    context.deep_inputs = operation(((1 + depth) * width, count), embedding)
    return view(context.deep_inputs, (width, count))


@dataclass(frozen=True)
class Architecture:
    """How the graph of an architecture begins, goes on from layer to layer, and ends.

    begins_with_output: its first operations read weights that lie with the output. copies_views: layers read pieces of
    inputs, each of which is copied for itself. spreads: a layer's first operations run where the one before it does.
    """

    style: Style = PLAIN
    layer: Layer = transformer_layer
    begin: Callable[[Context, Tensor], Tensor] = _begin
    resume: Callable[..., Tensor] = _resume
    end: Callable[[Context, Tensor], Tensor] = _end
    begins_with_output: bool = False
    copies_views: bool = False
    spreads: bool = False


NORMALISED = Routing(normalises=True)
NORMALISED_SCALED = Routing(normalises_if_told=True, scales=True)
PRE_NORM_ENCODER: dict[str, Any] = {"begin": _begin_encoder, "end": _end_normed_encoder}
POST_NORM_ENCODER: dict[str, Any] = {"layer": encoder_layer, "begin": _begin_encoder, "end": _end_encoder}
ROWS_AT_END: dict[str, Any] = {"resume": _resume_all_tokens, "end": _end_picking_rows}

TRANSFORMER = Architecture()
EXPERTS = Architecture(Style(routing=NORMALISED))
SCALED_EXPERTS = Architecture(Style(routing=NORMALISED_SCALED))
CENTRED = Architecture(Style(centred=True))
LEARNED_POSITIONS = Architecture(Style(centred=True, rotates="never"), begin=_begin_with_positions)
SCALING = Architecture(Style(scales_residual=True, routing=NORMALISED), begin=_begin_scaled)
NEMOTRON_H = Architecture(
    Style(
        rotates="never",
        rows_at_end=True,
        squared=True,
        routing=Routing(normalises_if_told=True, scales=True, squared=True),
    ),
    layer=sole_mixer_layer,
    **ROWS_AT_END,
)
DELTA_NET_HYBRID = Architecture(
    Style(rows_at_end=True, expands_norm=True, routing=NORMALISED), layer=hybrid_layer, **ROWS_AT_END
)
# A block that predicts one token further, as a model of its own.
PREDICTING = Architecture(
    Style(rows_at_end=True, routing=NORMALISED),
    layer=hybrid_layer,
    begin=_begin_predicting,
    end=_end_norming_first,
)
SHORT_CONVOLUTION_HYBRID = Architecture(
    Style(residual_first=True, mixer_residual_first=True, routing=NORMALISED), layer=hybrid_layer
)
LATENT = Architecture(Style(routing=NORMALISED_SCALED), layer=latent_layer)
SPARSE_LATENT = Architecture(Style(routing=NORMALISED_SCALED), layer=sparse_latent_layer)

ARCHITECTURES = {
    "afmoe": Architecture(Style(routing=NORMALISED_SCALED, rotates="sliding"), begin=_begin_scaled),
    "apertus": TRANSFORMER,
    "arcee": TRANSFORMER,
    "arctic": Architecture(Style(routing=NORMALISED), layer=doubly_fed_layer),
    "baichuan": TRANSFORMER,
    "bailingmoe": SCALED_EXPERTS,
    "bailingmoe2": SCALED_EXPERTS,
    "bailingmoe3": Architecture(
        Style(rows_at_end=True, routing=NORMALISED_SCALED),
        layer=delta_or_latent_layer,
        resume=_resume_all_tokens,
        end=_end_norming_first,
    ),
    "bert": Architecture(Style(centred=True, rotates="never"), **POST_NORM_ENCODER),
    "bitnet": TRANSFORMER,
    "bloom": Architecture(Style(centred=True, rotates="never"), begin=_begin_normed),
    "chatglm": TRANSFORMER,
    "cogvlm": TRANSFORMER,
    "cohere2": Architecture(Style(centred=True, parallel="feed_forward_residual", rotates="sliding")),
    "cohere2moe": Architecture(
        Style(
            centred=True,
            parallel="feed_forward_residual",
            rotates="sliding_or_dense",
            rows_at_end=True,
            routing=Routing(normalises_if_told=True),
        ),
        resume=_resume_all_tokens,
        end=_end_norming_first,
    ),
    "command-r": Architecture(Style(centred=True, parallel="feed_forward_residual")),
    "dbrx": Architecture(Style(centred=True, routing=NORMALISED)),
    "deci": Architecture(layer=partial_layer),
    "deepseek": Architecture(Style(routing=Routing(scales=True))),
    "deepseek2": LATENT,
    "deepseek2-ocr": SCALED_EXPERTS,
    "deepseek32": SPARSE_LATENT,
    "deepseek4": Architecture(
        Style(routing=Routing(normalises_if_told=True, scales=True, roots=True)),
        layer=compressing_layer,
        begin=begin_streams,
        resume=resume_streams,
        end=end_streams,
        spreads=True,
    ),
    "dots1": SCALED_EXPERTS,
    "ernie4_5": TRANSFORMER,
    "ernie4_5-moe": EXPERTS,
    "eurobert": Architecture(**PRE_NORM_ENCODER),
    "exaone": TRANSFORMER,
    "exaone-moe": SCALED_EXPERTS,
    "exaone4": Architecture(Style(rotates="sliding")),
    "falcon": Architecture(Style(centred=True, parallel="feed_forward")),
    "falcon-h1": Architecture(layer=parallel_hybrid_layer),
    "gemma": Architecture(Style(scales_query=True), begin=_begin_scaled),
    "gemma-embedding": Architecture(Style(scales_query=True), begin=_begin_tokens_scaled, end=_end_normed_encoder),
    "gemma2": Architecture(Style(scales_query=True, soft_cap=True), begin=_begin_scaled),
    "gemma3": Architecture(Style(scales_query=True), begin=_begin_tokens_scaled),
    "gemma3n": Architecture(
        Style(norms_values=True),
        layer=gemma3n_layer,
        begin=begin_gemma3n,
        resume=resume_gemma3n,
        end=_end_merging_streams,
        begins_with_output=True,
    ),
    "gemma4": Architecture(
        layer=gemma4_layer, begin=begin_gemma4, resume=resume_gemma4, end=_end_picking_rows
    ),
    "glm-dsa": SPARSE_LATENT,
    "glm4": TRANSFORMER,
    "glm4moe": SCALED_EXPERTS,
    "gpt-oss": Architecture(Style(rows_at_end=True, routing=Routing(weighs_chosen_only=True)), **ROWS_AT_END),
    "gpt2": LEARNED_POSITIONS,
    "gptneox": Architecture(Style(centred=True, parallel="feed_forward_residual")),
    "granite": SCALING,
    "granitehybrid": Architecture(
        Style(rotates="never", scales_residual=True, routing=NORMALISED),
        layer=hybrid_layer,
        begin=_begin_scaled,
    ),
    "granite_swa": SCALING,
    "granitemoe": SCALING,
    "grok": EXPERTS,
    "hunyuan-dense": Architecture(Style(norms_after_rotation=True)),
    "hunyuan-moe": Architecture(Style(norms_after_rotation=True, routing=NORMALISED)),
    "hunyuan_vl": Architecture(Style(norms_after_rotation=True)),
    "hy_v3": Architecture(
        Style(rows_at_end=True, routing=NORMALISED_SCALED),
        resume=_resume_all_tokens,
        end=_end_norming_first,
    ),
    "internlm2": TRANSFORMER,
    "jamba": Architecture(
        Style(rotates="never", residual_first=True, mixer_residual_first=True), layer=hybrid_layer
    ),
    "jina-bert-v2": Architecture(Style(centred=True, rotates="never"), **POST_NORM_ENCODER),
    "jina-bert-v3": Architecture(Style(centred=True), **POST_NORM_ENCODER),
    "kimi-linear": Architecture(
        Style(rotates="never", expands_norm=True, routing=Routing(normalises=True, scales=True)),
        layer=delta_or_latent_layer,
    ),
    "laguna": SCALED_EXPERTS,
    "lfm2": SHORT_CONVOLUTION_HYBRID,
    "lfm2moe": SHORT_CONVOLUTION_HYBRID,
    "llama": EXPERTS,
    "llama4": Architecture(
        Style(no_rotation_interval=4, tempers_unturned=True, routing=Routing(weighs_input=True))
    ),
    "mamba": Architecture(layer=hybrid_layer),
    "mamba2": Architecture(layer=hybrid_layer),
    "mimo2": Architecture(Style(routing=Routing(normalises=True, scales=True))),
    "minicpm": SCALING,
    "minicpm3": Architecture(layer=latent_layer, begin=_begin_scaled),
    "minimax-m2": EXPERTS,
    "minimax-m3": Architecture(
        Style(routing=NORMALISED_SCALED), layer=sparse_block_layer, copies_views=True
    ),
    "mistral3": EXPERTS,
    "mistral4": LATENT,
    "modern-bert": Architecture(Style(centred=True), **PRE_NORM_ENCODER),
    "mpt": Architecture(Style(centred=True, rotates="never"), begin=_begin_with_positions),
    "nanbeige": Architecture(layer=looped_layer),
    "nemotron": CENTRED,
    "nemotron_h": NEMOTRON_H,
    "nemotron_h_moe": NEMOTRON_H,
    "nomic-bert": Architecture(Style(centred=True), **POST_NORM_ENCODER),
    "nomic-bert-moe": Architecture(Style(centred=True), **POST_NORM_ENCODER),
    "olmo": Architecture(Style(centred=True, bare_norms=True)),
    "olmo2": TRANSFORMER,
    "olmoe": TRANSFORMER,
    "orion": CENTRED,
    "paddleocr": TRANSFORMER,
    "phi2": Architecture(Style(centred=True, parallel="attention", scales_query=True)),
    "phi3": Architecture(Style(scales_query=True, residual_first=True)),
    "phimoe": Architecture(Style(centred=True, scales_query=True, residual_first=True, routing=NORMALISED)),
    "plamo3": TRANSFORMER,
    "qwen": TRANSFORMER,
    "qwen2": TRANSFORMER,
    "qwen2moe": TRANSFORMER,
    "qwen2vl": TRANSFORMER,
    "qwen3": TRANSFORMER,
    "qwen35": DELTA_NET_HYBRID,
    "qwen35/predicting": PREDICTING,
    "qwen35moe": DELTA_NET_HYBRID,
    "qwen35moe/predicting": PREDICTING,
    "qwen3moe": EXPERTS,
    "qwen3next": DELTA_NET_HYBRID,
    "qwen3vl": Architecture(begin=_begin_deep),
    "qwen3vlmoe": Architecture(Style(routing=NORMALISED), begin=_begin_deep),
    "seed_oss": TRANSFORMER,
    "smallthinker": Architecture(Style(routes_by_source=True, rotates="sliding", routing=NORMALISED)),
    "smollm3": Architecture(Style(no_rotation_interval=4)),
    "stablelm": Architecture(Style(centred=True, parallel=UNLESS_NORMED)),
    "starcoder": LEARNED_POSITIONS,
    "starcoder2": CENTRED,
    "step35": Architecture(Style(rows_at_end=True, routing=NORMALISED_SCALED), **ROWS_AT_END),
    "xverse": TRANSFORMER,
}


def variant(shape: ModelShape, index: int) -> object:
    """What makes a layer differ from others with the same tensors."""
    if shape.architecture == "gemma3n":
        return index < SPARSE_LAYERS
    if shape.runs > 1:
        return ends_a_loop(shape, index)
    deep_layers = shape.number("n_deepstack_layers")
    if deep_layers:
        return index < deep_layers
    interval = ARCHITECTURES.get(shape.architecture, TRANSFORMER).style.no_rotation_interval
    return index % interval if interval else None
