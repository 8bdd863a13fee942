# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph by the sizes of its tensors."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    OUTSIDE,
    Graph,
    Tensor,
)


@pytest.mark.parametrize(
    ("shape", "element_bytes", "full", "size"),
    [
        ((3,), 4, (3, 1, 1, 1), 12),
        ((3, 5), 2, (3, 5, 1, 1), 30),
        ((2, 3, 5, 7), 8, (2, 3, 5, 7), 1680),
        ((0,), 4, (0, 1, 1, 1), 0),
    ],
)
def test_a_tensor_has_four_lengths_and_the_bytes_of_all_its_elements(shape, element_bytes, full, size):
    tensor = Tensor(shape, element_bytes=element_bytes)
    assert (tensor.shape, tensor.data_bytes) == (full, size)
    assert Tensor((1,)).element_bytes == 4


def test_what_shows_another_tensors_memory_is_a_view_and_what_writes_elsewhere_is_none():
    root = Tensor((4,))
    assert Tensor((2,), root=root).is_view
    assert not root.is_view
    assert not Tensor((2,), root=OUTSIDE).is_view


def test_operands_come_before_what_reads_them_and_each_once():
    graph = Graph()
    source = Tensor((1,), is_input=True)
    left, right = Tensor((2,), (source,)), Tensor((3,), (source,))
    result = Tensor((4,), (left, right))
    assert graph.expand(result) is result
    assert graph.nodes == [left, right, result]
    # What operations read but none makes is counted once too.
    assert graph.leafs == 1
    graph.expand(Tensor((5,), (result, source)))
    assert [node.shape[0] for node in graph.nodes] == [2, 3, 4, 5]
    assert (graph.leafs, graph.node_count) == (1, 4)


def test_operations_on_memory_elsewhere_count_as_operations():
    graph = Graph()
    graph.expand(Tensor((1,)))
    graph.outside_nodes += 7
    assert graph.node_count == 8
