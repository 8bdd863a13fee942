# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The allocator, and what stretches of a graph do to memory."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    Arena,
    Irregular,
    buffer_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    Graph,
    Tensor,
)

ALIGNMENT = 128


def floats(count, *sources, **options):
    return Tensor((count,), sources, **options)


def test_the_smallest_hole_that_is_large_enough_is_taken():
    arena, offsets = Arena(), [0] * 5
    taken = [(1, 0, True), (0, 1, True), (2, 2, True), (0, 3, True)]
    arena.run([*taken, (1, 0, False), (2, 2, False), (0, 4, True)], (128, 512, 256), offsets)
    assert offsets == [0, 512, 640, 896, 640]
    assert arena.holes == [(0, 512), (768, 128)]


def test_neighbouring_holes_become_one_and_the_last_one_shortens_what_is_in_use():
    arena, offsets = Arena(), [0] * 4
    arena.run([(0, number, True) for number in range(4)], (128,), offsets)
    arena.run([(0, number, False) for number in (0, 2, 1)], (128,), offsets)
    assert arena.holes == [(0, 384)]
    arena.run([(0, 3, False)], (128,), offsets)
    assert (arena.holes, arena.end, arena.peak_bytes) == ([], 0, 512)


def test_inputs_lie_there_before_anything_runs_and_each_is_given_up_after_its_last_use():
    graph = Graph()
    early, late = (Tensor((32,), is_input=True) for _unused in range(2))
    first = floats(64, early)
    graph.expand(floats(32, floats(32, first), late))
    # Two inputs and `first`; then what `early` leaves is filled again.
    assert buffer_bytes(graph, alignment=ALIGNMENT) == 128 + 128 + 256


def test_with_several_requests_in_flight_every_input_is_kept_as_often():
    graph = Graph()
    graph.expand(floats(32, Tensor((32,), is_input=True)))
    assert buffer_bytes(graph, alignment=ALIGNMENT, input_copies=4) == 4 * 128 + 128


def test_an_operation_writes_over_a_source_that_nobody_else_needs():
    graph = Graph()
    first = floats(32)
    graph.expand(floats(32, first, reuses=True))
    assert buffer_bytes(graph, alignment=ALIGNMENT) == 128
    graph.expand(floats(32, first))
    # Now another operation reads `first` too: each of the three has memory of its own.
    assert buffer_bytes(graph, alignment=ALIGNMENT) == 3 * 128


def layered(widths):
    """A graph with a layer of each width, each reading what the one before it made."""
    graph, current = Graph(), floats(32)
    for width in widths:
        current = graph.expand(floats(32, floats(width, current)))
        graph.ends.append(len(graph.nodes))
    return graph


def test_a_stretch_may_stand_for_later_ones_that_are_alike():
    whole, short = layered([64, 96, 64, 96, 64]), layered([64, 96, 64])
    short.order = (0, 1, 2, 1, 2, 3)
    assert buffer_bytes(short, alignment=ALIGNMENT) == buffer_bytes(whole, alignment=ALIGNMENT)


def test_a_stretch_cannot_follow_one_that_leaves_other_memory():
    graph = layered([64, 96])
    graph.order = (1, 0)
    with pytest.raises(Irregular):
        buffer_bytes(graph, alignment=ALIGNMENT)
