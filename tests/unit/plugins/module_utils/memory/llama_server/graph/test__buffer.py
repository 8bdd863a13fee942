# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The allocator, and what stretches of a graph do to memory."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    Arena,
    Irregular,
    aligned,
    buffer_bytes,
    inputs_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    Graph,
    Tensor,
)
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 30)), max_size=40))
def test_no_two_pieces_share_memory_and_holes_are_all_that_lies_between(requests):
    arena, live, peak, number = Arena(), {}, 0, 0
    offsets = [0] * len(requests)
    for size, chosen in requests:
        # Numbers above those of the pieces that are there take a new one.
        if chosen < len(live):
            gone = sorted(live)[chosen]
            arena.run([(live.pop(gone), gone, False)], range(6), offsets)
        else:
            arena.run([(size, number, True)], range(6), offsets)
            live[number] = size
            number += 1
        taken = sorted((offsets[one], offsets[one] + bytes_) for one, bytes_ in live.items())
        ends = [0, *(end for _start, end in taken)]
        gaps = [(end, start - end) for end, (start, _end) in zip(ends, taken)]
        assert all(room >= 0 for _offset, room in gaps)
        assert arena.holes == [gap for gap in gaps if gap[1]]
        assert arena.end == ends[-1]
        peak = max(peak, arena.end)
        assert arena.peak_bytes == peak


@pytest.mark.parametrize(("sizes", "wanted", "place"), [((2, 3, 3), 3, 7), ((3, 2, 3), 3, 7), ((3, 2, 2), 2, 7)])
def test_of_holes_alike_the_last_is_taken(sizes, wanted, place):
    """ggml-alloc.c, ggml_dyn_tallocr_alloc: `if (block->size >= size && block->size <= best_fit_size)` (b10488)."""
    arena, offsets = Arena(), [0] * 7
    pieces = [part for number, size in enumerate(sizes) for part in ((size, 2 * number, True), (1, 2 * number + 1, True))]
    freed = [(size, 2 * number, False) for number, size in enumerate(sizes)]
    arena.run([*pieces, *freed, (wanted, 6, True)], range(6), offsets)
    assert offsets[6] == place


@pytest.mark.parametrize(
    ("size", "padding", "taken"), [(32, 0, 128), (33, 0, 256), (31, 4, 128), (31, 5, 256), (0, 0, 0), (0, 1, 128)]
)
def test_a_tensor_takes_a_multiple_of_what_sizes_are_aligned_to(size, padding, taken):
    assert aligned(ALIGNMENT)(Tensor((size,), padding_bytes=padding)) == taken


@pytest.mark.parametrize(("copies", "numbers"), [(1, [1, 0, 2]), (4, [0, 2, 1])])
def test_what_is_kept_several_times_has_its_room_before_anything_else(copies, numbers):
    """A GPU's own leafs come first where inputs are kept once, else after them."""
    leafs = [Tensor((1,), is_input=True, is_scratch=number == 1) for number in range(3)]
    graph = Graph()
    graph.expand(Tensor((1,), tuple(leafs)))
    assert [leafs.index(one) for one in inputs_of(graph, copies)] == numbers


def test_a_leaf_of_the_gpus_own_is_given_up_when_it_was_read():
    for is_scratch, size in ((False, 4 * 128 + 256 + 128), (True, 128 + 256)):
        graph = Graph()
        leaf = Tensor((32,), is_input=True, is_scratch=is_scratch)
        graph.expand(floats(32, floats(64, leaf)))
        # Four copies that stay; or one whose room the last result takes.
        assert buffer_bytes(graph, alignment=ALIGNMENT, input_copies=4) == size


@pytest.mark.parametrize(
    ("source", "result", "is_over"),
    [
        ({}, {}, True),
        ({"shape": (16, 2)}, {}, False),
        ({"element_bytes": 2}, {}, False),
        ({"is_plain": False}, {}, False),
        ({}, {"reuses": False}, False),
        ({"is_input": True}, {}, True),
    ],
)
def test_what_stands_in_the_way_of_writing_over_a_source(source, result, is_over):
    graph = Graph()
    first = Tensor(**{"shape": (32,), **source})
    graph.expand(Tensor((32,), (first,), **{"reuses": True, **result}))
    apart = 128 + aligned(ALIGNMENT)(first)
    assert buffer_bytes(graph, alignment=ALIGNMENT) == (128 if is_over else apart)


def test_a_source_that_is_still_shown_is_not_written_over():
    graph = Graph()
    first = floats(32)
    shown = Tensor((32,), (first,), root=first)
    over = floats(32, first, reuses=True)
    graph.expand(floats(32, over, shown))
    assert buffer_bytes(graph, alignment=ALIGNMENT) == 3 * 128


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
