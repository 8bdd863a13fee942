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


@pytest.mark.parametrize(("count", "chunks"), [(1, [1]), (10, [10]), (11, [10, 1]), (20, [10, 10])])
def test_what_is_held_is_read_by_operations_that_the_engine_does_not_count(count, chunks):
    """ggml.h, GGML_MAX_SRC: an operation reads ten tensors at most."""
    graph = Graph()
    held = [graph.expand(Tensor((1,))) for _unused in range(count)]
    graph.keep_until_here(*held)
    readers = graph.nodes[count:]
    assert [len(one.sources) for one in readers] == chunks
    assert [source for one in readers for source in one.sources] == held
    assert {(one.root, one.data_bytes) for one in readers} == {(OUTSIDE, 0)}
    assert graph.node_count == count


def test_what_is_held_past_the_next_operation_is_given_up_right_after_it():
    graph = Graph()
    held = graph.expand(Tensor((1,)))
    graph.keep_past_next(held)
    following, last = (graph.expand(Tensor((1,))) for _unused in range(2))
    reader = graph.nodes[2]
    assert reader.sources == (held,)
    assert graph.nodes == [held, following, reader, last]


def test_of_a_tensor_nothing_is_taken_for_granted():
    plain = Tensor((1,))
    flags = ("reuses", "is_input", "writes", "is_scratch", "visited", "padding_bytes", "children", "views")
    assert not any(getattr(plain, flag) for flag in flags)
    assert (plain.is_plain, plain.root, plain.device, plain.sources) == (True, None, None, ())
    assert Tensor((1,), root=plain, writes=True).is_view is False
