# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compute buffer of a projector: what the engine needs, besides the projector's weights, to read an image."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    buffer_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._tower import (
    tower_graph,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import CUDA_ALIGNMENT_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tower import Tower

# What Ollama leaves free beside a projector stands for the compute buffer of one that is not known.
# Source: ollama llm/llama_server.go, mmprojOffloadHeadroom (v0.33.0-rc2)
UNKNOWN_COMPUTE_BYTES = 1 * GIB
# Kinds whose graph is the plain one; gemma3's 121.25 MiB were measured (tests/data/ollama_scheduler.jsonl).
EXACT_KINDS = frozenset(("gemma3",))
# What the plain graph gets on top where it stands for one that merges patches or turns heads in its own way.
LIKE_OTHERS_MARGIN = 1.5


@dataclass(frozen=True)
class ProjectorCompute:
    """Compute buffer of a projector, in bytes.

    reserved_bytes: at the start, as the engine logs it. most_bytes: with the largest image that it takes; the buffer
    grows with the images that come and never shrinks. note: what it is a bound of, empty where it is exact.
    """

    reserved_bytes: int = 0
    most_bytes: int = 0
    note: str = ""


def projector_compute(shape: ModelShape) -> ProjectorCompute:
    """The compute buffer of a model's projector, nothing where it has none.

    Source: llama.cpp tools/mtmd/clip.cpp, warmup and alloc_compute_meta (b10488).
    """
    if not shape.projector_bytes + shape.inline_projector_bytes:
        return ProjectorCompute()
    tower = shape.tower
    if tower is None:
        bound = UNKNOWN_COMPUTE_BYTES
        return ProjectorCompute(
            bound,
            bound,
            f"the projector of {shape.name} is not known: its compute buffer is counted as the 1 GiB that Ollama leaves"
            " for it",
        )
    if tower.kind in EXACT_KINDS:
        return ProjectorCompute(
            _tower_bytes(tower, tower.patches_reserved), _tower_bytes(tower, tower.patches_most)
        )
    return ProjectorCompute(
        _bound_bytes(tower, tower.patches_reserved),
        _bound_bytes(tower, tower.patches_most),
        f"the compute buffer of the projector of {shape.name} ({tower.kind}) is counted for the largest image, as that of"
        " a common vision transformer and half as much again",
    )


@lru_cache(maxsize=256)
def _tower_bytes(tower: Tower, patches: int) -> int:
    return buffer_bytes(tower_graph(tower, patches), alignment=CUDA_ALIGNMENT_BYTES)


def _bound_bytes(tower: Tower, patches: int) -> int:
    """With a margin; a mask of windows is as large as it is."""
    without_mask = _tower_bytes(replace(tower, has_windows=False), patches)
    return _tower_bytes(tower, patches) + int((LIKE_OTHERS_MARGIN - 1) * without_mask)
