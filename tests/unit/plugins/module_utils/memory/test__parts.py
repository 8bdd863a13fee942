# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a loaded model is made of adds up, and what does not fit goes in the order of its allocation."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._cache import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    GpuMemory,
    HostMemory,
    ModelMemory,
)

GPU = GpuMemory(
    layers=3,
    weights_bytes=1,
    kv_cache=KvCache(full_attention_bytes=20),
    compute_bytes=300,
    projector_bytes=4_000,
    projector_compute_bytes=50_000,
    cuda_context_bytes=600_000,
)
HOST = HostMemory(
    layers=1,
    embeddings_bytes=1,
    weights_bytes=20,
    kv_cache=KvCache(full_attention_bytes=300),
    compute_bytes=4_000,
    output_bytes=50_000,
    repacked_bytes=600_000,
)


def test_the_sums_hold_every_part():
    assert (GPU.buffers_bytes, GPU.all_projector_bytes, GPU.total_bytes) == (321, 54_000, 654_321)
    assert HOST.total_bytes == 654_321
    both = ModelMemory((GPU, GPU), HOST)
    assert (both.gpu_bytes, both.gpu_layers) == (2 * 654_321, 6)


@pytest.mark.parametrize(
    ("limit_bytes", "context", "image", "compute", "projector", "cache", "weights"),
    [
        (654_321, 600_000, 50_000, 300, 4_000, 20, 1),
        (654_320, 599_999, 50_000, 300, 4_000, 20, 1),
        (54_320, 0, 49_999, 300, 4_000, 20, 1),
        (4_320, 0, 0, 299, 4_000, 20, 1),
        (4_020, 0, 0, 0, 3_999, 20, 1),
        (20, 0, 0, 0, 0, 19, 1),
        (0, 0, 0, 0, 0, 0, 0),
        (-1, 0, 0, 0, 0, 0, 0),
    ],
)
def test_what_exceeds_a_gpu_goes_from_the_last_allocation_on(
    limit_bytes, context, image, compute, projector, cache, weights
):
    held = GPU.at_most(limit_bytes)
    assert (held.cuda_context_bytes, held.projector_compute_bytes, held.compute_bytes) == (
        context,
        image,
        compute,
    )
    assert (held.projector_bytes, held.kv_cache.total_bytes, held.weights_bytes) == (
        projector,
        cache,
        weights,
    )
    assert held.total_bytes == max(limit_bytes, 0)
