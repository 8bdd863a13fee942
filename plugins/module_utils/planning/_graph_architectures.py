# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which architecture is built from which layers, by `general.architecture`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph import Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph_blocks import (
    Context,
    Routing,
    elementwise,
    norm,
    operation,
    product,
    rows,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph_layers import (
    Style,
    encoder_layer,
    latent_layer,
    transformer_layer,
)

Layer = Callable[..., Tensor]


def _begin(context: Context, embedding: Tensor) -> Tensor:
    return embedding


def _begin_scaled(context: Context, embedding: Tensor) -> Tensor:
    return elementwise(embedding)


def _end(context: Context, current: Tensor) -> Tensor:
    if current.shape[1] != context.output_rows().shape[0]:
        current = rows(current, context.output_rows())
    form = dict(context.shape.model_form)
    current = norm(context, form, "output_norm", current)
    return context.graph.expand(product(context, context.shape.vocabulary_size, current))


@dataclass(frozen=True)
class Architecture:
    """How the graph of an architecture begins, goes on from layer to layer, and ends."""

    style: Style = Style()
    layer: Layer = transformer_layer
    begin: Callable[[Context, Tensor], Tensor] = _begin
    end: Callable[[Context, Tensor], Tensor] = _end


ARCHITECTURES = {
    "llama": Architecture(Style(routing=Routing(normalises=True))),
    "qwen2": Architecture(),
    "qwen3": Architecture(),
    "command-r": Architecture(Style(centred=True, parallel="feed_forward")),
    "gemma2": Architecture(Style(scales_query=True, soft_cap=True), begin=_begin_scaled),
    "gemma3": Architecture(Style(scales_query=True), begin=_begin_scaled),
    "gpt-oss": Architecture(Style(rows_at_end=True, routing=Routing(weighs_chosen_only=True))),
    "olmo2": Architecture(),
    "phi3": Architecture(Style(scales_query=True, residual_first=True, routing=Routing(normalises=True))),
    "deepseek2": Architecture(Style(), layer=latent_layer),
}


def variant(shape: ModelShape, index: int) -> object:
    """What makes a layer differ from others with the same tensors."""
    return None
