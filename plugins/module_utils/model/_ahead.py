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
# Whose one block is a full attention layer as the others are, behind a product of two rows: see predicting_block().
LIKE_A_LAYER = ("qwen35", "qwen35moe")


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
    """The layer by which a model predicts ahead, as a model of its own; None where its graph is not known.

    Source: llama.cpp src/models/qwen35.cpp and qwen35moe.cpp, load_block_mtp and graph_mtp (b10068 to b11434).
    """
    like = next((layer for layer in shape.layers if layer.attention == "full" and layer.cache_layer is not None), None)
    if shape.architecture not in LIKE_A_LAYER or shape.number(BLOCKS) != 1 or like is None or draft_bytes(shape):
        return None
    return replace(
        shape,
        architecture=f"{shape.architecture}/predicting",
        block_count=1,
        layers=(replace(like, cache_layer=0),),
        numbers={**{name: value for name, value in shape.numbers.items() if name != BLOCKS}, "block_count": 1},
        parameters={},
    )


@lru_cache(maxsize=256)
def without_ahead(shape: ModelShape) -> ModelShape:
    """The model as an Ollama runs it that predicts nothing ahead."""
    if not tokens_ahead(shape):
        return shape
    return replace(shape, parameters={**shape.parameters, PARAMETER: 0})
