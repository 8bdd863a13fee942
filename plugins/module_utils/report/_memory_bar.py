# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fills the memory of one GPU, kind by kind, from a plan or, without one, from the facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# Kinds of a bar in the order drawn, with the word that a reader sees.
KINDS = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "compute": "compute buffers",
    "cuda_context": "CUDA context",
    "ollama": "held by Ollama now",
    "others": "other processes",
    "headroom": "headroom",
    "free": "free",
}
_PART_KEYS = {
    "weights": ("weights_bytes", "projector_bytes"),
    "kv_cache": ("kv_cache_bytes",),
    "compute": ("compute_bytes", "projector_compute_bytes"),
    "cuda_context": ("cuda_context_bytes",),
}
# No machine has more, and beyond it nothing can be drawn.
MOST_BYTES = 1 << 63


def size_of(value: Any) -> int:
    """A number of bytes.

    Raises: ValueError, TypeError or OverflowError where it is none that a machine has.
    """
    size = int(value)
    if abs(size) > MOST_BYTES:
        raise ValueError("a number of bytes that no machine has")
    return size


@dataclass(frozen=True)
class MemoryBar:
    """One GPU: bytes by kind, which add up to `total_bytes`; headroom includes the engine's own margin.

    `short_bytes`: what is missing of the headroom, 0 where a plan keeps it.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    parts: dict[str, int]
    short_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "uuid": self.uuid,
            "name": self.name,
            "memory_total_bytes": self.total_bytes,
            **{f"{kind}_bytes": self.parts.get(kind, 0) for kind in KINDS},
            "short_bytes": self.short_bytes,
        }


def bar_of_plan(gpu: Mapping[str, Any]) -> MemoryBar:
    """The bar of one of a plan's `gpus`, whose parts are those of the models that are loaded at once."""
    parts = {kind: sum(size_of(gpu[key]) for key in keys) for kind, keys in _PART_KEYS.items()}
    free = max(size_of(gpu["free_bytes"]), 0)
    reserve = size_of(gpu["engine_margin_bytes"]) + size_of(gpu["headroom_bytes"]) if size_of(gpu["planned_bytes"]) else 0
    headroom = min(reserve, free)
    parts.update(others=size_of(gpu["others_bytes"]), headroom=headroom, free=free - headroom)
    return MemoryBar(
        index=int(gpu["index"]),
        uuid=str(gpu["uuid"]),
        name=str(gpu["name"]),
        total_bytes=size_of(gpu["total_bytes"]),
        parts=parts,
        short_bytes=reserve - headroom,
    )


def bar_of_facts(gpu: Mapping[str, Any]) -> MemoryBar:
    """The bar of one device of `gpufleet_gpu`, for a host without a plan; all 0 where it cannot be read."""
    total = size_of(gpu.get("memory_total_bytes") or 0)
    free = min(size_of(gpu.get("memory_free_bytes") or 0), total)
    ours = min(size_of(gpu.get("memory_ours_bytes") or 0), total - free)
    parts = {"ollama": ours, "others": total - free - ours, "free": free}
    return MemoryBar(int(gpu.get("index") or 0), str(gpu.get("uuid")), str(gpu.get("name")), total, parts)
