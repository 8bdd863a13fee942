# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which architecture is built from which layers, by `general.architecture`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph import INDEX_BYTES, Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph_blocks import (
    Context,
    Routing,
    elementwise,
    norm,
    operation,
    product,
    rows,
    view,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph_gemma import (
    SPARSE_LAYERS,
    begin_gemma3n,
    begin_gemma4,
    gemma3n_layer,
    gemma4_layer,
    merged_streams,
    resume_gemma3n,
    resume_gemma4,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph_layers import (
    PLAIN,
    Style,
    encoder_layer,
    hybrid_layer,
    latent_layer,
    sole_mixer_layer,
    transformer_layer,
)

# Source: llama.cpp include/llama.h, LLAMA_POOLING_TYPE_MEAN (b10488)
MEAN_POOLING = 1

Layer = Callable[..., Tensor]


def _begin(context: Context, embedding: Tensor) -> Tensor:
    return embedding


def _resume(context: Context, *, after_last: bool) -> Tensor:
    """The residual stream as another device hands it over."""
    count = context.output_rows().shape[0] if after_last else context.tokens
    return context.input("residual stream", (context.shape.embedding_length, count))


def _resume_all_tokens(context: Context, *, after_last: bool) -> Tensor:
    return _resume(context, after_last=False)


def _begin_scaled(context: Context, embedding: Tensor) -> Tensor:
    return elementwise(embedding)


def _end(context: Context, current: Tensor) -> Tensor:
    form = dict(context.shape.model_form)
    current = norm(context, form, "output_norm", current)
    context.graph.expand(product(context, context.shape.vocabulary_size, current))
    return _pooled(context, current) if context.shape.is_embedding else current


def _end_merging_streams(context: Context, current: Tensor) -> Tensor:
    return _end(context, merged_streams(context, current))


def _end_picking_rows(context: Context, current: Tensor) -> Tensor:
    return _end(context, rows(current, context.output_rows()))


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


@dataclass(frozen=True)
class Architecture:
    """How the graph of an architecture begins, goes on from layer to layer, and ends."""

    style: Style = PLAIN
    layer: Layer = transformer_layer
    begin: Callable[[Context, Tensor], Tensor] = _begin
    resume: Callable[..., Tensor] = _resume
    end: Callable[[Context, Tensor], Tensor] = _end


ARCHITECTURES = {
    "llama": Architecture(Style(routing=Routing(normalises=True))),
    "qwen2": Architecture(),
    "qwen3": Architecture(),
    "command-r": Architecture(Style(centred=True, parallel="feed_forward")),
    "gemma2": Architecture(Style(scales_query=True, soft_cap=True), begin=_begin_scaled),
    "gemma3": Architecture(Style(scales_query=True), begin=_begin_scaled),
    "gemma3n": Architecture(
        Style(norms_values=True),
        layer=gemma3n_layer,
        begin=begin_gemma3n,
        resume=resume_gemma3n,
        end=_end_merging_streams,
    ),
    "gemma4": Architecture(
        layer=gemma4_layer, begin=begin_gemma4, resume=resume_gemma4, end=_end_picking_rows
    ),
    "gpt-oss": Architecture(
        Style(rows_at_end=True, routing=Routing(weighs_chosen_only=True)),
        resume=_resume_all_tokens,
        end=_end_picking_rows,
    ),
    "olmo2": Architecture(),
    "phi3": Architecture(Style(scales_query=True, residual_first=True, routing=Routing(normalises=True))),
    "granitehybrid": Architecture(
        Style(rotates="never", scales_residual=True, routing=Routing(normalises=True)),
        layer=hybrid_layer,
        begin=_begin_scaled,
    ),
    "nemotron_h_moe": Architecture(
        Style(
            rotates="never",
            rows_at_end=True,
            squared=True,
            routing=Routing(normalises=True, scales=True, squared=True),
        ),
        layer=sole_mixer_layer,
        resume=_resume_all_tokens,
        end=_end_picking_rows,
    ),
    "qwen35": Architecture(
        Style(rows_at_end=True, expands_norm=True, routing=Routing(normalises=True)),
        layer=hybrid_layer,
        resume=_resume_all_tokens,
        end=_end_picking_rows,
    ),
    "bert": Architecture(
        Style(centred=True, rotates="never"), layer=encoder_layer, begin=_begin_encoder, end=_end_encoder
    ),
    "nomic-bert": Architecture(
        Style(centred=True), layer=encoder_layer, begin=_begin_encoder, end=_end_encoder
    ),
    "deepseek2": Architecture(Style(), layer=latent_layer),
}


def variant(shape: ModelShape, index: int) -> object:
    """What makes a layer differ from others with the same tensors."""
    if shape.architecture == "gemma3n":
        return index < SPARSE_LAYERS
    return None
