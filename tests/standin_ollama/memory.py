# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a loaded model takes: a simple law of the stand-in's own, or bytes from its configuration.

weights = size of the blob (and of the projector's file); KV cache = parallel * cells * sum over layers of
(key + value width) * bytes per element, sliding-window layers with window + batch cells; compute buffer =
16 bytes * feed-forward length * batch. It behaves like a server and is on purpose not the collection's law.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .config import MeasuredSize
from .store import Gguf, Model

ELEMENT_BYTES = {"": 2.0, "f16": 2.0, "f32": 4.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
CELL_GRANULE = 256
# Every n-th layer attends to the whole context. Source: llama.cpp src/models (set_swa_pattern), b10488.
SLIDING_PATTERNS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "gptoss": 2}


@dataclass(frozen=True)
class Sizes:
    """Bytes of one loaded model, whole."""

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


def predicted_bytes(gguf: Gguf, blob_bytes: int, context: int, parallel: int) -> int:
    """Ollama's own estimate before a load. Source: Ollama v0.33.0-rc2 server/sched.go."""
    kv_heads = max(min(gguf.layers("attention.head_count_kv", 1) or [1]), 1)
    head_width = gguf.number("embedding_length") // max(gguf.number("attention.head_count", 1), 1)
    trained = gguf.number("context_length", context)
    cells = min(context, trained) * parallel
    return blob_bytes + 2 * gguf.number("block_count") * kv_heads * head_width * cells * 2


def sizes(
    model: Model, context: int, parallel: int, batch: int, kv_type: str, measured: Iterable[MeasuredSize]
) -> Sizes:
    """Bytes of a model at ``context`` tokens per slot."""
    key = (model.name, context * parallel, parallel, batch, kv_type or "f16")
    for row in measured:
        if (row.model, row.context_total, row.parallel, row.batch, row.kv_cache_type) == key:
            return Sizes(row.weights_bytes, row.kv_cache_bytes, row.compute_bytes)
    gguf = model.gguf
    feed_forward = gguf.number("feed_forward_length") or 4 * gguf.number("embedding_length")
    return Sizes(
        weights_bytes=model.blob_bytes + model.projector_bytes,
        kv_cache_bytes=_kv_cache_bytes(gguf, context, parallel, batch, kv_type),
        compute_bytes=16 * feed_forward * batch,
    )


def _kv_cache_bytes(gguf: Gguf, context: int, parallel: int, batch: int, kv_type: str) -> int:
    head_width = gguf.number("embedding_length") // max(gguf.number("attention.head_count", 1), 1)
    width = gguf.number("attention.key_length", head_width) + gguf.number(
        "attention.value_length", head_width
    )
    window = gguf.number("attention.sliding_window")
    full_every = SLIDING_PATTERNS.get(gguf.architecture, 0)
    total = 0.0
    for layer, kv_heads in enumerate(
        gguf.layers("attention.head_count_kv", gguf.number("attention.head_count", 1))
    ):
        sliding = window and full_every and (layer + 1) % full_every
        cells = _pad(min(context, window + batch) if sliding else context)
        total += parallel * cells * kv_heads * width * ELEMENT_BYTES.get(kv_type, 2.0)
    return int(total)


def _pad(cells: int) -> int:
    return -(-cells // CELL_GRANULE) * CELL_GRANULE


def share_of_layers(units: int, free: Sequence[int]) -> list[int]:
    """Layers per device for a split by free memory. Source: llama.cpp b10488 src/llama-model.cpp."""
    total = sum(free) or 1
    cumulative, running = [], 0
    for value in free:
        running += value
        cumulative.append(running / total)
    counts = [0] * len(free)
    for unit in range(units):
        device = next((i for i, share in enumerate(cumulative) if share > unit / units), len(free) - 1)
        counts[device] += 1
    return counts
