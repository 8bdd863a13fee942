# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DeepSeek V4 against what the engine takes for it on a simulated machine: older builds, and several GPUs.

One GPU of a newer build is in tests/data/architectures.json, beside the header.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    Knowledge,
    knowledge,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    architectures,
    shape_of,
    within,
)

GIB = 1 << 30
NAME = "deepseek-v4-flash:284b"
# MiB of the compute buffer. b10488's sources of it are those of b10361, which was measured.
OLDER = [
    ((4096, 1, 512, "f16", "auto"), 253.5907),
    ((4096, 3, 1024, "q8_0", "auto"), 615.0505),
    ((4096, 3, 1024, "f16", "off"), 951.9764),
]
# MiB on each of two GPUs of 24 GiB: cache, compute buffer.
TWO_GPUS = [
    ("b10488", (4096, 1, 512, "f16", "auto"), [(37.2813, 283.3623), (37.8593, 507.855)]),
    ("b10488", (32768, 3, 1024, "q8_0", "auto"), [(224.5362, 847.8076), (238.7163, 1297.6689)]),
    ("v0.5.0", (4096, 1, 512, "q8_0", "auto"), [(22.5206, 294.1562), (22.8647, 487.6099)]),
    ("v0.5.0", (4096, 3, 1024, "f16", "off"), [(144.8438, 1110.7297), (145.0781, 1561.5146)]),
]


def model() -> ModelShape:
    return shape_of(NAME, architectures()[NAME])


@pytest.mark.parametrize(("row", "compute_mib"), OLDER)
def test_builds_that_turn_a_piece_of_a_row_by_itself(row: tuple[Any, ...], compute_mib: float) -> None:
    (gpu,) = estimate(model(), LoadSettings(*row, parse_build("b10488"))).gpus
    assert within(gpu.compute_bytes, compute_mib, 0)


@pytest.mark.parametrize(("build", "row", "devices"), TWO_GPUS)
def test_several_gpus(build: str, row: tuple[Any, ...], devices: list[tuple[float, float]]) -> None:
    found = split(model(), LoadSettings(*row, parse_build(build)), [24 * GIB] * 2)
    for gpu, (cache_mib, compute_mib) in zip(found, devices):
        assert within(gpu.kv_cache.total_bytes, cache_mib, 0)
        assert within(gpu.compute_bytes, compute_mib, 0)


@pytest.mark.parametrize("count", [0, 1, 17])
def test_a_number_of_streams_that_cannot_be_is_not_known(count: int) -> None:
    shape = replace(model(), name=f"{count} streams")
    numbers = {**shape.numbers, "hyper_connection.count": count}
    assert knowledge(replace(shape, numbers=numbers)) is Knowledge.NONE
