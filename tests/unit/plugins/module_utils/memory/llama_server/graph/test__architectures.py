# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Architectures without rows in the measured tables, against what llama.cpp reserves for one model of each."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    Refused,
    estimate,
    host_estimate,
    split,
)
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    FAILED,
    MIB,
    SETTINGS,
    architectures,
    shape_of,
    within,
)

GIB = 1 << 30
UNKNOWN = ("grok", "rwkv7")


@pytest.mark.parametrize(("name", "model"), architectures().items(), ids=list(architectures()))
def test_further_architectures(name: str, model: dict[str, Any]) -> None:
    shape = shape_of(name, model)
    for row in model["rows"]:
        settings = LoadSettings(*row[:SETTINGS])
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
