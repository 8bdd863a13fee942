# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small models, and what a registry holds of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf_writer import write_gguf

from .front import Front

CONFIG = {"model_format": "gguf", "model_family": "llama", "file_type": "F16"}
PREFIX = "application/vnd.ollama.image."
WIDTH, VOCABULARY = 64, 260


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def small_model(folder: Path, seed: int = 1, blocks: int = 2, tokens: int = VOCABULARY) -> bytes:
    """A GGUF file of a llama with few weights, which another seed makes another file."""
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.file_type": 1,
        "general.version": str(seed),
        "llama.block_count": blocks,
        "llama.context_length": 2048,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": 2 * WIDTH,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.vocab_size": tokens,
        "tokenizer.ggml.tokens": {"array_length": tokens},
    }
    tensors = [["token_embd.weight", "F16", [WIDTH, tokens]], ["output_norm.weight", "F32", [WIDTH]]]
    for block in range(blocks):
        for name, rows in (("attn_q", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2), ("attn_output", WIDTH)):
            tensors.append([f"blk.{block}.{name}.weight", "F16", [WIDTH, rows]])
        tensors.append([f"blk.{block}.ffn_up.weight", "F16", [WIDTH, 2 * WIDTH]])
        tensors.append([f"blk.{block}.ffn_gate.weight", "F16", [WIDTH, 2 * WIDTH]])
        tensors.append([f"blk.{block}.ffn_down.weight", "F16", [2 * WIDTH, WIDTH]])
    path = folder / f"small-{seed}.gguf"
    write_gguf(path, {"metadata": metadata, "tensors": tensors})
    return path.read_bytes()


def publish(
    front: Front, repository: str, tag: str, weights: bytes, parameters: Mapping[str, Any] | None = None
) -> bytes:
    """Puts a model into a front's registry, as `team/model` and a tag; its manifest."""
    config = json.dumps(CONFIG).encode()
    layers = [_layer(front, repository, "model", weights)]
    if parameters:
        layers.append(_layer(front, repository, "params", json.dumps(parameters).encode()))
    manifest = json.dumps({"schemaVersion": 2, "config": _layer(front, repository, "", config), "layers": layers}).encode()
    front.kept[f"/v2/{repository}/manifests/{tag}"] = manifest
    return manifest


def _layer(front: Front, repository: str, kind: str, content: bytes) -> dict[str, Any]:
    front.kept[f"/v2/{repository}/blobs/{digest(content)}"] = content
    return {"mediaType": f"{PREFIX}{kind}", "digest": digest(content), "size": len(content)}
