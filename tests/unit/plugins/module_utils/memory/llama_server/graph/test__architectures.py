# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Architectures without rows in the measured tables, against what llama.cpp reserves for one model of each."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    Refused,
    estimate,
    host_estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    build,
    layers_of_kinds,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import engine_rules
from ansible_collections.gpufleet.ollama.tests.unit.data import STEMS
from ansible_collections.gpufleet.ollama.tests.unit.data import shape as stored_shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    FAILED,
    MIB,
    SETTINGS,
    architectures,
    settings_of,
    shape_of,
    what_ggml_would_refuse,
    within,
)

GIB = 1 << 30
# rwkv7 has a graph of its own.
UNKNOWN = ("rwkv7",)


@pytest.mark.parametrize(("name", "model"), architectures().items(), ids=list(architectures()))
def test_further_architectures(name: str, model: dict[str, Any]) -> None:
    shape = shape_of(name, model)
    for row in model["rows"]:
        settings = settings_of(model, row)
        if row[SETTINGS] in FAILED:
            with pytest.raises(Refused):
                estimate(shape, settings)
            continue
        weights_mib, cache_mib, compute_mib = row[SETTINGS:]
        found = estimate(shape, settings)
        (gpu,) = found.gpus
        assert within(gpu.weights_bytes, weights_mib, 0.0001), row
        assert within(gpu.kv_cache.total_bytes, cache_mib, 0.001), row
        if shape.architecture in UNKNOWN:
            assert found.basis == "estimate"
            assert shape.architecture in found.note
            assert gpu.compute_bytes > compute_mib * MIB, row
        else:
            assert found.basis == "exact"
            assert within(gpu.compute_bytes, compute_mib, 0.0001), row


@pytest.mark.parametrize(("name", "model"), architectures().items(), ids=list(architectures()))
def test_each_is_estimated_on_the_cpu_and_on_two_gpus_too(name: str, model: dict[str, Any]) -> None:
    shape, settings = shape_of(name, model), LoadSettings(2048, 1)
    (alone,) = estimate(shape, settings).gpus
    on_cpu = host_estimate(shape, settings).host
    assert on_cpu.compute_bytes > 0
    assert on_cpu.kv_cache.total_bytes <= 1.02 * alone.kv_cache.total_bytes
    both = split(shape, settings, [24 * GIB, 12 * GIB])
    assert [device.layers for device in both] == sorted((device.layers for device in both), reverse=True)
    assert sum(device.weights_bytes for device in both) == pytest.approx(alone.weights_bytes, rel=0.001)
    assert sum(device.kv_cache.total_bytes for device in both) == alone.kv_cache.total_bytes


# MiB of the buffers of two GPUs of 24 GiB, as the engine of b10361 and v0.5.0 alike: weights, cache, compute buffer.
LOOPED = [
    ((4096, 1, 512, "f16", "auto"), [(1289.8198, 184.0, 1372.5786), (332.749, 168.0, 1449.1094)]),
    ((4096, 3, 1024, "q8_0", "auto"), [(1289.8198, 293.25, 2750.8711), (332.749, 267.75, 2938.04)]),
    ((32768, 8, 2048, "f16", "off"), [(1289.8198, 11776.0, 11376.4067), (332.749, 10752.0, 11908.6875)]),
]


@pytest.mark.parametrize(("row", "devices"), LOOPED)
def test_layers_that_run_again_lie_elsewhere_with_their_cache_and_send_it_all_to_and_fro(
    row: tuple[Any, ...], devices: list[tuple[float, float, float]]
) -> None:
    shape = shape_of("nanbeige-looped:3b", architectures()["nanbeige-looped:3b"])
    assert (shape.block_count, shape.runs) == (44, 2)
    for found, (weights_mib, cache_mib, compute_mib) in zip(split(shape, LoadSettings(*row), [24 * GIB] * 2), devices):
        assert within(found.weights_bytes, weights_mib, 0.0001)
        assert within(found.kv_cache.total_bytes, cache_mib, 0.0001)
        assert within(found.compute_bytes, compute_mib, 0.0001)


# Their per-layer inputs are read piece by piece; the biases of their experts by the numbers of these.
SHOW_PIECES, READ_INDICES = ("gemma3n", "gemma4"), ("gpt-oss",)
MODELS = [*STEMS, *architectures()]


@pytest.mark.parametrize("name", MODELS)
def test_every_view_and_every_operand_is_one_that_ggml_takes(name: str) -> None:
    shape = shape_of(name, architectures()[name]) if name in architectures() else stored_shape(name)
    if shape.architecture in UNKNOWN:
        return
    kinds = {"shows_pieces": shape.architecture in SHOW_PIECES, "reads_indices": shape.architecture in READ_INDICES}
    # What the host makes of latent heads is counted as it lies there, and not decompressed.
    ways = [one for one in Attention if not (shape.is_latent_attention and one is Attention.FLASH_ON_HOST)]
    for attention, cache_type, slots, build_name in product(ways, ("f16", "q8_0"), (1, 3), ("b10488", "v0.5.0")):
        engine = engine_rules(parse_build(build_name))
        # 66 tokens are 22 for each of three slots, as long as nothing else.
        layout, layers = cells(shape, 1024, slots, 66), layers_of_kinds(shape, times=1)
        graph = build(shape, layout, attention, cache_type=cache_type, layers=layers, engine=engine).graph
        assert what_ggml_would_refuse(graph, **kinds) == []
