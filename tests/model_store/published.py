# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns a header in llama.cpp's form into the one that Ollama publishes for the same model.

Source: ollama v0.33.0-rc2, convert/convert_gemma3.go, llama/compat/llama-ollama-compat.cpp.
"""

from __future__ import annotations

from typing import Any

from gguf_writer import OLLAMA_MXFP4, tensor_data_bytes

# The vision tower of gemma3 (SigLIP): widths, blocks, patches.
VISION_LAYERS, VISION_WIDTH, VISION_FEED_FORWARD = 27, 1152, 4304
PATCH, CHANNELS, POSITIONS = 14, 3, 4096


def published(header: dict[str, Any]) -> dict[str, Any]:
    """The header as Ollama's own file of the model has it; most models have no form of their own."""
    architecture = header["metadata"]["general.architecture"]
    if architecture == "gemma3" and header["metadata"]["gemma3.block_count"] > 26:
        return _gemma3(header)
    if architecture == "gpt-oss":
        return _gpt_oss(header)
    return header


def _gemma3(header: dict[str, Any]) -> dict[str, Any]:
    """The vision tower lies in the same file, and keys that llama.cpp wants are left out."""
    metadata = {
        key: value
        for key, value in header["metadata"].items()
        if not key.endswith((".layer_norm_rms_epsilon", ".sliding_window_pattern", ".rope.freq_base"))
    }
    metadata.update(
        {
            "gemma3.mm.tokens_per_image": 256,
            "gemma3.vision.attention.head_count": 16,
            "gemma3.vision.attention.layer_norm_epsilon": 1e-6,
            "gemma3.vision.block_count": VISION_LAYERS,
            "gemma3.vision.embedding_length": VISION_WIDTH,
            "gemma3.vision.feed_forward_length": VISION_FEED_FORWARD,
            "gemma3.vision.image_size": 896,
            "gemma3.vision.num_channels": CHANNELS,
            "gemma3.vision.patch_size": PATCH,
        }
    )
    tower = _vision_tower(header["metadata"]["gemma3.embedding_length"])
    return dict(
        header,
        metadata=metadata,
        tensors=header["tensors"] + tower,
        file_bytes=header["file_bytes"] + tensor_data_bytes(tower),
    )


def _vision_tower(text_width: int) -> list[list[Any]]:
    tensors: list[list[Any]] = [
        ["mm.mm_input_projection.weight", "F16", [text_width, VISION_WIDTH]],
        ["mm.mm_soft_emb_norm.weight", "F32", [VISION_WIDTH]],
        ["v.patch_embedding.weight", "F16", [PATCH, PATCH, CHANNELS, VISION_WIDTH]],
        ["v.patch_embedding.bias", "F32", [VISION_WIDTH]],
        ["v.position_embedding.weight", "F16", [VISION_WIDTH, POSITIONS]],
        ["v.post_layernorm.weight", "F32", [VISION_WIDTH]],
        ["v.post_layernorm.bias", "F32", [VISION_WIDTH]],
    ]
    for layer in range(VISION_LAYERS):
        for name in ("attn_k", "attn_output", "attn_q", "attn_v"):
            tensors.append([f"v.blk.{layer}.{name}.weight", "F16", [VISION_WIDTH, VISION_WIDTH]])
            tensors.append([f"v.blk.{layer}.{name}.bias", "F32", [VISION_WIDTH]])
        for name in ("layer_norm1", "layer_norm2"):
            tensors.append([f"v.blk.{layer}.{name}.weight", "F32", [VISION_WIDTH]])
            tensors.append([f"v.blk.{layer}.{name}.bias", "F32", [VISION_WIDTH]])
        tensors.append([f"v.blk.{layer}.mlp.fc1.weight", "F16", [VISION_WIDTH, VISION_FEED_FORWARD]])
        tensors.append([f"v.blk.{layer}.mlp.fc1.bias", "F32", [VISION_FEED_FORWARD]])
        tensors.append([f"v.blk.{layer}.mlp.fc2.weight", "F16", [VISION_FEED_FORWARD, VISION_WIDTH]])
        tensors.append([f"v.blk.{layer}.mlp.fc2.bias", "F32", [VISION_WIDTH]])
    return tensors


def _gpt_oss(header: dict[str, Any]) -> dict[str, Any]:
    """The architecture is spelt otherwise, one key is left out, tensors have other names and an old type."""
    metadata = {
        key.replace("gpt-oss.", "gptoss."): value
        for key, value in header["metadata"].items()
        if not key.endswith(".expert_feed_forward_length")
    }
    metadata["general.architecture"] = "gptoss"
    tensors = [
        [_gpt_oss_tensor(name), OLLAMA_MXFP4 if type_name == "MXFP4" else type_name, shape]
        for name, type_name, shape in header["tensors"]
    ]
    return dict(header, metadata=metadata, tensors=tensors)


def _gpt_oss_tensor(name: str) -> str:
    renamed = name.replace("post_attention_norm.weight", "ffn_norm.weight")
    return renamed.replace("attn_sinks.weight", "attn_sinks")
