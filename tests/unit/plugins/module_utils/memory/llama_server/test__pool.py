# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools that the CUDA backend takes while it computes, against those of the real backend on a simulated machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import estimate, split
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    OLD_WORKSPACE_BYTES,
    Backend,
    LoadSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server import _pool
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import Cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.tests.unit.data import header as header_of
from ansible_collections.gpufleet.ollama.tests.unit.data import shape as shape_of

MIB = 1 << 20
GIB = 1 << 30


def pool_mib(name, context_length, batch, kind, *, build="b10361", parallel=1, **backend):
    kv_cache_type, flash_attention = kind.split()
    settings = LoadSettings(
        context_length,
        parallel,
        batch,
        kv_cache_type,
        flash_attention,
        parse_build(build),
        Backend(**backend),
    )
    return estimate(shape_of(name), settings).gpus[0].pool_bytes / MIB


# Measured in MiB with the unmodified backend of b10361 while it decoded a full context.
SCORES = [
    ("llama3.1:8b", 4096, 512, 130),
    ("llama3.1:8b", 4096, 1024, 262),
    ("llama3.1:8b", 4096, 2048, 526),
    ("llama3.1:8b", 32768, 512, 1014),
    ("llama3.1:8b", 32768, 1024, 2040),
    ("llama3.1:8b", 32768, 2048, 4096),
    ("gpt-oss:20b", 4096, 512, 256),
    ("gpt-oss:20b", 4096, 1024, 516),
    ("gpt-oss:20b", 4096, 2048, 1036),
    ("gpt-oss:20b", 32768, 512, 2022),
    ("gpt-oss:20b", 32768, 1024, 4072),
    ("gpt-oss:20b", 32768, 2048, 8176),
    ("gemma3:4b", 4096, 512, 34),
    ("gemma3:4b", 4096, 1024, 68),
    ("gemma3:4b", 4096, 2048, 136),
    ("gemma3:4b", 32768, 512, 256),
    ("gemma3:4b", 32768, 1024, 512),
    ("gemma3:4b", 32768, 2048, 1028),
]
# On compute capability 7.0, with that of v0.5.0: in 7.5's place cuBLAS multiplies, and is handed weights in half precision.
ON_VOLTA = [
    ("llama3.2:1b", 512, 44),
    ("llama3.2:1b", 2048, 68),
    ("gemma3:1b", 512, 26),
    ("gemma3:1b", 2048, 48),
    ("gemma3:4b", 512, 64),
    ("gemma3:4b", 2048, 94),
    ("llama3.1:8b", 512, 130),
    ("llama3.1:8b", 2048, 172),
    ("qwen2.5:7b", 512, 152),
    ("qwen2.5:7b", 2048, 208),
    ("qwen3.5:9b", 512, 112),
    ("qwen3.5:9b", 2048, 148),
    ("gpt-oss:20b", 512, 50),
    ("gpt-oss:20b", 2048, 72),
    ("granite4:tiny-h", 512, 26),
    ("granite4:tiny-h", 2048, 54),
]
PRODUCTS = [
    ("llama3.1:8b", 512, 20),
    ("llama3.1:8b", 1024, 22),
    ("llama3.1:8b", 2048, 44),
    ("gpt-oss:20b", 2048, 28),
    ("gemma3:4b", 512, 12),
    ("gemma3:4b", 2048, 24),
    ("gemma3n:e2b", 512, 12),
    ("gemma3n:e2b", 2048, 48),  # three streams meet weights of half precision, which cuBLAS multiplies
    ("gemma4:e4b", 2048, 24),
    ("mixtral:8x7b", 512, 16),
    ("mixtral:8x7b", 2048, 64),
    ("qwen2.5:32b", 512, 16),
    ("qwen2.5:32b", 2048, 62),
    ("qwen3:0.6b", 2048, 12),
    ("qwen3.5:9b", 512, 12),
    ("qwen3.5:9b", 2048, 34),
    ("command-r:35b", 512, 20),
    ("command-r:35b", 2048, 56),
    ("nemotron-3-nano:30b", 512, 26),
    ("nemotron-3-nano:30b", 2048, 42),
    ("granite4:tiny-h", 512, 18),
    ("granite4:tiny-h", 2048, 22),
    ("deepseek-v2:16b-mla", 512, 12),
    ("deepseek-v2:16b-mla", 2048, 30),
]


@pytest.mark.parametrize(("name", "context_length", "batch", "measured"), SCORES)
@pytest.mark.parametrize("parallel", [1, 4])
def test_without_flash_attention_the_pool_is_the_measured_one(
    name, context_length, batch, measured, parallel
):
    found = pool_mib(name, context_length, batch, "f16 off", parallel=parallel)
    assert measured <= found <= measured * 1.05


def test_where_the_gpu_cannot_run_flash_attention_auto_is_off_too():
    assert 66 <= pool_mib("deepseek-v2:16b", 4096, 512, "f16 auto") <= 66 * 1.05


@pytest.mark.parametrize(("name", "batch", "measured"), PRODUCTS)
@pytest.mark.parametrize("kind", ["f16 auto", "q8_0 auto"])
def test_with_flash_attention_the_pool_is_bounded(name, batch, measured, kind):
    found = pool_mib(name, 4096, batch, kind)
    assert measured <= found <= measured + 50
    assert pool_mib(name, 32768, batch, kind, parallel=4) == found


@pytest.mark.parametrize(("type_name", "measured"), [("F16", 40), ("BF16", 32)])
def test_a_model_that_is_not_quantised_is_bounded_too(type_name, measured):
    plain = header_of("llama3.2:1b")
    tensors = [[name, type_name if kind.startswith("Q") else kind, shape] for name, kind, shape in plain["tensors"]]
    shape = shape_from_header({**plain, "tensors": tensors}, name="llama3.2:1b")
    (gpu,) = estimate(shape, LoadSettings(4096, 1, 2048)).gpus
    assert measured <= gpu.pool_bytes / MIB <= 48


# The same with that of v0.5.0, of which 4 MiB are a workspace.
SORTED = [
    ("deepseek-v3.2:671b", 4096, 512, 52),
    ("deepseek-v3.2:671b", 4096, 2048, 196),
    ("deepseek-v3.2:671b", 16384, 512, 196),
    ("deepseek-v3.2:671b", 16384, 2048, 390),
    ("glm-5:744b", 4096, 2048, 196),
    ("glm-5:744b", 16384, 2048, 390),
]


@pytest.mark.parametrize(("name", "context_length", "batch", "measured"), SORTED)
def test_an_indexer_sorts_its_cells_in_pieces_of_64_mib(name, context_length, batch, measured):
    found = pool_mib(
        name, context_length, batch, "f16 auto", build="v0.5.0", workspace_bytes=OLD_WORKSPACE_BYTES
    )
    assert measured <= found <= measured + 10


# The compute buffer itself grows: 57 layers are each handed a mask of the positions that there are by then.
GROWN = [
    ("minimax-m3:427b", 4096, 512, 437),
    ("minimax-m3:427b", 4096, 2048, 1747.5),
    ("minimax-m3:427b", 16384, 512, 1833.6),
    ("minimax-m3:427b", 16384, 2048, 7364.2),
]


@pytest.mark.parametrize(("name", "context_length", "batch", "measured"), GROWN)
def test_a_buffer_reserved_for_an_empty_context_grows_as_it_fills(name, context_length, batch, measured):
    kind = {"build": "v0.5.0", "workspace_bytes": OLD_WORKSPACE_BYTES}
    assert measured <= pool_mib(name, context_length, batch, "f16 auto", **kind) <= 1.3 * measured + 64
    assert pool_mib(name, context_length, batch, "f16 off", **kind) < 4200


def test_several_gpus_keep_the_masks_of_as_many_requests_as_are_in_flight():
    settings = LoadSettings(
        4096, 1, 512, build=parse_build("v0.5.0"), backend=Backend(workspace_bytes=OLD_WORKSPACE_BYTES)
    )
    halves = split(shape_of("minimax-m3:427b"), settings, [400 * GIB] * 2)
    for half, measured in zip(halves, (857.5, 880.5)):
        assert measured <= half.pool_bytes / MIB <= 1.2 * measured
    # What GPUs hand each other lies in their compute buffers: a pool is the same on each as on one.
    halves = split(shape_of("llama3.1:8b"), settings, [24 * GIB] * 2)
    assert all(14 <= half.pool_bytes / MIB <= 64 for half in halves)


def test_of_a_row_longer_than_a_piece_one_is_sorted():
    assert pool_mib("glm-5:744b", 1 << 25, 512, "f16 auto") >= 6 * 4 * (1 << 25) / MIB


def test_a_backend_that_cannot_grow_a_pool_keeps_every_size():
    # 478 MiB were measured after 4000 tokens, 118 where the pool could grow.
    grown = pool_mib("llama3.1:8b", 4096, 512, "f16 off")
    kept = pool_mib("llama3.1:8b", 4096, 512, "f16 off", keeps_size_classes=True)
    assert grown < 140
    assert 478 <= kept <= 650


@pytest.mark.parametrize(("build", "more_mib"), [("b10488", 0), ("b10630", 4), ("v0.5.0", 4)])
def test_later_backends_allocate_the_workspaces_of_cublas_themselves(build, more_mib):
    before = pool_mib("llama3.1:8b", 4096, 512, "f16 off")
    found = pool_mib("llama3.1:8b", 4096, 512, "f16 off", build=build, workspace_bytes=OLD_WORKSPACE_BYTES)
    assert found == before + more_mib
    assert pool_mib("llama3.1:8b", 4096, 512, "f16 off", build="v0.5.0") == before + 32


def test_each_of_several_gpus_has_a_pool_and_no_total_counts_it():
    settings = LoadSettings(4096, 1, flash_attention="off")
    shape = shape_of("llama3.1:8b")
    devices = split(shape, settings, [24 * GIB, 24 * GIB])
    (alone,) = estimate(shape, settings).gpus
    assert [device.pool_bytes for device in devices] == [alone.pool_bytes] * 2
    assert alone.total_bytes == alone.buffers_bytes


@pytest.mark.parametrize(("name", "batch", "measured"), ON_VOLTA)
def test_weights_that_cublas_is_handed_are_within_the_bound(name, batch, measured):
    found = pool_mib(
        name, 4096, batch, "f16 auto", build="v0.5.0", workspace_bytes=4 * MIB, dequantised_bytes=2
    )
    assert measured <= found <= 4 + 3.2 * measured
    assert found >= pool_mib(name, 4096, batch, "f16 auto", build="v0.5.0", workspace_bytes=4 * MIB)


LLAMA, HYBRID = shape_of("llama3.1:8b"), shape_of("qwen3.5:9b")
# 200 cells of full attention and 100 of a window in each of 3 slots, 60 tokens at once.
LAYOUT = Cells(200, 100, 3, 60)
TILES = (64 << 10) * 192


@pytest.mark.parametrize(
    ("shape", "unfinished", "products_bytes"),
    [
        # The widest row that meets weights, in blocks of 36 bytes for 32 elements, and tiles of 192 multiprocessors.
        (LLAMA, 1, 60 * 14336 * 36 // 32 + TILES),
        (LLAMA, 2, 60 * 14336 * 36 // 32 + 2 * TILES),
        # A recurrence has weights that are made whole.
        (HYBRID, 1, 60 * 12288 * 36 // 32 + TILES + 24 * MIB),
        # Weights of half precision meet rows of half precision.
        (replace(LLAMA, half_row_elements=10**6), 1, 60 * 10**6 * 2),
    ],
)
def test_the_bound_of_products_adds_up(shape, unfinished, products_bytes):
    assert _pool._products_bytes(shape, LAYOUT, list(shape.layers), unfinished) == products_bytes


@pytest.mark.parametrize(
    ("changes", "classes", "scores_bytes"),
    [
        ({}, False, 2 * 32 * 200 * 60 + 2 * 60 * 32 * 128),
        ({"attention": "sliding"}, False, 2 * 32 * 100 * 60 + 2 * 60 * 32 * 128),
        ({"attention": "none"}, False, 0),
        # A copy for each of the lengths that 200 cells have when 20 tokens come at a time, of which the mean is half.
        ({}, True, int(1.05 * 2 * 32 * 200 * 60 * 11 / 2) + 2 * 60 * 32 * 128),
    ],
)
def test_the_copy_of_scores_adds_up(changes, classes, scores_bytes):
    backend = Backend(keeps_size_classes=classes)
    assert _pool._scores_bytes(LAYOUT, [replace(LLAMA.layers[0], **changes)], backend) == scores_bytes


# Numbers of the cells of all slots for a token, for as many tokens as 64 MiB hold, at least one; twice, and 2 MiB more.
@pytest.mark.parametrize(
    ("cells", "tokens", "piece_bytes"), [(1000, 60, 60 * 4000), (1 << 20, 60, 64 * MIB), (1 << 25, 60, 128 * MIB)]
)
def test_what_sorting_takes_adds_up(cells, tokens, piece_bytes):
    found = _pool._sorted_bytes(Cells(cells, 0, 1, tokens))
    assert found == _pool.SORTED_COPIES * piece_bytes + 2 * MIB


@pytest.mark.parametrize(
    ("lengths", "element_bytes", "dequantised_bytes"),
    [
        # A norm's row is no product.
        ((10,), 2, 0),
        ((10, 20), 2, 2 * (10 * 20 + 60 * 30)),
        ((10, 20), 4, 4 * (10 * 20 + 60 * 30)),
        # Rows of the three experts that each token has are put in order.
        ((10, 20, 8), 2, 2 * (10 * 20 + 60 * 30) + 4 * 60 * 3 * 30),
    ],
)
def test_weights_that_cublas_is_handed_add_up(lengths, element_bytes, dequantised_bytes):
    shape = replace(LLAMA, numbers={"expert_used_count": 3}, forms=((("a.weight", lengths),),))
    assert _pool._dequantised_bytes(shape, LAYOUT, 0, element_bytes) == dequantised_bytes


MINIMAX = replace(
    LLAMA,
    architecture="minimax-m3",
    numbers={"attention.indexer.key_length": 1, "attention.indexer.head_count": 5},
)


@pytest.mark.parametrize(
    ("shape", "attention", "copies", "masks"),
    [
        # Of four-byte numbers for each cell and token: a mask for each layer and request in flight, a score for each head.
        (MINIMAX, Attention.FLASH, 1, 32 + 5),
        (MINIMAX, Attention.FLASH, 4, 4 * 32 + 5),
        (MINIMAX, Attention.PLAIN, 1, 0),
        (replace(MINIMAX, architecture="glm-dsa"), Attention.FLASH, 1, 0),
        (replace(MINIMAX, architecture="unheard of"), Attention.FLASH, 1, 0),
    ],
)
def test_how_far_a_buffer_grows_adds_up(shape, attention, copies, masks):
    found = _pool._grown_bytes(shape, LAYOUT, attention, list(shape.layers), copies)
    assert found == 4 * 200 * 60 * masks


def test_without_layers_there_is_no_pool():
    settings = LoadSettings(4096, 1)
    ways = {"backend": settings.backend, "engine": settings.engine}
    assert _pool.pool_bytes(LLAMA, LAYOUT, Attention.FLASH, range(0), **ways) == 0
    assert _pool.pool_bytes(LLAMA, LAYOUT, Attention.FLASH, range(1), **ways) > 0
