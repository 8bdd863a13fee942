# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buffers by the layers that differ, against those of graphs that have every layer."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._cells import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    build,
    layers_on,
    pattern_of,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    buffer_bytes,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import STEMS

LAYOUTS = ((4096, 1, 512), (32768, 3, 1024), (8192, 4, 2048))
CACHES = ((Attention.FLASH, "f16"), (Attention.FLASH, "q8_0"), (Attention.PLAIN, "f16"))


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize(("attention", "cache_type"), CACHES)
def test_layers_that_are_alike_need_to_be_built_once(installed, name, attention, cache_type):
    shape = installed(name)
    count = shape.block_count
    # Alone, and the first, a middle and the last of several GPUs.
    for units in (
        range(count + 1),
        range(count // 3),
        range(count // 3, 2 * count // 3),
        range(1, count + 1),
    ):
        for copies, layout in enumerate(LAYOUTS, start=1):
            graphs = [
                build(
                    shape,
                    cells(shape, *layout),
                    attention,
                    cache_type=cache_type,
                    units=units,
                    layers=layers,
                ).graph
                for layers in (None, layers_on(shape, units))
            ]
            short, whole = (buffer_bytes(one, alignment=128, input_copies=copies) for one in graphs)
            assert short == whole
            assert len(graphs[0].nodes) <= len(graphs[1].nodes)


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("llama3.1_8b", [0, 1, 2, 31]),
        # Three recurrent layers and one with attention by turns; the last of each kind gives up what only they read.
        ("qwen3.5_9b", [0, 1, 2, 3, 4, 30, 31]),
    ],
)
def test_layers_that_are_built(installed, name, built):
    shape = installed(name)
    pattern = pattern_of(shape, used_layers(shape))
    assert pattern.built == built
    assert len(pattern.order) == shape.block_count
