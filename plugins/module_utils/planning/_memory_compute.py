# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compute buffer: what the engine's graph needs besides weights and cache."""

from __future__ import annotations

from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._tensor_types import CUDA_ALIGNMENT_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _graph_architectures
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph_blocks import (
    Context,
    elementwise,
    norm,
    product,
    rows,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory_flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory_kv import Cells, padded


PER_LAYER_INPUTS = "embedding_length_per_layer_input"


def representative_layers(shape: ModelShape, indices: range) -> list[int]:
    """Layers that stand for all: the first of every run of three kinds, and the last.

    The buffer's peak recurs with the kinds of layers; more of the same do not raise it. Not so where something lives
    across layers, such as states that the next layer reads early: there the holes drift from layer to layer.
    """
    if any(shape.layers[index].is_recurrent for index in indices) or shape.number(PER_LAYER_INPUTS):
        return list(indices)
    seen = set()
    chosen = []
    recent: tuple[object, ...] = ()
    for index in indices:
        layer = shape.layers[index]
        kind = (
            layer.form,
            layer.attention,
            layer.is_recurrent,
            layer.cache_layer == index,
            layer.head_count_kv,
            _graph_architectures.variant(shape, index),
        )
        recent = (*recent[-2:], kind)
        if recent not in seen or index == indices[-1]:
            seen.add(recent)
            chosen.append(index)
    return chosen


def build(shape: ModelShape, layout: Cells, *, attention: Attention, caches_halves: bool) -> Context:
    """The graph of a model on one device."""
    architecture = _graph_architectures.ARCHITECTURES[shape.architecture]
    context = Context(
        shape=shape,
        layout=layout,
        tokens=padded(layout.batch, layout.slots),
        attention=attention,
        caches_halves=caches_halves,
    )
    embedding = context.input("embedding", (shape.embedding_length, context.tokens))
    current = architecture.begin(context, embedding)
    used = [index for index in range(shape.block_count - shape.number("nextn_predict_layers"))]
    chosen = representative_layers(shape, range(len(used)))
    for index in chosen:
        form = dict(shape.forms[shape.layers[index].form])
        current = architecture.layer(
            context, architecture.style, form, index, current, is_last=index == chosen[-1]
        )
    architecture.end(context, current)
    return context


@lru_cache(maxsize=8192)
def compute_bytes(shape: ModelShape, layout: Cells, attention: Attention, caches_halves: bool) -> int:
    """Bytes of the compute buffer on one GPU that holds the whole model."""
    context = build(shape, layout, attention=attention, caches_halves=caches_halves)
    return context.graph.buffer_bytes(alignment=CUDA_ALIGNMENT_BYTES)
