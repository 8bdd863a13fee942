# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The graph of a vision tower."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._tower import (
    REPRESENTATIVE_LAYERS,
    tower_graph,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tower import Tower
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    what_ggml_would_refuse,
)

PATCHES, WIDTH, HIDDEN, HEADS, PATCH = 100, 128, 512, 2, 14
TOWER = Tower(
    kind="gemma3",
    embedding_length=WIDTH,
    feed_forward_length=HIDDEN,
    head_count=HEADS,
    patch_length=PATCH,
    patches_reserved=PATCHES,
    patches_most=PATCHES,
    is_gated=False,
    has_windows=False,
)


def sizes(**changes: object) -> Counter[tuple[tuple[int, ...], int]]:
    """How often the graph has a result in memory of its own with this shape and these bytes an element."""
    graph = tower_graph(replace(TOWER, **changes), PATCHES)
    return Counter((node.shape, node.element_bytes) for node in graph.nodes if not node.is_view and not node.reuses)


def test_a_head_that_a_kernel_exists_for_has_no_scores_but_halves_of_keys_and_values():
    found = sizes()
    scores = ((PATCHES, PATCHES, HEADS, 1), 4)
    # Heads of 64: keys and values of each layer are copied to half precision (clip.cpp, build_attn).
    assert found[(WIDTH // HEADS, PATCHES, HEADS, 1), 2] == 2 * REPRESENTATIVE_LAYERS
    assert found[scores] == 0
    odd = sizes(head_count=4)
    assert odd[(PATCHES, PATCHES, 4, 1), 4] == REPRESENTATIVE_LAYERS


@pytest.mark.parametrize(("is_gated", "count"), [(False, 1), (True, 3)])
def test_a_network_is_a_product_and_with_a_gate_two_and_the_one_by_the_other(is_gated, count):
    assert sizes(is_gated=is_gated)[(HIDDEN, PATCHES, 1, 1), 4] == count * REPRESENTATIVE_LAYERS


@pytest.mark.parametrize(("has_windows", "count"), [(False, 0), (True, 1)])
def test_windows_need_a_mask_in_half_precision(has_windows, count):
    assert sizes(has_windows=has_windows)[(PATCHES, PATCHES, 1, 1), 2] == count


def test_an_image_comes_in_by_patches_of_three_colours():
    assert sizes()[(3 * PATCH * PATCH, PATCHES, 1, 1), 2] == 1


@pytest.mark.parametrize(("has_windows", "count"), [(False, 1), (True, 2)])
def test_its_inputs_are_the_image_and_the_mask_of_windows(has_windows, count):
    assert tower_graph(replace(TOWER, has_windows=has_windows), PATCHES).leafs == count


@pytest.mark.parametrize("changes", [{}, {"head_count": 4}, {"is_gated": True}, {"has_windows": True}])
def test_every_view_and_every_operand_is_one_that_ggml_takes(changes):
    assert what_ggml_would_refuse(tower_graph(replace(TOWER, **changes), PATCHES)) == []


def test_queries_keys_and_values_are_there_before_any_of_them_is_turned():
    """llama.cpp tools/mtmd/clip.cpp, build_attn: the three enter the graph one after the other (b10488)."""
    nodes = tower_graph(replace(TOWER, head_count=8), PATCHES).nodes
    by_head = [place for place, node in enumerate(nodes) if node.is_view and node.shape == (16, 8, PATCHES, 1)]
    turned = [place for place, node in enumerate(nodes) if node.is_view and node.shape == (16, PATCHES, 8, 1)]
    assert by_head[2] < turned[0] < by_head[3]


def operands(**changes: object) -> set[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """Lengths of each operation's result and of what it reads."""
    graph = tower_graph(replace(TOWER, **changes), PATCHES)
    return {
        (node.shape, tuple(one.shape for one in node.sources)) for node in graph.nodes if not node.is_view
    }


LENGTH = WIDTH // HEADS


def test_attention_reads_queries_keys_and_values_by_head_and_then_by_patch():
    """llama.cpp tools/mtmd/clip.cpp, build_attn: permute(0, 2, 1, 3), or of values (1, 2, 0, 3) for a product (b10488)."""
    by_patch, by_head = (LENGTH, HEADS, PATCHES, 1), (LENGTH, PATCHES, HEADS, 1)
    assert (by_head, (by_head,)) in operands()
    assert (by_patch, (by_head, by_head, by_head)) in operands()
    mask = (PATCHES, PATCHES, 1, 1)
    assert (by_patch, (by_head, by_head, by_head, mask)) in operands(has_windows=True)
    # Heads of 32 have no kernel: scores of all pairs, in which the values are weighted.
    scores, by_head = (PATCHES, PATCHES, 4, 1), (32, PATCHES, 4, 1)
    found = operands(head_count=4)
    assert (scores, (by_head, by_head)) in found
    assert (scores, (scores,)) in found
    assert (by_head, ((PATCHES, 32, 4, 1), scores)) in found
    assert ((WIDTH, PATCHES, 1, 1), ((32, 4, PATCHES, 1),)) in found
    assert (scores, (scores, mask)) in operands(head_count=4, has_windows=True)


def test_patches_are_convolved_column_by_column_and_turned():
    found = operands()
    columns = (3 * PATCH * PATCH, PATCHES, 1, 1)
    assert (columns, ((PATCHES * PATCH * PATCH, 3, 1, 1),)) in found
    assert ((PATCHES, WIDTH, 1, 1), (columns,)) in found
    assert ((PATCHES, WIDTH, 1, 1), ((PATCHES, WIDTH, 1, 1),)) in found
    assert ((WIDTH, PATCHES, 1, 1), ((WIDTH, PATCHES, 1, 1),)) in found


def test_three_layers_stand_for_all_of_a_kind():
    assert REPRESENTATIVE_LAYERS == 3
    # Of each of them attention's heads in one and a norm before and after; and a norm at the end.
    norms = [node for node in tower_graph(TOWER, PATCHES).nodes if node.shape == (WIDTH, PATCHES, 1, 1) and not node.reuses]
    graph_norms = [node for node in norms if not node.is_view and len(node.sources) == 1 and node.sources[0].shape == node.shape]
    assert len(graph_norms) >= 2 * 3 + 1
