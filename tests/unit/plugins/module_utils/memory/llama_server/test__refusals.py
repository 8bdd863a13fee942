# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size of a graph by a few of its layers, against the graph of all of them."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._cells import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    Knowledge,
    build,
    knowledge,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._refusals import graph_size
from ansible_collections.gpufleet.ollama.tests.unit.data import STEMS


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("attention", list(Attention))
def test_a_graph_has_as_many_operations_as_all_layers_add(installed, name, attention):
    shape = installed(name)
    assert knowledge(shape) is Knowledge.KNOWN
    for slots, cache_type in ((1, "f16"), (2, "f16"), (1, "q8_0"), (2, "q8_0")):
        whole = build(
            shape,
            cells(shape, 256, slots, 256),
            attention,
            cache_type=cache_type,
            layers=used_layers(shape),
        ).graph
        counted = graph_size(shape, attention, cache_type != "f16", slots > 1)
        assert counted == (whole.node_count, whole.node_count + whole.leafs)
