# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a model has layers that predict further tokens (MTP), and whether its Modelfile has them used."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape

PARAMETER = "draft_num_predict"


def can_predict_ahead(shape: ModelShape) -> bool:
    """Whether the file holds such layers: without their tensors the number in its metadata is nothing but a number."""
    return shape.number("nextn_predict_layers") > 0 and shape.ahead_bytes > 0


def tokens_ahead(shape: ModelShape) -> int:
    """How many tokens are predicted ahead; 0 where the model cannot, its Modelfile sets none, or another model does it.

    Source: ollama v0.33.0-rc2 server/routes.go (modelOptions), llm/llama_server.go (appendDraftArgs).
    """
    asked = shape.parameters.get(PARAMETER)
    if not isinstance(asked, int) or isinstance(asked, bool) or shape.parameters.get("draft_bytes"):
        return 0
    return max(asked, 0) if can_predict_ahead(shape) else 0
