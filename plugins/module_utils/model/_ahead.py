# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a model predicts further tokens, by layers of its own (MTP) or by a draft model, and how many."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import draft_bytes

PARAMETER = "draft_num_predict"
# What Ollama takes where a draft model is given and the parameter is not.
WITH_A_DRAFT = 4
BLOCKS = "nextn_predict_layers"
# Whose blocks are layers as the others are, behind a product of two rows, and whether they may have several: see
# predicting_block().
LIKE_LAYERS = {"glm4moe": False, "hy_v3": True, "qwen35": False, "qwen35moe": False, "step35": True}


def can_predict_ahead(shape: ModelShape) -> bool:
    """Whether the file holds such layers: without their tensors the number in its metadata is nothing but a number."""
    return shape.number(BLOCKS) > 0 and shape.ahead_bytes > 0


def tokens_ahead(shape: ModelShape) -> int:
    """How many tokens are predicted ahead, by a draft model or by layers of its own; 0 where none are.

    Source: ollama v0.33.0-rc2 server/routes.go (modelOptions), llm/llama_server.go (appendDraftArgs), api/types.go.
    """
    has_draft = draft_bytes(shape) > 0
    asked = shape.parameters.get(PARAMETER, WITH_A_DRAFT if has_draft else 0)
    if not isinstance(asked, int) or isinstance(asked, bool):
        return 0
    return max(asked, 0) if has_draft or can_predict_ahead(shape) else 0


@lru_cache(maxsize=256)
def predicting_block(shape: ModelShape) -> ModelShape | None:
    """The first layer by which a model predicts ahead, as a model of its own; None where its graph is not known.

    Whether it has a window is not told: it has one where the last layer with as many heads has.
    Source: llama.cpp src/models/qwen35.cpp, qwen35moe.cpp, glm4-moe.cpp, hy-v3.cpp and step35.cpp, load_block_mtp and
    graph_mtp (b10068 to b11434).
    """
    blocks = shape.number(BLOCKS)
    if not blocks or shape.architecture not in LIKE_LAYERS or draft_bytes(shape):
        return None
    first = shape.layers[-blocks]
    heads = (first.head_count, first.head_count_kv)
    like = next(
        (
            layer
            for layer in shape.layers[-blocks - 1 :: -1]
            if layer.cache_layer is not None and (layer.head_count, layer.head_count_kv) == heads
        ),
        None,
    )
    if like is None or (blocks > 1 and not LIKE_LAYERS[shape.architecture]):
        return None
    return replace(
        shape,
        architecture=f"{shape.architecture}/predicting",
        block_count=1,
        layers=(replace(like, cache_layer=0, form=first.form),),
        numbers={**{name: value for name, value in shape.numbers.items() if name != BLOCKS}, "block_count": 1},
        parameters={},
    )


@lru_cache(maxsize=256)
def without_ahead(shape: ModelShape) -> ModelShape:
    """The model as an Ollama runs it that predicts nothing ahead."""
    if not tokens_ahead(shape):
        return shape
    return replace(shape, parameters={**shape.parameters, PARAMETER: 0})
