# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a model predicts further tokens, by layers of its own (MTP) or by a draft model, and how many."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import draft_bytes

PARAMETER = "draft_num_predict"
# What Ollama takes where a draft model is given and the parameter is not.
WITH_A_DRAFT = 4


def can_predict_ahead(shape: ModelShape) -> bool:
    """Whether the file holds such layers: without their tensors the number in its metadata is nothing but a number."""
    return shape.number("nextn_predict_layers") > 0 and shape.ahead_bytes > 0


def tokens_ahead(shape: ModelShape) -> int:
    """How many tokens are predicted ahead, by a draft model or by layers of its own; 0 where none are.

    Source: ollama v0.33.0-rc2 server/routes.go (modelOptions), llm/llama_server.go (appendDraftArgs), api/types.go.
    """
    has_draft = draft_bytes(shape) > 0
    asked = shape.parameters.get(PARAMETER, WITH_A_DRAFT if has_draft else 0)
    if not isinstance(asked, int) or isinstance(asked, bool):
        return 0
    return max(asked, 0) if has_draft or can_predict_ahead(shape) else 0
