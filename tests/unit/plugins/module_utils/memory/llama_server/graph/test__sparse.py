# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers with an indexer, against compute buffers that the engine reserved for models that have one."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    Knowledge,
    build,
    knowledge,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, bench
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    what_ggml_would_refuse,
)

MIB = 1 << 20


@lru_cache(maxsize=None)
def shapes():
    return bench("accuracy").read_shapes(DATA / "newer" / "headers")


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("glm-5:744b", "b10488"),
        ("glm-5:744b", "b11434"),
        ("deepseek-v3.2:671b", "v0.5.0"),
        ("minimax-m3:427b", "b10488"),
        ("minimax-m3:427b", "b10970"),
    ],
)
def test_the_buffer_is_the_measured_one(name, build):
    program = bench("accuracy")
    rows = [
        row
        for row in program.read_rows(DATA / "newer" / f"engine_memory-{build}.csv")
        if row["model"] == name and row["ctx"] == "4096"
    ]
    assert len(rows) == 12
    for row in rows:
        shape = shapes()[program.key(name)]
        found = estimate(shape, program.settings_of(row, parse_build(build))).gpus[0].compute_bytes
        assert abs(found / MIB - float(row["compute_mib"])) < 0.01, row


@pytest.mark.parametrize("name", ["glm_5_744b", "deepseek_v3.2_671b", "minimax_m3_427b"])
@pytest.mark.parametrize("slots", [1, 3])
def test_every_view_and_every_operand_is_one_that_ggml_takes(name, slots):
    shape = shapes()[name]
    graph = build(shape, cells(shape, 1024, slots, 66), Attention.FLASH, cache_type="f16", layers=used_layers(shape)[:5]).graph
    # Blocks are chosen for one slot after the other.
    assert what_ggml_would_refuse(graph, shows_pieces=shape.architecture == "minimax-m3") == []


def test_a_graph_whose_first_layer_has_nothing_chosen_is_not_known():
    shape = shapes()["glm_5_744b"]
    assert knowledge(shape) is Knowledge.KNOWN
    without = tuple(
        (name, lengths) for name, lengths in shape.forms[shape.layers[0].form] if not name.startswith("indexer.")
    )
    first = replace(shape.layers[0], form=len(shape.forms))
    changed = replace(shape, name="changed", forms=(*shape.forms, without), layers=(first, *shape.layers[1:]))
    assert knowledge(changed) is Knowledge.NONE
