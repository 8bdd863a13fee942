# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a loaded model add up, also where a GPU has less memory than they would take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    NOTHING,
    GpuMemory,
    HostMemory,
    KvCache,
    ModelMemory,
)
from hypothesis import given
from hypothesis import strategies as st

GPU = GpuMemory(
    layers=3,
    weights_bytes=100,
    kv_cache=KvCache(10, 20, 30),
    compute_bytes=40,
    projector_bytes=50,
    projector_compute_bytes=5,
    cuda_context_bytes=7,
)


def test_caches_add_up_by_kind() -> None:
    assert KvCache(1, 20, 300) + KvCache(4000, 50000, 600000) == KvCache(4001, 50020, 600300)
    assert KvCache(4001, 50020, 600300) - KvCache(1, 20, 300) == KvCache(4000, 50000, 600000)
    assert KvCache(1, 20, 300).total_bytes == 321
    assert KvCache().total_bytes == 0


def test_what_nobody_tells_of_takes_nothing() -> None:
    assert GpuMemory() == GpuMemory(0, 0, KvCache(0, 0, 0), 0, 0, 0, 0, 0)
    assert HostMemory() == HostMemory(0, 0, 0, KvCache(0, 0, 0), 0, 0, 0)
    assert (GpuMemory().total_bytes, HostMemory().total_bytes) == (0, 0)


def test_the_whole_is_the_sum_of_its_parts() -> None:
    assert GPU.buffers_bytes == 100 + 60 + 40
    assert GPU.total_bytes == 200 + 55 + 7
    host = HostMemory(2, embeddings_bytes=1, weights_bytes=2, kv_cache=KvCache(4), compute_bytes=8, output_bytes=16)
    assert replace(host, repacked_bytes=32).total_bytes == 63
    memory = ModelMemory((GPU, GpuMemory(), GPU), host)
    assert (memory.gpu_bytes, memory.gpu_layers) == (524, 6)


@pytest.mark.parametrize(
    ("limit", "changes"),
    [
        (262, {}),
        (260, {"cuda_context_bytes": 5}),
        (254, {"cuda_context_bytes": 0, "projector_compute_bytes": 4}),
        (210, {"cuda_context_bytes": 0, "projector_compute_bytes": 0, "compute_bytes": 0}),
        (165, {"kv_cache": KvCache(10, 20, 30), "projector_bytes": 5}),
        (130, {"kv_cache": KvCache(0, 0, 30), "projector_bytes": 0}),
        (60, {"kv_cache": KvCache(), "projector_bytes": 0, "weights_bytes": 60}),
        (-1, {"kv_cache": KvCache(), "projector_bytes": 0, "weights_bytes": 0}),
    ],
)
def test_what_exceeds_a_gpu_is_taken_off_by_what_is_allocated_last(limit: int, changes: dict[str, object]) -> None:
    if limit < 210:
        changes = {"cuda_context_bytes": 0, "projector_compute_bytes": 0, "compute_bytes": 0, **changes}
    assert GPU.at_most(limit) == replace(GPU, **changes)


def test_what_fits_stays_as_it_is() -> None:
    assert GPU.at_most(262) is GPU
    assert GPU.at_most(263) is GPU


def test_a_process_adds_what_it_takes_and_changes_nothing_else() -> None:
    busy = replace(GPU, pool_bytes=11)
    assert busy.with_context(9) == replace(busy, cuda_context_bytes=9)
    assert busy.total_bytes == GPU.total_bytes


@pytest.mark.parametrize(
    ("excess", "left"),
    [
        (0, KvCache(10, 20, 30)),
        (1, KvCache(9, 20, 30)),
        (11, KvCache(0, 19, 30)),
        (31, KvCache(0, 0, 29)),
        (60, KvCache()),
        (61, KvCache()),
    ],
)
def test_a_cache_loses_full_attention_first(excess: int, left: KvCache) -> None:
    assert KvCache(10, 20, 30).without(excess) == left


def test_of_nothing_nothing_is_known_exactly() -> None:
    assert (NOTHING.basis, NOTHING.note, NOTHING.gpus, NOTHING.host) == ("exact", "", (), HostMemory())


sizes = st.integers(0, 1 << 40)


@given(st.builds(GpuMemory, sizes, sizes, st.builds(KvCache, sizes, sizes, sizes), sizes, sizes, sizes, sizes), sizes)
def test_no_more_than_the_limit_is_left_and_nothing_below_zero(gpu: GpuMemory, limit: int) -> None:
    cut = gpu.at_most(limit)
    assert cut.total_bytes == min(gpu.total_bytes, limit)
    cache = (cut.kv_cache.full_attention_bytes, cut.kv_cache.sliding_window_bytes, cut.kv_cache.recurrent_bytes)
    assert min(*cache, cut.weights_bytes, cut.compute_bytes, cut.projector_bytes, cut.cuda_context_bytes) >= 0
    assert cut.layers == gpu.layers
